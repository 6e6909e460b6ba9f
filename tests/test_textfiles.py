"""Tables of parameters as text, as spreadsheets, pandas, numpy and simulation suites write it.

A byte-order mark is what spreadsheets write: a table with one is read, not refused.
"""

import locale

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbitools import (
    FieldSpec,
    FunctionSimulator,
    Parameter,
    ParameterSpace,
    SimulationStore,
    priors,
)
from sbitools.campaign import plan
from sbitools.config import load_config
from sbitools.errors import ParameterError, StoreError
from sbitools.formats.textfiles import read_text
from sbitools.observation.observed import write_draws
from sbitools.store.imports import read_theta

SPACE = ParameterSpace(
    [Parameter("Om", priors.Uniform(0.1, 0.5)), Parameter("s8", priors.Uniform(0.6, 1))]
)
THETA = SPACE.design(4, 1).numpy()
FRAME = pd.DataFrame(THETA[:, ::-1], columns=["s8", "Om"])
DATES = ["2024-01-01 10:00", "LH 1", "LH, 2", 'the "third"']


def rows(divider, frame=FRAME):
    return [divider.join(map(repr, row)) for row in frame.to_numpy().tolist()]


TABLES = {
    "pandas, with index": FRAME.to_csv(),
    "pandas, tabs and index": FRAME.to_csv(sep="\t"),
    "spreadsheet": "\ufeff" + FRAME.to_csv(index=False, lineterminator="\r\n"),
    "spreadsheet that names its divider": "sep=;\r\n" + FRAME.to_csv(sep=";", index=False),
    "old spreadsheet": FRAME.to_csv(index=False, lineterminator="\r"),
    "text and dates": FRAME.assign(run=DATES).to_csv(index=False),
    "text and dates, tabs": FRAME.assign(run=DATES)[["run", "Om", "s8"]].to_csv(
        index=False, sep="\t"
    ),
    "empty first cells": FRAME.assign(note=[np.nan, "x", "", "y"])[["note", "s8", "Om"]].to_csv(
        index=False, sep="\t"
    ),
    "empty cells": FRAME.assign(note=np.nan, more="").to_csv(index=False),
    "lines in a cell": FRAME.assign(note="two\nlines").to_csv(index=False),
    "numpy": "# s8 Om\n" + "\n".join(rows(" ")),
    "numpy, its header in another way": "# s8, Om\n" + "\n".join(rows(" ")),
    "numpy, its rows in another way": "# s8 Om\n" + "\n".join(rows(",")),
    "comments": "# from a suite with Om and more\n\ns8,Om\n" + "\n".join(rows(",")) + "\n# end\n",
    "comments and names as one": "# made in 2024\n# s8 Om\n" + "\n".join(rows("  ")),
    "comment of the same names": "# Om and s8 of all\ns8;Om\n" + "\n".join(rows(";")),
    "blanks": "  s8   Om \n" + "\n".join("   " + row for row in rows("   ")),
    "quoted names": '"s8","Om"\n' + "\n".join(rows(",")),
    "blanks and commas": "s8, Om\n" + "\n".join(rows(", ")),
}


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("suffix", [".csv", ".TXT"])
def test_tables_of_text(tmp_path, kind, suffix):
    file = tmp_path / f"theta{suffix}"
    file.write_bytes(TABLES[kind].encode())
    assert np.allclose(read_theta(file, SPACE), THETA)


BAD = {
    "decimal commas": "s8;Om\n0,7;0,3\n",
    "empty cell": "s8,Om\n0.7,\n",
    "a cell too few": "s8,Om,z\n0.7,0.3\n",
    "a cell too many": "s8,Om\n0.7,0.3,1\n",
    "no names": "\n".join(rows(",")),
    "a text that ends early": "note\ts8\tOm\nLH 1\t0.7\n",
    "text": "s8,Om\n0.7,high\n",
    "not a number": "s8,Om\n0.7,nan\n",
    "name twice": "s8,Om,s8\n0.7,0.3,0.8\n",
    "nothing": "",
    "comments alone": "# s8 and others\n",
}


@pytest.mark.parametrize("kind", BAD)
def test_tables_that_are_refused(tmp_path, kind):
    file = tmp_path / "theta.csv"
    file.write_text(BAD[kind])
    with pytest.raises(ParameterError, match="fix: "):
        read_theta(file, SPACE)


def test_files_that_are_no_text(tmp_path):
    file = tmp_path / "theta.csv"
    for data in ("s8,Om\n".encode("utf-16"), b"s8,Om\n\xff\xfe\n", b"s8,Om\n" + b"0" * 200_000):
        file.write_bytes(data)
        with pytest.raises((StoreError, ParameterError), match="fix: "):
            read_theta(file, SPACE)


cells = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=8)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(cells, min_size=4, max_size=4), st.permutations(["s8", "Om", "note"]),
    st.sampled_from(",;\t"),
)  # fmt: skip
def test_whatever_another_column_holds(tmp_path_factory, notes, order, divider):
    """A column that is not asked for changes nothing, be it empty, quoted or with dividers."""
    file = tmp_path_factory.mktemp("text") / "theta.csv"
    notes = [note.replace("#", "") for note in notes]  # where a line begins it is a comment
    frame = FRAME.assign(note=notes)[list(order)]
    frame.to_csv(file, sep=divider, index=False, encoding="utf-8")
    assert np.allclose(read_theta(file, SPACE), THETA)
    assert len(read_text(file, SPACE.names)[1]) == 4


@pytest.mark.parametrize("names", [("theta",), ("index", "theta"), ("seed",), ("names", "a")])
def test_own_designs_come_back_whatever_parameters_are_called(tmp_path, names):
    space = ParameterSpace([Parameter(name, priors.Uniform(0, 1)) for name in names])
    field = FieldSpec("x", ("i",), (3,))
    planned = plan(FunctionSimulator(lambda t, s: t, space, field), 4, tmp_path / "s", seed=1)
    file = planned.export_design(tmp_path / "design.npz")
    assert np.array_equal(read_theta(file, space), planned.theta)


def test_draws_come_back_and_are_whole_or_absent(tmp_path, monkeypatch):
    for name in ("draws.csv", "draws.npz"):
        out = tmp_path / "new" / name
        write_draws(out, SPACE.names, THETA)
        assert np.array_equal(read_theta(out, SPACE), THETA)
        before = out.read_bytes()

        def full(fd, data, written=[]):  # noqa: B006
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("os.write", full)
            with pytest.raises(StoreError, match="free some space"):
                write_draws(out, SPACE.names, THETA[::-1])
        assert out.read_bytes() == before
        assert [f.name for f in out.parent.iterdir() if f.name.startswith(".")] == []


def test_a_configuration_with_a_byte_order_mark(tmp_path):
    text = '\ufeffsystem = "nbody"\nrun_dir = "~/r\u00e9sum\u00e9"\nseed = 1\n'
    file = tmp_path / "run.toml"
    file.write_bytes(text.encode())
    assert load_config(file).seed == 1


def test_numbers_are_read_alike_in_every_locale(tmp_path):
    file = tmp_path / "theta.csv"
    FRAME.to_csv(file, index=False)
    before = locale.setlocale(locale.LC_NUMERIC)
    for name in ("de_DE.UTF-8", "C.UTF-8", "C"):
        try:
            locale.setlocale(locale.LC_NUMERIC, name)
        except locale.Error:
            continue
        try:
            assert np.allclose(read_theta(file, SPACE), THETA)
        finally:
            locale.setlocale(locale.LC_NUMERIC, before)


def test_a_store_of_a_table_of_text(tmp_path):
    file = tmp_path / "theta.tsv"
    FRAME.assign(run=DATES)[["run", "s8", "Om"]].to_csv(file, sep="\t", index=False)
    field = FieldSpec("x", ("i",), (2,))
    x = THETA.astype("f4")
    store = SimulationStore.from_arrays(
        tmp_path / "s", read_theta(file, SPACE), x, SPACE, field
    )  # fmt: skip
    assert np.allclose(store.theta, store.read(range(4)))
