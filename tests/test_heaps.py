"""Damaged heaps of HDF5 files: an error, where the library alone would never come back."""

import h5py
import numpy as np
import pytest

from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors
from sbitools.errors import StoreError
from sbitools.formats import open_array, read_theta
from sbitools.formats.heaps import check_heaps

SPACE = ParameterSpace([Parameter("a", priors.Uniform(0, 1), latex=r"\alpha", unit="K")])
MARK = b"GCOL\x01\0\0\0"


def stop_short(path):
    """Make the free space at the end of the first heap one of size 0."""
    data = bytearray(path.read_bytes())
    at = data.find(MARK)
    place = at + 16
    while data[place : place + 2] != b"\0\0":
        place += 16 + (int.from_bytes(data[place + 8 : place + 16], "little") + 7) // 8 * 8
    data[place + 8 : place + 16] = bytes(8)
    path.write_bytes(data)


@pytest.mark.parametrize("n", [8, 3000])
def test_a_part_whose_heap_has_no_end_is_refused(tmp_path, n):
    theta = SPACE.design(n, 1)
    store = SimulationStore.from_arrays(
        tmp_path / "s", theta, np.zeros((n, 500), "f4"), SPACE, FieldSpec("x", ("i",), (500,)),
        task_size=n,
    )  # fmt: skip
    store.close()
    part = next((store.path / "parts").iterdir())
    whole = part.read_bytes()
    check_heaps(part, len(whole))
    stop_short(part)
    with pytest.raises(StoreError, match=r"a heap of HDF5 that has no end.*delete"):
        SimulationStore.open(store.path)
    part.write_bytes(whole)
    SimulationStore.open(store.path).verify()


def test_files_of_users(tmp_path):
    path = tmp_path / "t.h5"
    with h5py.File(path, "w") as file:
        file["theta"] = np.random.default_rng(0).random((5, 1))
        file["theta"].attrs["unit"] = "K"  # a text of any length, which lies in a heap
        file["names"] = ["a"]
    assert read_theta(path, SPACE).shape == (5, 1)
    stop_short(path)
    for call in (lambda: read_theta(path, SPACE), lambda: open_array(path, "theta").__enter__()):
        with pytest.raises(StoreError, match="a heap of HDF5 that has no end"):
            call()


def test_fields_that_look_like_a_heap_are_read(tmp_path):
    """A whole heap by chance, with all its zeros, is 64 bits; a signature alone is nothing."""
    path = tmp_path / "t.h5"
    values = np.frombuffer((b"GCOL" + bytes(60)) * 8, "u1")
    with h5py.File(path, "w") as file:
        file["x"] = values
    with open_array(path) as array:
        assert np.array_equal(array[:], values)
