"""What is decided silently is told to the logger "sbitools", and to nobody who does not listen."""

import logging
import subprocess
import sys

import pytest
import torch

import sbitools
from sbitools import SimulationStore
from sbitools.inference.job import Job

from .conftest import SPACE, SPEC, gaussian_store

OPTIONS = {"flow": "zuko_maf", "flow_transforms": 1, "flow_hidden": 8, "features": 2,
           "channels": 1, "batch_size": 100, "epochs": 2}  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return gaussian_store(tmp_path_factory.mktemp("store") / "train", 200)


def told(caplog, name):
    return "\n".join(r.getMessage() for r in caplog.records if r.name == f"sbitools.{name}")


def test_training_tells_what_it_chose_left_out_and_how_it_ended(tmp_path, caplog):
    x = SPACE.design(60, 1).float()
    x[:7] = torch.nan
    store = SimulationStore.from_arrays(
        tmp_path / "s", SPACE.design(60, 1), x, SPACE, SPEC, nonfinite="fail"
    )
    options = OPTIONS | {"patience": 1, "epochs": 50, "learning_rate": 0.5}
    with caplog.at_level("INFO", "sbitools"):
        sbitools.train(store, run_dir=tmp_path / "r", **options)
    line = told(caplog, "inference.train")
    expected = (
        "neural posterior estimation by Estimator", "embedding VectorMLP", "on cpu",
        "48 simulations train, 5 validate", "7 failed left out", "batches of 100",
    )  # fmt: skip
    assert [part for part in expected if part not in line] == []
    assert "stopped by patience after" in told(caplog, "training.loop")


def test_a_run_that_is_taken_up_or_read_back_says_so(small, tmp_path, caplog):
    class Stop(Exception):
        pass

    def stop(row):
        raise Stop

    with pytest.raises(Stop):
        sbitools.train(small, run_dir=tmp_path, checkpoint_seconds=0, on_epoch=stop, **OPTIONS)
    with caplog.at_level("INFO", "sbitools"):
        sbitools.train(small, run_dir=tmp_path, resume=True, **OPTIONS)
        sbitools.train(small, run_dir=tmp_path, resume=True, **OPTIONS)
    text = told(caplog, "training.loop")
    assert "resumed at epoch 0, step 2" in text
    assert "finished before (epochs), read back" in text


def test_options_that_are_chosen_are_named(small, caplog, monkeypatch):
    class Enough(Exception):
        pass

    def stop(*_):
        raise Enough

    monkeypatch.setattr(Job, "estimator", stop)  # what follows takes long
    with caplog.at_level("INFO", "sbitools"), pytest.raises(Enough):
        sbitools.train(small, run_dir="nowhere")
    text = told(caplog, "inference.train")
    assert "'batch_size': 128" in text
    assert "validation_fraction" in text


def test_warnings_of_the_logger_are_heard_by_those_who_ask_alone():
    script = "import sbitools, logging; logging.getLogger('sbitools.x').warning('told')"
    for first, expected in (("", ""), ("import logging; logging.basicConfig();", "told")):
        done = subprocess.run(
            [sys.executable, "-c", first + script], capture_output=True, text=True, check=True
        )
        assert (expected in done.stderr) if expected else done.stderr == ""
    assert any(isinstance(h, logging.NullHandler) for h in logging.getLogger("sbitools").handlers)
