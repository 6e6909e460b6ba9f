"""Arrays in files say what they are, too: units, fill values, packing, names of axes."""

import shutil

import h5py
import numpy as np
import pytest

from sbitools import SimulationStore
from sbitools.errors import SbitoolsError
from sbitools.observation.observed import check_field, read_field
from sbitools.store.imports import add_results, import_files

from .conftest import FIELD, SPACE, THETA, N, X


def hdf5(path, values, names=(), **attrs):
    with h5py.File(path, "w") as file:
        data = file.create_dataset("x", data=values)
        data.attrs.update(attrs)
        for axis, name in zip(data.dims, names, strict=False):
            axis.label = name
    return path


HDF5_USED = [{}, {"units": "mK"}, {"BUNIT": np.bytes_("mK")}, {"_FillValue": np.float32(-9999)}]
HDF5_REFUSED = [{"units": "K"}, {"BUNIT": b"K"}, {"scale_factor": 2.0}, {"_FillValue": X[0, 0, 0]}]


def test_labels_in_files(tmp_path):
    np.save(tmp_path / "theta.npy", THETA)

    def imported(file):
        shutil.rmtree(tmp_path / "s", ignore_errors=True)
        return import_files(tmp_path / "s", file, tmp_path / "theta.npy", SPACE, FIELD).read([0])

    def result(file):
        shutil.rmtree(tmp_path / "s", ignore_errors=True)
        store = SimulationStore.create(tmp_path / "s", SPACE, FIELD, THETA, range(N))
        add_results(store, file.parent)
        return store.read([0])

    def observed(file):
        array, unit = read_field(file, None, FIELD)
        return check_field(array, FIELD, unit)

    for enter, values, folder in ((imported, X, "a"), (result, X[0], "b"), (observed, X[0], "c")):
        (tmp_path / folder).mkdir()
        file = tmp_path / folder / "r0.h5"
        for attrs in HDF5_USED:
            assert np.allclose(enter(hdf5(file, values, **attrs)), X[:1])
        for attrs in HDF5_REFUSED:
            with pytest.raises(SbitoolsError, match="fix: "):
                pytest.fail(f"{attrs}: {enter(hdf5(file, values, **attrs))}")
        axes = ("run", "y", "z")[-values.ndim :]
        assert np.allclose(enter(hdf5(file, values, axes)), X[:1])
        for wrong in ((*axes[:-2], "z", "y"), (*axes[:-2], "x", "z")):
            with pytest.raises(SbitoolsError, match="axes"):
                enter(hdf5(file, values, wrong))
