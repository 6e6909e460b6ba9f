"""A limit of open files is no damage: readers make room, and the error says what to do."""

import contextlib
import os
import resource
from pathlib import Path

import pytest
import torch

from sbitools import FieldSpec, ParameterSpace, SimulationStore
from sbitools.errors import StoreError

N = 40
X = torch.arange(float(3 * N)).reshape(N, 3)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A store of 40 parts."""
    path = tmp_path_factory.mktemp("files") / "s"
    space, field = ParameterSpace([]), FieldSpec("x", ("i",), (3,))
    SimulationStore.from_arrays(path, torch.zeros(N, 0), X, space, field, task_size=1).close()
    return path


@contextlib.contextmanager
def at_most(more):
    """Only so many files more than those that are open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(f.name) for f in Path("/proc/self/fd").iterdir()) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def all_taken():
    """No file can be opened."""
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for fd in taken:
            os.close(fd)


def test_readers_share_what_there_is(path):
    before = [SimulationStore(path) for _ in range(3)]
    for store in before:  # opened while there was plenty
        store.read(range(N))
    with at_most(12):
        stores = [SimulationStore(path) for _ in range(20)]
        for store in [*stores, *before]:
            assert torch.equal(store.read(range(N)), X)
    for store in [*stores, *before]:
        store.close()


def test_files_of_idle_readers_make_room(path):
    with at_most(100):
        store = SimulationStore(path)
        store._reader._most = 64
        store.read(range(N))
        with all_taken():
            assert torch.equal(SimulationStore(path).read([5]), X[5:6])
        assert torch.equal(store.read(range(N)), X)
        store.close()


ACTIONS = {
    "open": lambda store: SimulationStore(store.path),
    "read": lambda store: store.read([3]),
    "verify": lambda store: store.verify(),
}


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_too_many_open_files_is_not_called_damage(path, action):
    store = SimulationStore(path)
    with at_most(20), all_taken(), pytest.raises(StoreError, match="ulimit -n") as raised:
        action(store)
    assert "Too many open files" in str(raised.value)
    assert "copy" not in str(raised.value)
    assert "delete" not in str(raised.value)
    action(store)
    store.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_part_without_permission_is_not_called_damage(path):
    part = next((path / "parts").iterdir())
    part.chmod(0)
    try:
        with pytest.raises(StoreError, match="permissions"):
            SimulationStore(path)
    finally:
        part.chmod(0o644)
