"""The table of methods: filled from above, read by those who know no method."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import sbitools
from sbitools.errors import ConfigError
from sbitools.inference import METHODS, methods
from sbitools.inference.methods import enter_methods, find_method
from sbitools.training import TrainingHistory


def test_the_table_has_every_method_and_its_fit():
    assert set(methods._KNOWN) == set(METHODS)
    for name in METHODS:
        method = find_method(name)
        assert method.name == name
        assert callable(method.fit)
        assert method.options().method == name


def test_a_method_that_train_never_heard_of_brings_its_own_fit(store, tmp_path, monkeypatch):
    asked = []

    def fit(job, network, run_dir, resume, on_epoch):
        asked.append((job.method.name, run_dir, resume))
        return TrainingHistory(stopped="at once"), {"told": 1}

    def adapt(options, spec, n):
        return options.model_copy(update={"seed": n})

    monkeypatch.setattr(methods, "_KNOWN", dict(methods._KNOWN))
    new = replace(find_method("npe"), name="new", fit=fit, adapt=adapt,
                  unused=lambda options, spec: {"features": "ask for less"})  # fmt: skip
    enter_methods({"new": new})
    options = {"flow": "zuko_maf", "flow_hidden": 8}
    posterior = sbitools.train(store, "new", run_dir=tmp_path / "r", **options)
    assert asked == [("new", tmp_path / "r", True)]
    assert posterior.info["told"] == 1
    assert posterior.info["options"]["seed"] == len(store.done)
    assert posterior.sample(torch.zeros(1, 2), 5, seed=0).shape == (1, 5, 2)
    with pytest.raises(ConfigError, match=r"features.* or ask for less"):
        sbitools.train(store, "new", run_dir=tmp_path / "s", features=3, **options)


def test_saved_posteriors_of_every_kind_open_without_what_made_them():
    script = (
        "import sys; from sbitools.inference.posterior import Posterior; "
        "from sbitools.inference.saved import _READERS; print(*_READERS, sep=';'); "
        "print(*[m for m in ('sbitools.repairs', 'sbitools.calibration') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          check=True, timeout=120)  # fmt: skip
    assert done.stdout.splitlines() == ["repaired posterior", ""]
