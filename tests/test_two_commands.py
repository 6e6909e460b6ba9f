"""Two commands of one run at the same time, and the user's own files in its folders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sbitools.chain import STAGES, run_chain
from sbitools.chain.chain import working
from sbitools.errors import ConfigError, StoreError
from tests import test_chain
from tests.test_chain import events, open_run

copy = test_chain.copy  # a fixture


def test_two_commands_of_one_run(copy):
    """The second is told who is at work; what neither makes nor reads the same goes on."""
    one, two = open_run(copy), open_run(copy, "train.epochs=4")
    with working(one, STAGES["posterior"]):
        for stage in ("posterior", "calibration", "report", "emulated/train", "emulator"):
            with pytest.raises(ConfigError, match=rf"process {os.getpid()} on|another process"):
                run_chain(two, [stage], again=stage.startswith("emulat"))
        assert events(one, ["validation"]) == {"validation": "skip"}
    assert events(two, ["posterior"]) == {"posterior": "done"}
    assert events(one, ["emulated/train"]) == {"emulated/train": "skip"}


def test_a_command_that_was_killed_blocks_nobody(copy):
    code = f"""
import os
from sbitools.chain import STAGES, Run
from sbitools.chain.chain import working
from sbitools.config import load_config
import sys
sys.path.insert(0, {sys.path[0]!r})
with working(Run(load_config({str(copy)!r})), STAGES["posterior"]):
    os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[1])
    assert done.returncode == -9
    assert events(open_run(copy, "train.epochs=4"), ["posterior"]) == {"posterior": "done"}


@pytest.mark.parametrize("stage", ["report", "posterior"])
def test_the_users_files_in_a_stages_folder_stay(copy, stage):
    folder, setting = open_run(copy).folder(stage), "report.title='{}'"
    if stage == "posterior":
        setting = "train.epochs={}"
    (folder / "notes").mkdir()
    (folder / "notes" / "day 1.md").write_text("mine")
    (folder / "state-old").mkdir()

    def kept():
        return (folder / "notes" / "day 1.md").read_text() == "mine" and (
            folder / "state-old"
        ).is_dir()

    assert events(open_run(copy, setting.format(4)), [stage]) == {stage: "done"}
    assert kept()
    with pytest.raises(KeyboardInterrupt):
        run_chain(open_run(copy, setting.format(5)), [stage], _interrupt(stage))
    assert kept()
    assert events(open_run(copy, setting.format(6)), [stage]) == {stage: "done"}
    assert kept()
    assert events(open_run(copy, setting.format(6)), [stage]) == {stage: "skip"}
    assert not list(folder.parent.glob("*.old")) + list(folder.parent.glob("*.partial"))


def _interrupt(name):
    def announce(stage, event, record):
        if stage.name == name and event == "start":
            raise KeyboardInterrupt

    return announce


def test_a_record_that_was_deleted_is_not_a_reason_to_train_anew(copy):
    """The advice for a damaged record is to delete it and run again: the training is read back."""
    run = open_run(copy)
    before = (run.folder("posterior") / "checkpoint" / "weights.safetensors").read_bytes()
    run.record_path("posterior").write_text("[" * 10_000)
    with pytest.raises(StoreError, match="delete it and run again"):
        run_chain(run, ["posterior"])
    run.record_path("posterior").unlink()
    run_chain(run, ["posterior"])
    after = (run.folder("posterior") / "checkpoint" / "weights.safetensors").read_bytes()
    assert after == before
