"""An observation of any format is the same observation."""

import numpy as np
import pytest

from sbitools import FieldSpec
from sbitools.errors import ObservationError, SbitoolsError, StoreError
from sbitools.formats import open_fields
from sbitools.observation.observed import check_field, read_field

from .conftest import DATASETS, X, dataset, write

SPEC = FieldSpec("x", ("y", "z"), (3, 4), unit="mK")


@pytest.mark.parametrize("dtype", [">f4", "<f8", ">i2"])
@pytest.mark.parametrize("batch", [True, False])
def test_every_format(tmp_path, kind, dtype, batch):
    values = X[:1] if batch else X[0]
    if batch or not kind.startswith("netcdf"):
        file = write(tmp_path, kind, values.astype(dtype), "mK")
    else:
        file = tmp_path / "x.nc"
        dataset(values.astype(dtype), "mK").rename(run="y", y="z").to_netcdf(file)
    array, unit = read_field(file, DATASETS.get(kind), SPEC)
    field = check_field(array, SPEC, unit)
    assert field.dtype == np.float32
    assert np.array_equal(field, X[:1])


@pytest.mark.parametrize("kind", ["hdf5", "netcdf3", "netcdf4", "fits"])
def test_another_unit_is_refused(tmp_path, kind):
    file = write(tmp_path, kind, X[:1].astype("f4"), "K")
    with pytest.raises(ObservationError, match="unit"):
        read_field(file, None, SPEC)


def test_axes_in_another_order_are_refused(tmp_path):
    dataset(X[:1], "mK").transpose("run", "z", "y").to_netcdf(tmp_path / "x.nc")
    with pytest.raises(ObservationError, match="axes"):
        read_field(tmp_path / "x.nc", None, SPEC)
    labels = dataset(X[:1], "mK").assign_coords(y=[2, 1, 0])
    labels.to_netcdf(tmp_path / "y.nc")
    with pytest.raises(ObservationError, match="coordinates of y"):
        read_field(tmp_path / "y.nc", None, SPEC)


def test_a_vector_of_text(tmp_path):
    spec = FieldSpec("p", ("k",), (12,), "float64")
    np.savetxt(tmp_path / "a.txt", X[0].ravel())
    np.savetxt(tmp_path / "b.csv", X[:1].reshape(1, -1), delimiter=",")
    for name in ("a.txt", "b.csv"):
        array, unit = read_field(tmp_path / name, None, spec)
        assert np.array_equal(check_field(array, spec, unit)[0], X[0].ravel())
    (tmp_path / "c.csv").write_bytes("1,2,3\n".encode("utf-16"))
    with pytest.raises(StoreError, match=r"UTF-8.*save it as UTF-8"):
        read_field(tmp_path / "c.csv", None, spec)


def test_fields_in_another_dtype(tmp_path):
    with open_fields(write(tmp_path, "fits", X.astype(">i2"))) as fields:
        assert fields.astype("int16") is fields
        other = fields.astype("float32")
        assert other.dtype == np.float32
        assert np.array_equal(other[2:5], X[2:5])
        assert other[[1]].dtype == np.float32
        assert other.whole().dtype == np.float32
        with pytest.raises(SbitoolsError, match="same kind"):
            fields.astype("float32").astype("int32")
