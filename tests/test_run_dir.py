"""The folder of a training: one run, one process, and the user's files stay.

A second training without `resume` is an error, not a training that keeps the first one aside: who
expects it to go through loses sight of one of both.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from sbitools.checkpoint import checkpoint_kind, save_checkpoint
from sbitools.errors import TrainingError
from sbitools.training import read_metrics
from sbitools.training.run_state import claimed
from tests.test_training import loss, run


@pytest.fixture(autouse=True)
def _forked():
    with torch.random.fork_rng(devices=[]):  # nn.Linear initialises from the global generator
        yield


def test_a_run_is_not_begun_anew_by_accident(tmp_path):
    """Without resume, an earlier run is neither overwritten nor gone on with: the user chooses."""
    net, _ = run(tmp_path, epochs=2)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(TrainingError, match="resume=True"):
        run(tmp_path, epochs=2)
    with pytest.raises(TrainingError, match="resume=True"):
        run(tmp_path, epochs=5)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    again, _ = run(tmp_path, epochs=2, resume=True)
    assert again.weight.equal(net.weight)


def test_an_interrupted_run_is_not_begun_anew_either(tmp_path):
    def stop(row):
        if row["epoch"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, on_epoch=stop)
    with pytest.raises(TrainingError, match="resume=True"):
        run(tmp_path)
    assert len(read_metrics(tmp_path)) == 4
    _, history = run(tmp_path, resume=True)
    assert [row["epoch"] for row in read_metrics(tmp_path)] == list(range(len(history.epochs)))


def test_the_users_files_in_run_dir_stay(tmp_path):
    theirs = {
        "state-of-the-art/review.md": "two years", "state-old/notes": "mine",
        "state-1/notes": "mine", "code.py": "print()", ".lock.txt": "mine",
    }  # fmt: skip
    for name, text in theirs.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "metrics.jsonl").write_text("mine\n")
    save_checkpoint(tmp_path / "state-backup", "training-state", {}, {})
    run(tmp_path, epochs=2)
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write("half a li")
    run(tmp_path, epochs=2, resume=True)
    assert {name: (tmp_path / name).read_text() for name in theirs} == theirs
    assert checkpoint_kind(tmp_path / "state-backup") == "training-state"
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("mine", "half a li", 4)
    assert [row["epoch"] for row in read_metrics(tmp_path)] == [0, 1]


def test_a_folder_with_the_name_of_a_state_is_not_removed(tmp_path):
    """A state of ours in which the user keeps notes outlives its successor."""

    def note(row):
        for folder in tmp_path.glob("state-*"):
            (folder / "notes").write_text("mine")

    run(tmp_path, epochs=3, on_epoch=note)
    assert {p.read_text() for p in tmp_path.glob("state-*/notes")} == {"mine"}
    assert len(list(tmp_path.glob("state-*/notes"))) > 1


def test_the_lock_of_a_killed_save_goes_with_its_state(tmp_path):
    """Killed between the last rename of a save and the removal of its lock."""

    def stop(row):
        if row["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, on_epoch=stop)
    [state] = tmp_path.glob("state-*")
    (tmp_path / f".{state.name}.lock").write_text("sbitools: process 1 on a machine\n")
    run(tmp_path, resume=True)
    assert not state.exists()
    assert sorted(p.name[:6] for p in tmp_path.iterdir()) == ["metric", "state-"]


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"{", b"[]\n", b"[" * 10_000, b"1\n\n2\n"])
def test_damaged_metrics(tmp_path, damage):
    def stop(row):
        if row["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, on_epoch=stop)
    with (tmp_path / "metrics.jsonl").open("ab") as stream:
        stream.write(damage)
    assert [row["epoch"] for row in read_metrics(tmp_path)] == [0, 1]
    _, history = run(tmp_path, resume=True)
    assert [row["epoch"] for row in read_metrics(tmp_path)] == list(range(len(history.epochs)))


def test_two_threads_train_in_turn_or_not_at_all(tmp_path):
    inside, go = threading.Event(), threading.Event()

    def waiting(module, batch, rng):
        inside.set()
        go.wait(60)
        return loss(module, batch, rng)

    first = threading.Thread(target=lambda: run(tmp_path, value=waiting, epochs=2))
    first.start()
    assert inside.wait(60)
    for resume in (True, False):
        with pytest.raises(TrainingError, match=f"process {os.getpid()} on .* training there"):
            run(tmp_path, epochs=2, resume=resume)
    go.set()
    first.join()
    _, history = run(tmp_path, epochs=2, resume=True)
    assert len(history.epochs) == 2
    assert [p.name[:5] for p in sorted(tmp_path.iterdir())] == ["metri", "state"]


def test_a_dead_owner_blocks_nobody(tmp_path):
    code = f"""
import os
from pathlib import Path
from sbitools.training.run_state import claimed
with claimed(Path({str(tmp_path)!r})):
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[1])
    assert (tmp_path / ".lock").exists()
    with claimed(tmp_path):
        pass
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize("call", ["open", "mkdir"])
def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, call):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr({"open": "os.open", "mkdir": "pathlib.Path.mkdir"}[call], refuse)
    with pytest.raises(TrainingError, match="Permission denied"):
        run(tmp_path / "r" if call == "mkdir" else tmp_path)


def test_a_path_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="another run_dir"):
        run(tmp_path / "file" / "run")
    with pytest.raises(TrainingError, match="fix:"):
        run("")
