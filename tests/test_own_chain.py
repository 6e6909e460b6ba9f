"""From files to a report by two commands, without an emulator."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sbitools.chain import Run
from sbitools.chain.stages import _emulated_once
from sbitools.cli import main
from sbitools.config import load_config

SHORT = ("emulator.method=none", "repair.method=none", "train.epochs=1", "train.emulate=false",
         "calibrate.n_draws=30")  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(2)
    theta = rng.uniform([0.0, -1.0], [2.0, 1.0], (80, 2))
    x = theta[:, :1] + theta[:, 1:] * np.arange(6) + 0.3 * rng.normal(size=(80, 6))
    np.save(path / "x.npy", x)
    np.save(path / "data.npy", x[0])
    rows = [f"{a!r},{b!r}" for a, b in theta.tolist()]
    (path / "theta.csv").write_text("\n".join(["level,slope", *rows]) + "\n")
    return path


def test_two_commands_make_a_report_and_a_third_finds_it_up_to_date(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    changes = [part for change in SHORT for part in ("--set", change)]
    assert main(["init", "--x", "x.npy", "--theta", "theta.csv", "--observation", "data.npy"]) == 0
    assert main(["run", "run.toml", *changes]) == 0
    results = folder / "run-results"
    page = (results / "report" / "report.html").read_text()
    assert "The priors have not been confirmed" in page
    assert 'id="observation"' in page
    assert 'id="emulator"' not in page
    verdicts = json.loads((results / "report" / "report.json").read_text())["verdicts"]
    assert [v["key"] for v in verdicts] == ["self"]  # nothing transfers
    assert not (results / "emulated").exists()
    assert len(np.load(results / "observation" / "draws.npz")["theta"]) == 4000
    capsys.readouterr()
    assert main(["run", "run.toml", *changes]) == 0
    assert capsys.readouterr().out.count("up to date") == 6

    # Confirmed priors make the report again, and nothing else.
    assert main(["run", "run.toml", *changes, "--set", "settings.priors_confirmed=true"]) == 0
    assert capsys.readouterr().out.count("up to date") == 5
    assert "not been confirmed" not in (results / "report" / "report.html").read_text()
    np.save(folder / "x.npy", np.load(folder / "x.npy") + 1.0)
    assert main(["train", "run.toml", *changes]) == 2  # other files, not in silence


def test_an_emulator_is_not_fitted_where_none_is_wanted(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    if not (folder / "run.toml").exists():
        assert main(["init", "--x", "x.npy", "--theta", "theta.csv"]) == 0
    for change, said in (("emulator.method=none", "an emulator to fit"),
                         ("emulator.method=diffusoin", "diffusion")):  # fmt: skip
        assert main(["fit", "run.toml", "--set", change]) == 2
        assert said in capsys.readouterr().err
    wrong = ["--set", "emulator.method=none", "--set", "emulator.steps=3"]
    assert main(["run", "run.toml", *wrong]) == 2
    assert "steps" in capsys.readouterr().err


def test_vectors_of_an_emulator_are_not_emulated_again(folder, monkeypatch):
    monkeypatch.chdir(folder)
    if not (folder / "run.toml").exists():
        assert main(["init", "--x", "x.npy", "--theta", "theta.csv"]) == 0

    def options(*changes):
        return _emulated_once(Run(load_config("run.toml", changes)))

    assert options() == {"emulate": False}
    assert options("emulator.method=none") == {}
    assert options("train.method=nre") == {}  # which has no such option
