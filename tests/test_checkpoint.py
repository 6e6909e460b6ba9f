"""Checkpoints are whole or absent, whatever happens while they are written."""

import hashlib
import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sbitools.checkpoint import checkpoint_kind, load_checkpoint, rebuild, save_checkpoint
from sbitools.disk.locks import held
from sbitools.errors import CheckpointError

TENSORS = {"a": torch.arange(1000.0)}


def test_half_a_replacement_is_undone(tmp_path):
    path = save_checkpoint(tmp_path / "c", "kind", {"n": 1}, TENSORS)
    path.rename(tmp_path / ".c.old")  # what a kill between the two renames leaves
    config, tensors = load_checkpoint(path, "kind")
    assert config == {"n": 1}
    assert torch.equal(tensors["a"], TENSORS["a"])


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".c.12345.tmp").mkdir()
    save_checkpoint(tmp_path / "c", "kind", {}, TENSORS)
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_a_full_disk_is_a_typed_error_and_keeps_the_older_checkpoint(tmp_path):
    """The limit on file size stands for the disk: the system refuses the write in earnest."""
    save_checkpoint(tmp_path / "c", "kind", {"n": 1}, TENSORS)
    code = f"""
import resource, signal, torch
from sbitools.checkpoint import save_checkpoint
from sbitools.errors import CheckpointError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_checkpoint({str(tmp_path / "c")!r}, "kind", {{"n": 2}}, {{"a": torch.zeros(1_000_000)}})
except CheckpointError as error:
    print("typed:", error.fix)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert "typed: free disk space" in done.stdout
    assert load_checkpoint(tmp_path / "c", "kind")[0] == {"n": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_values_that_are_not_plain_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="plain values"):
        save_checkpoint(tmp_path / "c", "kind", {"f": print}, TENSORS)
    with pytest.raises(CheckpointError, match="plain values"):
        save_checkpoint(tmp_path / "c", "kind", {"f": float("nan")}, TENSORS)
    assert not list(tmp_path.iterdir())


# Races


def numbered(i):
    return {"n": i}, {"a": torch.full((3000,), float(i)), "b": torch.full((7,), float(i))}


SAVER = """
import sys, torch
from sbitools.checkpoint import save_checkpoint
from tests.test_checkpoint import numbered
torch.set_num_threads(1)
for i in range(int(sys.argv[2]), int(sys.argv[3])):
    save_checkpoint(sys.argv[1], "kind", *numbered(i))
"""


def savers(path, *ranges):
    return [
        subprocess.Popen(
            [sys.executable, "-c", SAVER, str(path), *map(str, r)], stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[1], env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for r in ranges
    ]  # fmt: skip


def check_race(path, each, loads):
    """Two processes save, this one loads: no save fails, each load is one save, none is lost."""
    save_checkpoint(path, "kind", *numbered(0))
    processes, seen = savers(path, (1, each), (each, 2 * each)), set()
    while any(p.poll() is None for p in processes) or loads > 0:
        config, tensors = load_checkpoint(path, "kind")
        expected, weights = numbered(config["n"])
        assert config == expected
        assert all(torch.equal(tensors[k], v) for k, v in weights.items())
        seen.add(config["n"])
        loads -= 1
    assert [p.communicate()[1] for p in processes] == [b"", b""]
    assert load_checkpoint(path, "kind")[0]["n"] in (each - 1, 2 * each - 1)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert len(seen) > 3


def test_loads_while_two_save(tmp_path):
    check_race(tmp_path / "c", 150, 300)


@pytest.mark.slow
def test_thousands_of_loads_while_two_save(tmp_path):
    check_race(tmp_path / "c", 3000, 10_000)


def inode(path):
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def test_a_saver_that_is_killed_blocks_nobody(tmp_path):
    path = save_checkpoint(tmp_path / "c", "kind", *numbered(0))
    for _ in range(6):
        (process,) = savers(path, (1, 10_000))
        before, end = inode(path), time.monotonic() + 60
        while inode(path) == before and time.monotonic() < end:
            pass  # it has begun to save
        process.kill()
        process.communicate()
        config, tensors = load_checkpoint(path, "kind")
        assert torch.equal(tensors["a"], numbered(config["n"])[1]["a"])
    save_checkpoint(path, "kind", *numbered(5))
    assert load_checkpoint(path, "kind")[0] == {"n": 5}
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_reading_changes_nothing(tmp_path):
    path = save_checkpoint(tmp_path / "c", "kind", *numbered(1))
    path.rename(tmp_path / ".c.old")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert load_checkpoint(path, "kind")[0] == {"n": 1}
    assert checkpoint_kind(path) == "kind"
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_a_saver_waits_for_the_owner_of_the_lock_and_names_it(tmp_path, monkeypatch):
    monkeypatch.setattr("sbitools.checkpoint._WAIT", 0.2)
    with held(tmp_path / ".c.lock"), pytest.raises(CheckpointError, match=f"{os.getpid()} on"):
        save_checkpoint(tmp_path / "c", "kind", *numbered(1))
    assert not list(tmp_path.iterdir())


# Hostile files: sizes and hashes are right, contents are not


def signed(path, config, weights=None, kind="kind", **other):
    """A checkpoint whose hashes fit whatever is in it."""
    path.mkdir(exist_ok=True)
    if weights is not None:
        (path / "weights.safetensors").write_bytes(weights)
    data = (path / "weights.safetensors").read_bytes()
    text = json.dumps([kind, config], sort_keys=True).encode()
    sha = {"weights.safetensors": hashlib.sha256(data).hexdigest(),
           "config": hashlib.sha256(text).hexdigest()}  # fmt: skip
    manifest = {"schema": 1, "kind": kind, "config": config, "sha256": sha} | other
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def header(values, body=b""):
    text = values if isinstance(values, bytes) else json.dumps(values).encode()
    return struct.pack("<Q", len(text)) + text + body


WEIGHTS = {
    "empty": b"",
    "long header": struct.pack("<Q", 2**63 - 1) + b"{}",
    "header beyond the file": struct.pack("<Q", 100 * 10**6) + b" " * 100,
    "deep header": header(b"[" * 100_000 + b"]" * 100_000),
    "huge shape": header({"a": {"dtype": "F32", "shape": [10**12],
                                "data_offsets": [0, 4 * 10**12]}}),
    "overflowing shape": header({"a": {"dtype": "F32", "shape": [2**62, 8],
                                       "data_offsets": [0, 0]}}),
    "overlap": header({k: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for k in "ab"},
                      bytes(8)),
}  # fmt: skip


@pytest.mark.parametrize("name", WEIGHTS)
def test_hostile_weights(tmp_path, name):
    with pytest.raises(CheckpointError, match="fix:"):
        load_checkpoint(signed(tmp_path / "c", {}, WEIGHTS[name]), "kind")


MANIFESTS = {
    "deep": b'{"config": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "rather deep": b'{"schema": 1, "kind": "kind", "config": ' + b"[" * 500 + b"]" * 500 + b"}",
    "a list": b"[]",
    "hashes in a list": b'{"schema": 1, "kind": "kind", "config": {}, "sha256": [1]}',
    "not UTF-8": b'{"kind": "\xe9"}',
    "no JSON": b"{",
    "long number": b'{"kind": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_hostile_manifests(tmp_path, name):
    path = save_checkpoint(tmp_path / "c", "kind", {}, TENSORS)
    (path / "manifest.json").write_bytes(MANIFESTS[name])
    with pytest.raises(CheckpointError, match="fix:"):
        load_checkpoint(path, "kind")


@pytest.mark.parametrize("file", ["manifest.json", "weights.safetensors"])
@pytest.mark.parametrize("put", [os.mkfifo, os.mkdir, lambda p: p.symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_read(tmp_path, file, put):
    path = save_checkpoint(tmp_path / "c", "kind", {}, TENSORS)
    (path / file).unlink()
    put(path / file)
    with pytest.raises(CheckpointError, match="not a file"):
        load_checkpoint(path, "kind")


def test_a_sparse_file_larger_than_the_memory(tmp_path):
    path = save_checkpoint(tmp_path / "c", "kind", {}, TENSORS)
    with (path / "weights.safetensors").open("r+b") as file:
        file.truncate(1 << 42)
    with pytest.raises(CheckpointError, match="more than"):
        load_checkpoint(path, "kind")


@pytest.mark.parametrize("config", [None, [], "text", 5])
def test_a_config_that_is_no_table(tmp_path, config):
    path = save_checkpoint(tmp_path / "c", "kind", {}, TENSORS)
    with pytest.raises(CheckpointError, match="table"):
        load_checkpoint(signed(path, config), "kind")


def test_nothing_out_of_proportion_is_built():
    with torch.random.fork_rng(devices=[]):
        _build_too_much([torch.zeros(100)])


def _build_too_much(small):
    for build in (
        lambda: torch.zeros(10**6, 10**6),
        lambda: torch.nn.Linear(10**5, 10**5),
        lambda: [torch.nn.Linear(1, 1) for _ in range(10**9)],
        lambda: {}["absent"],
        lambda: None.shape,
    ):
        with pytest.raises(CheckpointError, match="fix:"):
            rebuild("c", "thing", build, small)
    assert rebuild("c", "thing", lambda: torch.nn.Linear(500, 500), small).in_features == 500
