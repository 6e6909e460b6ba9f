"""Forms of tables and rows that carry names, numbers or units where one does not expect them."""

from collections import namedtuple

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from astropy.io import fits
from astropy.table import Table

from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors
from sbitools.arrays import selection
from sbitools.errors import SbitoolsError
from sbitools.formats.theta import read_theta

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
