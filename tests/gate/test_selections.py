"""Every way to name the same simulations selects the same ones, wherever simulations are named."""

import itertools
from importlib import import_module

import numpy as np
import pytest
import torch

import sbitools
from sbitools.calibration.checks.misspecification import describe
from sbitools.calibration.drawing.observed_tests import look
from sbitools.calibration.sampling import draw
from sbitools.errors import SbitoolsError
from sbitools.inference.truncation import JoinedStores
from sbitools.repairs.measure import held_out_log_prob
from sbitools.training import StreamingLoader, split

from .conftest import QUICK, N

CHOSEN = np.arange(N) % 3 != 1
ROWS = np.flatnonzero(CHOSEN)

SAME = {
    "array": ROWS, "list": ROWS.tolist(), "tuple": tuple(ROWS.tolist()),
    "int32": ROWS.astype("i4"), "tensor": torch.from_numpy(ROWS), "mask": CHOSEN,
    "list of truth values": CHOSEN.tolist(), "tensor mask": torch.from_numpy(CHOSEN),
}  # fmt: skip
WRONG = {
    "short mask": CHOSEN[:-1], "fractions": ROWS + 0.5, "whole floats": ROWS.astype(float),
    "text": ["1", "2"], "negative": [-1, 3], "beyond": [0, N], "two axes": [[0, 1]],
    "a number": 3, "an object": object(), "a name": "all", "infinity": [np.inf],
}  # fmt: skip


@pytest.fixture
def entries(store, tests_store, posterior, tmp_path, monkeypatch):
    """What each entry point made of a selection, as plain numbers."""

    runs = itertools.count()

    def train(rows):
        info = sbitools.train(store, run_dir=tmp_path / f"r{next(runs)}", indices=rows, **QUICK)
        return info.training_seeds.tolist()

    def repair(rows):
        class Asked(Exception):
            pass

        def job(posterior, store, rows, *_):
            raise Asked(rows.tolist())

        monkeypatch.setattr(import_module("sbitools.repairs.repair"), "_Job", job)
        with pytest.raises(Asked) as caught:
            sbitools.repair(posterior, tests_store, "recalibrate", indices=rows)
        return caught.value.args[0]

    def loader(rows):
        batches = list(StreamingLoader(store, rows, 7, 1, shuffle=False).batches(0))
        return torch.cat([theta for theta, _, _ in batches]).tolist()

    joined = JoinedStores([store])
    return {
        "read": lambda rows: store.read(rows).tolist(),
        "joined": lambda rows: joined.read(rows).tolist(),
        "batches": lambda rows: [b[0].tolist() for b in store.batches(rows, 7)],
        "split": lambda rows: [part.tolist() for part in split(store, 0.2, 1, rows)],
        "loader": loader,
        "train": train,
        "draw": lambda rows: draw(posterior, tests_store, 3, indices=rows).theta.tolist(),
        "describe": lambda rows: describe(posterior, tests_store, indices=rows)[1].tolist(),
        "look": lambda rows: look(posterior, tests_store, {}, indices=rows).theta.tolist(),
        "score": lambda rows: held_out_log_prob(posterior, tests_store, rows).tolist(),
        "repair": repair,
    }


NAMES = (
    "read", "joined", "batches", "split", "loader", "train", "draw", "describe", "look", "score",
    "repair",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_all_forms_of_a_selection_agree(entries, name):
    entry, wanted = entries[name], entries[name](ROWS)
    forms = ("mask", "tensor mask") if name == "train" else SAME  # a few are enough
    assert {form: entry(SAME[form]) == wanted for form in forms} == dict.fromkeys(forms, True)


def test_the_right_simulations_are_selected(entries, store, tests_store):
    assert entries["train"](CHOSEN) == store.seeds[ROWS].sort().values.tolist()
    assert entries["draw"](CHOSEN) == tests_store.theta[ROWS].tolist()
    assert entries["repair"](CHOSEN) == ROWS.tolist()
    assert entries["read"](slice(0, None, 4)) == store.read(np.arange(0, N, 4)).tolist()
    assert entries["read"](range(3)) == store.read([0, 1, 2]).tolist()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_selection_is_refused_with_the_fix(entries, name):
    for rows in WRONG.values():
        with pytest.raises(SbitoolsError, match=r"mask of 60 truth values.*fix: "):
            entries[name](rows)
