"""A posterior knows the simulations that made it, whatever seeds an import gave them."""

import numpy as np
import pytest
import torch

import sbitools
from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors
from sbitools.calibration.drawing.stores import check_unseen, seen
from sbitools.errors import StoreError
from sbitools.repairs.measure import held_out_log_prob
from sbitools.store.marks import in_sketches, marks, sketch

SPACE = ParameterSpace([
    Parameter("a", priors.Uniform(-1, 1)), Parameter("b", priors.Normal(0, 1)),
])  # fmt: skip
SPEC = FieldSpec("x", ("i",), (3,))
N = 400


def arrays(n=N, seed=0):
    theta = SPACE.design(n, seed).numpy()
    noise = np.random.default_rng(seed).normal(size=(n, 3))
    return theta, (theta[:, :1] + 0.1 * noise).astype(np.float32)


def imported(path, theta, x, **options):
    return SimulationStore.from_arrays(path, theta, x, SPACE, SPEC, **options)


class Trained:
    """What a posterior says of its training."""

    def __init__(self, store, rows=None):
        rows = np.arange(len(store)) if rows is None else rows
        self.info = {"started_from": {"simulations": sketch(store, rows)}}
        self.training_seeds = store.seeds[torch.from_numpy(rows)]


FORMS = {
    "the first half": lambda t, x: (t[: N // 2], x[: N // 2]),
    "another order": lambda t, x: (t[::-1], x[::-1]),
    "theta from text": lambda t, x: (np.char.mod("%.12g", t).astype(float), x),
    "theta in float32": lambda t, x: (t.astype(np.float32), x),
    "seven of them": lambda t, x: (t[5:12], x[5:12]),
}


@pytest.mark.parametrize("form", FORMS)
def test_training_simulations_are_known_under_other_seeds(tmp_path, form):
    theta, x = arrays()
    posterior = Trained(imported(tmp_path / "train", theta, x, seeds=np.arange(N) + 7))
    theta, x = FORMS[form](theta, x)
    for name, seeds in (("made up", None), ("others", np.arange(len(x)) + 10_000)):
        store = imported(tmp_path / name, theta, x, seeds=seeds)
        assert seen(posterior, store, store.done).all(), name
        with pytest.raises(StoreError, match=f"{len(x)} of {len(x)} that have the seeds, or"):
            check_unseen(posterior, store, "of another store")


def test_other_simulations_are_not(tmp_path):
    theta, x = arrays()
    posterior = Trained(imported(tmp_path / "train", theta, x))
    others = {"others": arrays(seed=1), "other x": (theta, arrays(seed=1)[1]),
              "other theta": (arrays(seed=1)[0], x)}  # fmt: skip
    for name, pair in others.items():
        store = imported(tmp_path / name, *pair, seeds=np.arange(N) + 10_000)
        assert not seen(posterior, store, store.done).any(), name
    half = imported(tmp_path / "half", np.r_[theta[:3], others["others"][0]],
                    np.r_[x[:3], others["others"][1]])  # fmt: skip
    assert seen(posterior, half, half.done).tolist() == [True] * 3 + [False] * N
    posterior.info = {"started_from": {}}  # of an earlier version
    assert not seen(posterior, half, half.done).any()


def test_equal_categories_and_counts_are_no_sign(tmp_path):
    space = ParameterSpace([Parameter("k", priors.Categorical((0.5, 0.5)), categories=("u", "v"))])
    theta = space.design(50, 0).numpy()
    store = SimulationStore.from_arrays(
        tmp_path / "s", theta, theta.astype(np.int64), space,
        FieldSpec("n", ("i",), (1,), dtype="int64"),
    )  # fmt: skip
    assert marks(store, store.done).shape == (0,)
    assert sketch(store, store.done) == {}


def test_a_sketch_is_small_and_finds_a_part_of_many(tmp_path, monkeypatch):
    monkeypatch.setattr("sbitools.store.marks._KEPT", 64)
    theta, x = arrays(4000)
    store = imported(tmp_path / "train", theta, x)
    text = sketch(store, store.done)
    assert len(text["marks"]) == 4 * -(-64 * 8 // 3)
    part = imported(tmp_path / "part", theta[1000:2000], x[1000:2000])
    found = in_sketches(part, part.done, text).sum()
    assert 4 <= found <= 40  # 16 expected, of a hypergeometric number
    assert not in_sketches(imported(tmp_path / "o", *arrays(4000, 1)), np.arange(4000), text).any()


def test_posteriors_keep_what_they_were_trained_on(tmp_path):
    theta, x = arrays()
    store = imported(tmp_path / "train", theta, x, seeds=np.arange(N) + 7)
    posterior = sbitools.train(store, run_dir=tmp_path / "run", epochs=1, emulate=False)
    posterior.save(tmp_path / "posterior")
    posterior = sbitools.Posterior.load(tmp_path / "posterior")
    copied = imported(tmp_path / "copied", theta[::2], x[::2])
    with pytest.raises(StoreError, match="200 of 200"):
        sbitools.calibrate(posterior, copied, n_draws=5, progress=False)
    with pytest.raises(StoreError, match="200 of which it was trained on"):
        held_out_log_prob(posterior, copied)
    with pytest.raises(StoreError, match="200 trained it"):
        sbitools.repair(posterior, copied)
    fresh = imported(tmp_path / "fresh", *arrays(60, 1))
    repaired = sbitools.repair(posterior, fresh, "recalibrate", n_draws=50, folds=2)
    again = imported(tmp_path / "again", *(v[::-1] for v in arrays(60, 1)), seeds=np.arange(60))
    assert seen(repaired, again, again.done).all()
    assert seen(repaired, copied, copied.done).all()
