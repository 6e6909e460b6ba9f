"""`sbitools info` and `sbitools systems`: what is there is said, and what is not is an error."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors
from sbitools.checkpoint import save_checkpoint
from sbitools.cli import USER_ERROR, main

SPACE = ParameterSpace([Parameter("Omega_m", priors.Uniform(0.1, 0.5))])


@pytest.fixture
def said(capsys):
    def run(*arguments) -> str:
        assert main([str(a) for a in arguments]) == 0
        return capsys.readouterr().out

    return run


def test_a_store(tmp_path, said):
    SimulationStore.from_arrays(
        tmp_path / "store", torch.full((3, 1), 0.3), torch.zeros(3, 4), SPACE,
        FieldSpec("power", ("k",), (4,), unit="Mpc"),
    )  # fmt: skip
    text = said("info", tmp_path / "store")
    assert "3 done" in text
    assert "power (k 4), float32, Mpc" in text
    assert "Omega_m: Uniform(low=0.1, high=0.5)" in text


def test_a_checkpoint_and_the_stage_that_has_one(tmp_path, said):
    config = {"parameters": SPACE.to_dict(), "options": {"flow": "zuko_nsf"}}
    save_checkpoint(tmp_path / "checkpoint", "posterior", config, {"w": torch.zeros(2)})
    for path in (tmp_path / "checkpoint", tmp_path):
        text = said("info", path)
        assert "kind: posterior" in text
        assert "parameters: Omega_m" in text
        assert "flow = zuko_nsf" in text


def test_a_run(tmp_path, said):
    (tmp_path / "stages").mkdir()
    for i, (name, state) in enumerate((("zeta", "done"), ("alpha", "running"))):
        record = {"name": name, "state": state, "settings": {}, "inputs": {}, "outputs": {},
                  "started": f"2026-01-0{i + 1}", "seconds": 90.0, "peak_memory_mb": 1.0,
                  "notes": {}}  # fmt: skip
        (tmp_path / "stages" / f"{name}.json").write_text(json.dumps(record))
    lines = said("info", tmp_path).splitlines()
    assert lines[1].split() == ["zeta", "done", "1.5", "min"]  # in the order of time
    assert lines[2].split() == ["alpha", "running", "not", "finished"]
    assert lines[3] == "no report yet: sbitools run"


def test_fields(tmp_path, said):
    x = np.arange(24.0).reshape(4, 6)
    x[1, 0], x[3] = np.nan, x[2]
    np.save(tmp_path / "x.npy", x)
    text = said("info", tmp_path / "x.npy")
    assert "4 of shape (6,), float64" in text
    assert "1 with values that are not finite" in text
    assert "1 repeat an earlier one" in text


@pytest.mark.parametrize("name", ["nothing", "run.toml", "empty"])
def test_what_is_none_of_these_is_an_error(tmp_path, capsys, name):
    (tmp_path / "run.toml").write_text("a = 1")
    (tmp_path / "empty").mkdir()
    assert main(["info", str(tmp_path / name)]) == USER_ERROR
    assert "expected:" in capsys.readouterr().err


def test_what_is_installed_is_listed(said):
    text = said("systems")
    assert "nbody" in text
    assert "diffusion" in text
    assert "sbitools.embeddings" in text
