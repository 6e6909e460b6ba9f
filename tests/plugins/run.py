"""An installed test system, and a finished run of the chain that several test files share."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from sbitools.cli import main

from . import gaussian

CONFIG = """
system = "line"
run_dir = "{run_dir}"
seed = 5
workers = 1

[settings]
noise = 0.5

[reference]
n_train = 120
n_validation = 10
n_test = 80

[emulated]
n_train = 400
n_test = 80

[[observe]]
kind = "noise"
sigma = 0.1

[train]
flow = "zuko_nsf"
epochs = 3
batch_size = 100
flow_transforms = 1
flow_hidden = 16
features = 8

[calibrate]
n_draws = 60

[report]
title = "<script>alert(1)</script> & co"
examples = 2
"""

_FINISHED: dict[str, Path] = {}


def install(folder: Path) -> Path:
    """A distribution in `folder` whose entry point names the test system."""
    info = folder / "line_system-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: line-system\nVersion: 1.0\n")
    lines = [
        "[sbitools.systems]",
        "line = tests.plugins.gaussian:system",
        "broken = tests.plugins.absent:system",
        "wrong = tests.plugins.gaussian:SPACE",
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def line_installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test system, found through its entry point as any other."""
    if "site" not in _FINISHED:
        _FINISHED["site"] = install(tmp_path_factory.mktemp("site"))
        sys.path.insert(0, str(_FINISHED["site"]))
    return _FINISHED["site"]


@pytest.fixture(scope="session")
def finished(line_installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configuration file of a run whose every stage is done, by the commands a user types.

    Tests that change the run copy its folder first.
    """
    if "run" not in _FINISHED:
        folder = tmp_path_factory.mktemp("run")
        config = folder / "run.toml"
        config.write_text(CONFIG.format(run_dir=folder / "results"))
        for command in ("simulate", "fit", "simulate", "train", "calibrate", "report"):
            assert main([command, str(config)]) == 0
        _FINISHED["run"] = config
    return _FINISHED["run"]


@pytest.fixture
def config(line_installed: Path, tmp_path: Path) -> Path:
    """Configuration file of a run of which nothing is done."""
    path = tmp_path / "run.toml"
    path.write_text(CONFIG.format(run_dir=tmp_path / "results"))
    return path


@pytest.fixture
def field(tmp_path: Path) -> Path:
    """A field of the test system's shape, as a user's file."""
    path = tmp_path / "field.npy"
    np.save(path, np.linspace(0, 1, gaussian.N, dtype=np.float32))
    return path
