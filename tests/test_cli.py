"""The command line: fast help, exit codes, messages without traceback, and the work itself."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import sbitools
from sbitools import cli
from sbitools.cli import main
from tests.plugins import gaussian

COMMANDS = ("demo", "simulate", "import", "fit", "train", "sample", "calibrate", "repair",
            "report")  # fmt: skip


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    assert main([command, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_help_imports_nothing_heavy():
    script = (
        "import sys; from sbitools.cli import main; main(['--help']); "
        "print([m for m in ('torch', 'numpy', 'pydantic', 'h5py', 'matplotlib', 'sbi') "
        "if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          check=True, timeout=60)  # fmt: skip
    assert done.stderr.strip() == "[]"


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"sbitools {sbitools.__version__}"


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["simulate"], ["train", "absent.toml"], ["demo", "--system", "absent"],
     ["fit", "x.toml", "--unknown"]],
)  # fmt: skip
def test_user_errors_are_two_without_traceback(arguments, capsys):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err
    assert "Traceback" not in err


def test_a_typo_is_named_with_its_fix(config, capsys):
    assert main(["simulate", str(config), "--set", "reference.n_trian=3"]) == 2
    err = capsys.readouterr().err
    assert "error: reference.n_trian" in err
    assert "fix:" in err
    assert "did you mean 'n_train'?" in err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [(KeyboardInterrupt(), 130, "interrupted"), (ZeroDivisionError("oops"), 1, "Traceback")],
)
def test_interrupts_and_bugs_have_their_own_codes(
    error, code, message, config, capsys, monkeypatch
):
    def fail(*_):
        raise error

    monkeypatch.setattr(cli, "_run", fail)
    assert main(["train", str(config)]) == code
    assert message in capsys.readouterr().err


def test_a_stopped_campaign_is_an_interrupt(config, monkeypatch):
    from sbitools.campaign import CampaignInterrupted

    def fail(*_):
        raise CampaignInterrupted("campaign", expected="all", got="an interrupt", fix="again")

    monkeypatch.setattr(cli, "_run", fail)
    assert main(["simulate", str(config)]) == 130


def test_the_demo_prints_its_configuration(capsys):
    assert main(["demo", "--print-config", "--small"]) == 0
    assert 'system = "nbody"' in capsys.readouterr().out


def test_a_repair_that_was_not_asked_for_says_how_to_ask(config, capsys):
    assert main(["repair", str(config)]) == 2
    err = capsys.readouterr().err
    assert "error: repair.method" in err
    assert "[repair]" in err
    assert main(["repair", str(config), "--set", "repair.method=auto"]) == 2
    assert "stage 'posterior'" in capsys.readouterr().err


def test_stages_out_of_order_say_what_to_run(config, capsys):
    assert main(["train", str(config)]) == 2
    assert "sbitools simulate CONFIG" in capsys.readouterr().err


def test_the_verdict_is_printed(finished, capsys):
    assert main(["report", str(finished)]) == 0
    out = capsys.readouterr().out
    assert "Self-consistency:" in out
    assert "Transfer to the reference simulator:" in out
    assert "report.html" in out.replace("\n", "")


# --- sample -------------------------------------------------------------------------------------


def test_sample_writes_the_draws_it_summarises(finished, field, tmp_path, capsys):
    files = [tmp_path / "draws.csv", tmp_path / "draws.npz"]
    for file in files:
        assert main(["sample", str(finished), "--observation", str(field), "--n", "500",
                     "--out", str(file), "--unit", "mK"]) == 0  # fmt: skip
    out = capsys.readouterr().out
    with files[0].open() as stream:
        head, *rows = csv.reader(stream)
    draws = np.array(rows, dtype=float)
    with np.load(files[1]) as arrays:
        assert np.array_equal(arrays["theta"], draws), "the same seed gives the same draws"
        assert arrays["names"].tolist() == head == ["mu", "slope"]
    assert draws.shape == (500, 2)
    assert np.all(np.abs(draws[:, 1]) <= 1), "inside the prior"
    assert f"{draws[:, 0].mean():.4g}" in out


def test_simulated_fields_get_the_observation_model(finished, field, tmp_path):
    means = []
    for options in ([], ["--simulated"], ["--simulated"], ["--simulated", "--seed", "1"]):
        out = tmp_path / "draws.npz"
        assert main(["sample", str(finished), "--observation", str(field), "--out", str(out),
                     *options]) == 0  # fmt: skip
        means.append(np.load(out)["theta"].mean(0))
    assert np.array_equal(means[1], means[2])
    assert not np.array_equal(means[0], means[1])
    assert not np.array_equal(means[1], means[3])


def write(path: Path, array: np.ndarray, unit: str | None = None) -> Path:
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez(path, field=array)
    else:
        with h5py.File(path, "w") as file:
            file["x"] = array
            if unit:
                file["x"].attrs["units"] = unit
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_sample_reads_three_formats(finished, tmp_path, suffix):
    file = write(tmp_path / f"a{suffix}", np.zeros((1, gaussian.N)), "mK")
    assert main(["sample", str(finished), "--observation", str(file), "--n", "10"]) == 0


def bad(values: np.ndarray, index: int, value: float) -> np.ndarray:
    values[index] = value
    return values


@pytest.mark.parametrize(
    ("array", "unit", "message"),
    [
        (np.zeros(gaussian.N + 1, np.float32), None, "shape of the observation"),
        (np.zeros((2, gaussian.N), np.float32), None, "shape of the observation"),
        (np.zeros(gaussian.N, complex), None, "dtype of the observation"),
        (bad(np.zeros(gaussian.N), 4, np.nan), None, "the first at (4,)"),
        (bad(np.zeros(gaussian.N), 0, np.inf), None, "1 NaN or Inf"),
        (np.zeros(gaussian.N, np.float32), "K", "unit of the observation"),
    ],
)
def test_sample_refuses_fields_that_do_not_fit(
    finished, tmp_path, array, unit, message, capsys
):  # fmt: skip
    file = write(tmp_path / "a.h5", array, unit)
    assert main(["sample", str(finished), "--observation", str(file)]) == 2
    assert message in capsys.readouterr().err


def test_sample_refuses_what_it_cannot_read_or_write(finished, field, tmp_path):
    torn = tmp_path / "torn.npy"
    torn.write_bytes(field.read_bytes()[:-5])
    arguments = ["sample", str(finished), "--observation"]
    assert main([*arguments, str(torn)]) == 2
    assert main([*arguments, str(tmp_path / "absent.npy")]) == 2
    assert main([*arguments, str(field), "--out", str(tmp_path / "draws.xls")]) == 2


def test_sample_needs_a_posterior(config, field, capsys):
    assert main(["sample", str(config), "--observation", str(field)]) == 2
    assert "sbitools train" in capsys.readouterr().err


# --- import and campaigns that run elsewhere ----------------------------------------------------


def test_an_existing_set_is_imported_and_used(config, tmp_path, capsys):
    import torch

    theta = gaussian.SPACE.design(70, 3)
    x = gaussian.Line(0.5)(theta, torch.arange(1, 71))
    np.save(tmp_path / "x.npy", x.numpy())
    lines = ["slope,mu", *(f"{b!r},{a!r}" for a, b in theta.tolist())]
    (tmp_path / "theta.csv").write_text("\n".join(lines))
    arguments = ["import", str(config), "--store", "reference/train", "--x",
                 str(tmp_path / "x.npy"), "--theta", str(tmp_path / "theta.csv")]  # fmt: skip
    assert main([*arguments, "--unit", "K"]) == 2
    assert main([*arguments, "--unit", "mK"]) == 0
    assert "70 imported" in capsys.readouterr().out
    assert main(arguments) == 2, "it is there already"
    assert main(["simulate", str(config), "--store", "reference/train"]) == 0
    assert "up to date" in capsys.readouterr().out
    store = sbitools.SimulationStore.open(tmp_path / "results" / "reference" / "train")
    assert np.array_equal(store.theta.numpy(), theta.numpy())


def test_import_refuses_nan_and_other_lengths(config, tmp_path):
    theta = gaussian.SPACE.design(4, 3).numpy()
    np.savez(tmp_path / "theta.npz", theta=theta, names=np.array(["mu", "slope"]))
    for x in (np.full((4, gaussian.N), np.nan, np.float32), np.zeros((3, gaussian.N), np.float32)):
        np.save(tmp_path / "x.npy", x)
        files = ["--x", str(tmp_path / "x.npy"), "--theta", str(tmp_path / "theta.npz")]
        assert main(["import", str(config), "--store", "reference/train", *files]) == 2
        assert not (tmp_path / "results" / "reference" / "train").exists()


def test_a_campaign_elsewhere_equals_one_here(config, finished, tmp_path, capsys):
    import torch

    design = tmp_path / "design.csv"
    store = ["--store", "reference/validation"]
    assert main(["simulate", str(config), *store, "--export-design", str(design)]) == 0
    rows = list(csv.DictReader(design.read_text().splitlines()))
    assert len(rows) == 10
    folder = tmp_path / "results-of-the-cluster"
    folder.mkdir()
    line = gaussian.Line(0.5)
    arguments = ["import", str(config), *store, "--results", str(folder)]
    for row in rows:
        theta = torch.tensor([[float(row["mu"]), float(row["slope"])]], dtype=torch.float64)
        x = line(theta, torch.tensor([int(row["seed"])]))[0].numpy()
        np.save(folder / f"result_{int(row['index']):06d}.npy", x)
        if row["index"] == "3":
            assert main(arguments) == 0
            assert "4 added, 6 of 10 still missing" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "complete" in capsys.readouterr().out
    here = finished.parent / "results" / "reference" / "validation"
    there = tmp_path / "results" / "reference" / "validation"
    digests = [sbitools.SimulationStore.open(path).digest() for path in (here, there)]
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    "arguments",
    [["import", "CONFIG", "--store", "reference/train"],
     ["import", "CONFIG", "--store", "reference", "--results", "x"],
     ["simulate", "CONFIG", "--store", "emulated/train"],
     ["simulate", "CONFIG", "--export-design", "x.csv"]],
)  # fmt: skip
def test_bad_combinations_are_refused(config, arguments):
    assert main([str(config) if a == "CONFIG" else a for a in arguments]) == 2


def test_a_machine_can_read_the_verdict(finished, tmp_path):
    shutil.copy(finished.parent / "results" / "report" / "report.json", tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert {box["key"] for box in report["verdicts"]} == {"self", "transfer"}
    assert {"emulated", "reference", "transfer"} == set(report["checks"])
