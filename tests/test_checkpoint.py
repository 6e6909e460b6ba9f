"""Checkpoints are whole or absent, whatever happens while they are written."""

import os
import subprocess
import sys

import pytest
import torch

from sbitools.checkpoint import load_checkpoint, save_checkpoint
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
