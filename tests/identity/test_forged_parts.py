"""Parts that other programs made or changed, under the right name: never taken for ours."""

import hashlib
import os

import h5py
import numpy as np
import pytest

from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors
from sbitools.errors import StoreError
from sbitools.store.parts import _meta_digest

SPACE = ParameterSpace([Parameter("mu", priors.Normal(0.0, 1.0))])
FIELD = FieldSpec("x", ("i",), (4,))


def replaced(file, name, values, **options):
    del file[name]
    file.create_dataset(name, data=values, **options)


def columns(name, values, **options):
    def change(file):
        replaced(file, name, values, **options)
        file.attrs["metadata_sha256"] = _meta_digest(file)

    return change


FORGERIES = {
    "dtype": lambda f: replaced(f, "x", f["x"][()].astype("i4")),
    "shape": lambda f: replaced(f, "x", np.zeros((2, 4), "f4")),
    "chunks": lambda f: replaced(f, "x", f["x"][()], chunks=(1, 4), compression="gzip"),
    "values": lambda f: f["x"].write_direct(np.ones((8, 4), "f4")),
    "state": columns("state", np.full(8, 9, np.uint8)),
    "pending": columns("state", np.zeros(8, np.uint8)),
    "short": columns("state", np.ones(3, np.uint8)),
    "digests": columns("sha256", np.zeros((8, 5), np.uint8)),
    "messages": columns("error", np.arange(8)),
    "claim": lambda f: replaced(f, "error", None, shape=(10**10,), dtype="S8", chunks=(1000,)),
}


def look(path):
    store = SimulationStore.open(path)
    store.verify()
    store.read(store.done)


@pytest.mark.parametrize("name", FORGERIES)
def test_forged(tmp_path, name):
    store = SimulationStore.from_arrays(
        tmp_path / "s", SPACE.design(24, 1), np.zeros((24, 4), "f4"), SPACE, FIELD, task_size=8
    )
    path = sorted((store.path / "parts").iterdir())[1]
    with h5py.File(path, "r+") as file:
        FORGERIES[name](file)
    sha = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    path.rename(path.with_name(f"{path.name[:-19]}{sha}.h5"))
    with pytest.raises(StoreError, match="fix"):
        look(store.path)


def test_pipes_and_devices_are_no_parts(tmp_path):
    store = SimulationStore.from_arrays(
        tmp_path / "s", SPACE.design(8, 1), np.zeros((8, 4), "f4"), SPACE, FIELD
    )
    path = next((store.path / "parts").iterdir())
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StoreError, match="a fifo, a socket or a device"):
        SimulationStore.open(store.path)
    (store.path / "store.json").unlink()
    (store.path / "store.json").symlink_to("/dev/zero")
    with pytest.raises(StoreError, match="not a file"):
        SimulationStore.open(store.path)
