"""What the file system refuses is a typed error, and nothing is deleted that is not ours."""

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors
from sbitools.disk.files import out_of_reach, write_atomic
from sbitools.errors import StoreError
from sbitools.observation.observed import write_draws
from sbitools.store.intake import checked_rows
from sbitools.store.manifest import Manifest, lock, prepare_folder
from sbitools.store.parts import write_part

SPACE = ParameterSpace([Parameter("a", priors.Uniform(0, 1))])
FIELD = FieldSpec("d", ("i",), (3,))
N = 6
THETA = SPACE.design(N, 1)
X = np.random.default_rng(0).normal(size=(N, 3)).astype("f4")
ERRORS = [errno.EACCES, errno.EROFS, errno.EIO, errno.ENOSPC]


def snapshot(folder):
    return {p.relative_to(folder): p.is_file() and p.read_bytes() for p in folder.rglob("*")}


def make(path, x=X, **options):
    return SimulationStore.from_arrays(path, THETA, x, SPACE, FIELD, **options)


@pytest.mark.parametrize(
    ("nbytes", "room"),
    [(0, "room for it"), (1, "for 1 kB"), (999_000, "for 999 kB"), (1_000_000, "for 1.0 MB"),
     (64_250_000, "for 64.2 MB")],
)  # fmt: skip
def test_a_full_disk_says_how_much_room_is_wanted(nbytes, room):
    error = out_of_reach(Path("f"), OSError(errno.ENOSPC, "No space left on device"), nbytes)
    assert room in str(error)


BAD = np.where(np.arange(N)[:, None] == 4, np.nan, X).astype("f4")


@pytest.mark.parametrize("x", [X, BAD])
@pytest.mark.parametrize(
    "file", ["design-mine.h5", ".hidden", "design-2024/plan.txt", "parts/x.h5", "running/1-2",
             "design-0123456789abcdef.h5", ".a.tmp"]
)  # fmt: skip
def test_an_import_leaves_the_users_folder_alone(tmp_path, file, x):
    folder = tmp_path / "mine"
    (folder / file).parent.mkdir(parents=True)
    (folder / file).write_text("years of work")
    before = snapshot(tmp_path)
    with pytest.raises(StoreError, match="new or empty directory"):
        make(folder, x)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("existing", [True, False])
def test_an_import_is_there_whole_or_not_at_all(tmp_path, existing):
    path = tmp_path / "s"
    if existing:
        path.mkdir()
    with pytest.raises(StoreError, match="simulation 4"):
        make(path, BAD)
    assert path.exists() == existing
    assert len(list(tmp_path.iterdir())) == existing
    assert np.array_equal(make(path).read(range(N)), X)
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_a_killed_import_leaves_nothing_at_the_path(tmp_path):
    script = """
import os, sys
from tests.test_files import N, X, make
class Deadly:
    shape, dtype = X.shape, X.dtype
    def __len__(self):
        return N
    def __getitem__(self, rows):
        return os.kill(os.getpid(), 9) if rows.start else X[rows]
make(sys.argv[1], Deadly(), task_size=2)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "s")]
    done = subprocess.run(command, check=False, cwd=Path(__file__).parents[1])
    assert done.returncode == -9
    assert [p.suffix for p in tmp_path.iterdir()] == [".tmp"]
    assert len(make(tmp_path / "s").done) == N


def test_the_current_directory_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="the current one"):
        make(".")
    assert len(make("s").done) == N


def test_what_a_killed_create_left_is_taken_over(tmp_path):
    folder = tmp_path / "s"
    (folder / "parts").mkdir(parents=True)
    for name in (".lock", f"design-{'0' * 16}.h5", ".store.json.01234567.tmp"):
        (folder / name).touch()
    store = SimulationStore.create(folder, SPACE, FIELD, THETA, range(N))
    assert store.counts()["pending"] == N
    assert len(list(folder.glob("design-*"))) == 1


@pytest.mark.parametrize(
    "file", ["design-mine.h5", ".hidden", ".a.tmp", "parts/x.h5", "running/1-2", "sub/.lock"]
)
def test_create_takes_no_folder_with_other_files(tmp_path, file):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("x")
    before = snapshot(tmp_path)
    with pytest.raises(StoreError, match="new or empty directory"):
        SimulationStore.create(tmp_path, SPACE, FIELD, THETA, range(N))
    assert snapshot(tmp_path) == before


def test_a_campaign_deletes_its_own_files_only(tmp_path):
    store = make(tmp_path / "s")
    (store.path / "running").mkdir()
    theirs = [
        store.path / "design-notes.h5",
        store.path / ".notes.tmp",
        store.path / "running" / "notes.txt",
    ]
    for file in theirs:
        file.write_text("x")
    (store.path / "running" / "0-2").touch()
    with lock(store.path, exclusive=True):
        store.manifest.write(store.path, store.manifest.table(store.path))
    assert all(file.exists() for file in theirs)
    assert not (store.path / "running" / "0-2").exists()


# Paths that cannot be used


def test_a_path_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "s"
    for call in (
        lambda: make(path),
        lambda: make(path / "deeper"),
        lambda: SimulationStore.create(path, SPACE, FIELD, THETA, range(N)),
        lambda: SimulationStore.open(path),
        lambda: write_atomic(path, b"x"),
        lambda: lock(path, exclusive=True).__enter__(),
        lambda: make(tmp_path / "ok").export_design(path.with_suffix(".csv")),
    ):
        with pytest.raises(StoreError, match="fix:"):
            call()


@pytest.mark.parametrize("number", ERRORS)
def test_a_disk_that_refuses(tmp_path, monkeypatch, number):
    store = SimulationStore.create(tmp_path / "s", SPACE, FIELD, THETA, range(N))

    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    for target in ("os.open", "pathlib.Path.mkdir"):
        monkeypatch.setattr(target, refuse)
    for call in (
        lambda: prepare_folder(tmp_path / "t"),
        lambda: write_atomic(tmp_path / "f", b"x"),
        lambda: store.add(0, X[0]),
        lambda: make(tmp_path / "u"),
    ):
        with pytest.raises(StoreError, match=os.strerror(number)):
            call()
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_a_part_without_its_field_leaks_no_descriptor(tmp_path, monkeypatch):
    store = SimulationStore.open(make(tmp_path / "s").path, verify=False)

    def damaged(*args):
        raise StoreError("part", expected="a field", got="none", fix="restore it")

    monkeypatch.setattr("sbitools.store.parts.Part.offset", damaged)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(StoreError, match="restore it"):
            store.read([0])
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_design_of_another_length(tmp_path):
    store = make(tmp_path / "s")
    replace(store.manifest, segments=(N + 1,)).write_texts(store.path)
    with pytest.raises(StoreError, match=r"7 simulations, but a design of \{6\} rows"):
        SimulationStore.open(store.path)
    replace(store.manifest, task_size=0).write_texts(store.path)
    with pytest.raises(StoreError, match="sizes below 1"):
        Manifest.read(store.path)


def test_a_field_called_group(tmp_path):
    spec = FieldSpec("group", ("group",), (3,))
    store = SimulationStore.from_arrays(tmp_path / "s", THETA, X, SPACE, spec)
    view = store.to_xarray()
    assert np.array_equal(view.group_field, X)
    assert view.group.shape == (N,)


def test_write_part_names_the_folder(tmp_path):
    store = make(tmp_path / "s")
    data = checked_rows(store.layout, store._table, 0, X, None, None, "error")
    with pytest.raises(StoreError, match="nowhere"):
        write_part(tmp_path / "nowhere", store.layout, data)


TABLES = {
    "d.csv": [b"index,seed,a,mass\n1,2,3,4\n", b"notes of three years", b"a,s\r\n1,2\r\n"],
    "d.npz": [b"PK\x03\x04 no archive", b"notes", "an archive"],
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("writer", ["design", "draws"])
def test_tables_are_written_over_tables_of_their_own_kind_alone(tmp_path, name, which, writer):
    store, file = make(tmp_path / "s"), tmp_path / name
    names = store.parameters.names

    def write(seed=0):
        if writer == "design":
            return store.export_design(file)
        return write_draws(file, names, np.random.default_rng(seed).random((5, len(names))))

    content = TABLES[name][which]
    if content == "an archive":
        np.savez(file, theta=np.ones((3, len(names))), names=np.array([*names[:-1], "mine"]))
    else:
        file.write_bytes(content)
    before = file.read_bytes()
    with pytest.raises(StoreError, match="another file; fix: choose another path"):
        write()
    assert file.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["s", name])
    file.unlink()
    write()
    write(seed=1)
    assert file.stat().st_size > 0
    file.write_bytes(b"")
    write()
