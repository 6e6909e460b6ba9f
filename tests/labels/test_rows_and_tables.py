"""Forms of tables and rows that carry names, numbers or units where one does not expect them."""

from collections import namedtuple

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from astropy.io import fits
from astropy.table import Table

from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors
from sbitools.errors import SbitoolsError
from sbitools.formats.theta import read_theta
from sbitools.gate.arrays import selection
from sbitools.observation import Mask

SPACE = ParameterSpace(
    [Parameter("a", priors.Uniform(0, 1), unit="K"), Parameter("b", priors.Uniform(0, 1))]
)
THETA = np.random.default_rng(0).random((6, 2))


def test_rows_with_names_are_read_by_their_names(tmp_path):
    swapped = pd.DataFrame(THETA, columns=["a", "b"])[["b", "a"]]
    row = namedtuple("Row", ["b", "a"])
    forms = {
        "itertuples": list(swapped.itertuples(index=False)),
        "one": [row(b=b, a=a) for a, b in THETA],
        "rows of FITS": list(fits_table(tmp_path, swapped)),
    }
    for name, form in forms.items():
        assert np.array_equal(SPACE.table(form).numpy(), THETA), name


def fits_table(folder, frame, unit=None):
    table = Table.from_pandas(frame)
    if unit:
        table["a"].unit = unit
    table.write(folder / f"t{unit}.fits", overwrite=True)
    return fits.getdata(folder / f"t{unit}.fits")


def test_units_of_tables_are_compared(tmp_path):
    frame = pd.DataFrame(THETA, columns=["a", "b"])
    assert np.array_equal(SPACE.table(fits_table(tmp_path, frame, "K")).numpy(), THETA)
    with pytest.raises(SbitoolsError, match="unit of"):
        SPACE.table(fits_table(tmp_path, frame, "mK"))
    with h5py.File(tmp_path / "t.h5", "w") as file:
        for i, name in enumerate("ab"):
            file.create_dataset(name, data=THETA[:, i])
        assert np.array_equal(SPACE.table(file).numpy(), THETA)
        file["a"].attrs["units"] = "mK"
        with pytest.raises(SbitoolsError, match="unit of"):
            SPACE.table(file)
    frame.attrs["units"] = {"a": "mK"}
    with pytest.raises(SbitoolsError, match="unit of"):
        SPACE.table(frame)


def test_a_table_on_its_side_is_refused():
    with pytest.raises(SbitoolsError, match="transpose"):
        SPACE.table(pd.DataFrame(THETA[:2], columns=["a", "b"]).T)


@pytest.mark.parametrize("name", ["index", ""])
def test_numbered_rows_of_text_are_in_order(tmp_path, name):
    frame = pd.DataFrame(THETA, columns=["a", "b"])
    frame.to_csv(tmp_path / "t.csv", index_label=name)
    assert np.allclose(read_theta(tmp_path / "t.csv", SPACE), THETA)
    frame.iloc[::-1].to_csv(tmp_path / "t.csv", index_label=name)
    with pytest.raises(SbitoolsError, match="ascending numbers"):
        read_theta(tmp_path / "t.csv", SPACE)


def test_a_mask_in_another_order_is_refused():
    mask = pd.Series([True, False, True])
    assert selection(mask, 3).tolist() == [0, 2]
    with pytest.raises(SbitoolsError, match="labelled 0 to 2"):
        selection(mask.iloc[::-1], 3)


def test_imported_sets_that_differ_anywhere_are_others(tmp_path):
    x = torch.arange(24.0).reshape(6, 4)
    spec, stores = FieldSpec("x", ("i",), (4,)), []
    for name, y in (("a", x), ("b", torch.cat([x[:3], x[3:] + 5]))):
        stores.append(
            SimulationStore.from_arrays(tmp_path / name, THETA, y, SPACE, spec, task_size=3)
        )
    one, other = (sorted((s.path / "parts").iterdir())[1] for s in stores)
    one.unlink()
    (one.parent / other.name).write_bytes(other.read_bytes())
    with pytest.raises(SbitoolsError, match="another simulator"):
        SimulationStore.open(tmp_path / "a").read([5])


SPEC = FieldSpec("x", ("i",), (3,))
TABLE = pd.DataFrame(THETA, columns=["a", "b"], index=np.arange(6) + 10)
FIELDS = pd.DataFrame(np.random.default_rng(1).random((6, 3)).astype("f4"), index=TABLE.index)
OTHER = [3, 1, 0, 2, 5, 4]
LISTS = {
    "rows": lambda t: [t.iloc[i] for i in range(len(t))],
    "named rows": lambda t: [t.iloc[i].rename(f"run {t.index[i]}") for i in range(len(t))],
    "itertuples": lambda t: list(t.itertuples()),
    "columns": lambda t: [t[name] for name in t.columns[::-1]],
    "dict of columns": lambda t: {name: t[name] for name in t.columns[::-1]},
    "frame": lambda t: t,
}  # fmt: skip
XARRAY = {"of xarray": lambda t: list(xr.DataArray(
    t.to_numpy(), dims=("run", "i"), coords={"run": t.index.to_numpy()}))}  # fmt: skip


@pytest.mark.parametrize("theta", ["rows", "named rows", "itertuples", "columns",
                                   "dict of columns", "frame"])  # fmt: skip
@pytest.mark.parametrize("x", ["rows", "named rows", "frame", "of xarray"])
def test_rows_in_lists_keep_their_labels(tmp_path, theta, x):
    """Every form of theta beside every form of x: one order is right, two orders are refused."""
    if (theta == "named rows") != (x == "named rows"):
        return  # other names for all rows: nobody can compare them
    make, field = LISTS[theta], (LISTS | XARRAY)[x]
    store = SimulationStore.from_arrays(tmp_path / "s", make(TABLE), field(FIELDS), SPACE, SPEC)
    assert np.array_equal(store.theta.numpy(), THETA)
    assert np.array_equal(store.read(store.done).numpy(), FIELDS)
    for a, b in ((TABLE.iloc[OTHER], FIELDS), (TABLE, FIELDS.iloc[OTHER])):
        with pytest.raises(SbitoolsError, match="rows of x"):
            SimulationStore.from_arrays(tmp_path / "t", make(a), field(b), SPACE, SPEC)


@pytest.mark.parametrize("theta", ["rows", "itertuples", "columns", "frame"])
@pytest.mark.parametrize("name", ["seeds", "groups"])
def test_rows_of_seeds_and_groups_are_compared(tmp_path, theta, name):
    numbers = pd.Series(np.arange(6) + 100, index=TABLE.index)
    arrays = LISTS[theta](TABLE), FIELDS.to_numpy(), SPACE, SPEC
    store = SimulationStore.from_arrays(tmp_path / "s", *arrays, **{name: numbers})
    assert np.array_equal(getattr(store, name), numbers)
    for wrong in (numbers.iloc[OTHER], numbers.iloc[OTHER].to_frame()):
        with pytest.raises(SbitoolsError, match=f"rows of {name}"):
            SimulationStore.from_arrays(tmp_path / "t", *arrays, **{name: wrong})


def test_columns_in_a_list_are_no_rows():
    """Two parameters, two simulations: the shape does not tell."""
    columns = [TABLE["b"].iloc[:2], TABLE["a"].iloc[:2]]
    assert np.array_equal(SPACE.table(columns).numpy(), THETA[:2])


EYE = pd.DataFrame(np.eye(3))


@pytest.mark.parametrize(
    "mask", [EYE.iloc[::-1], EYE[[2, 1, 0]], EYE.set_axis(list("abc")), EYE[0].iloc[::-1],
             [EYE.iloc[i] for i in (2, 1, 0)]],
)  # fmt: skip
def test_rows_of_a_mask_are_those_of_the_field(mask):
    with pytest.raises(SbitoolsError, match=r"mask: expected (rows|columns) labelled by numbers"):
        Mask(mask)
    assert np.array_equal(Mask(EYE).mask.numpy(), np.eye(3))
