"""What a user may do wrong at the command line: exit code 2, and a message that helps."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path

import numpy as np
import pytest

from sbitools.cli import main
from sbitools.commands.demo import demo_text
from sbitools.config import parse_config
from sbitools.errors import ObservationError
from sbitools.observation import observed
from sbitools.simulator import FieldSpec


def refused(arguments: list[str], capsys) -> str:
    """The message of a command that must refuse."""
    capsys.readouterr()
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "fix:" in err or "Usage" in err
    return err


def test_a_run_dir_that_cannot_be_made(config, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    err = refused(["simulate", str(config), "--set", f"run_dir={tmp_path / 'file' / 'x'}"], capsys)
    assert "Not a directory" in err


def test_draws_that_cannot_be_written_are_not_drawn(
    finished, field, tmp_path, capsys, monkeypatch
):  # fmt: skip
    monkeypatch.setattr(observed, "posterior_draws", lambda *_: pytest.fail("it sampled"))
    (tmp_path / "folder.csv").mkdir()
    arguments = ["sample", str(finished), "--observation", str(field), "--out"]
    for out in (field / "draws.csv", tmp_path / "folder.csv"):
        assert "--out" in refused([*arguments, str(out)], capsys)


def test_draws_come_with_the_verdict_on_their_posterior(finished, field, capsys):
    arguments = ["sample", str(finished), "--observation", str(field), "--n", "10"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "calibration: " in out
    assert "not calibrated yet" not in out
    assert main([*arguments, "--set", "calibrate.n_draws=70"]) == 0
    assert "not calibrated yet" in capsys.readouterr().out


def test_no_draws_from_a_posterior_of_other_settings(finished, field, capsys):
    err = refused(["sample", str(finished), "--observation", str(field), "--set",
                   "observe.0.sigma=0.3"], capsys)  # fmt: skip
    assert "run `sbitools train CONFIG` first, or undo the change" in err


def test_a_raw_field_is_recognised():
    raw, seen = (FieldSpec("x", ("i",), (n,), "float32", "mK") for n in (8, 4))
    for shape in ((8,), (1, 8)):
        with pytest.raises(ObservationError, match="add --simulated"):
            observed.check_field(np.zeros(shape, np.float32), seen, raw=raw)
    with pytest.raises(ObservationError, match="regrid"):
        observed.check_field(np.zeros(5, np.float32), seen, raw=raw)


def test_files_that_hold_no_field(finished, tmp_path, capsys):
    (tmp_path / "junk.npy").write_bytes(b"junk" * 40)
    np.savez(tmp_path / "two.npz", a=np.zeros(6), b=np.zeros(6))
    for name, message in (("absent.npy", "no such file"), ("absent.h5", "no such file"),
                          ("junk.npy", "numpy.save"), ("two.npz", "--dataset")):  # fmt: skip
        arguments = ["sample", str(finished), "--observation", str(tmp_path / name)]
        err = refused(arguments, capsys)
        assert message in err
        assert "pickle" not in err


def test_a_design_of_another_configuration_is_not_exported(config, tmp_path, capsys):
    design = tmp_path / "design.csv"
    command = ["simulate", str(config), "--store", "reference/test", "--export-design"]
    assert main([*command, str(design)]) == 0
    for change, message in (("reference.n_test=90", "simulations 90"), ("seed=6", "seed ")):
        err = refused([*command, str(tmp_path / "other.csv"), "--set", change], capsys)
        assert message in err
        assert not (tmp_path / "other.csv").exists()
    assert main([*command, str(design)]) == 0
    assert len(list(csv.DictReader(design.read_text().splitlines()))) == 80
    assert "folder" in refused([*command, str(tmp_path / "absent" / "a.csv")], capsys)


def imported(config: Path, store: str, *more: str) -> list[str]:
    return ["import", str(config), "--store", store, "--x", "x.npy", "--theta", "t.csv", *more]


def test_imports_that_cannot_work_are_refused_first(config, tmp_path, capsys):
    assert "--nonfinite" in refused(
        imported(config, "reference/train", "--nonfinite", "foo"), capsys
    )
    assert "--export-design" in refused(imported(config, "reference/validation"), capsys)
    more = imported(config, "reference/train", "--source", "s.npy")
    assert "leave it out" in refused(more, capsys)
    nbody = tmp_path / "nbody.toml"
    nbody.write_text(demo_text("nbody", True, [f"run_dir={str(tmp_path / 'run')!r}"]))
    assert "add --source FILE" in refused(imported(nbody, "reference/train"), capsys)
    assert not (tmp_path / "run").exists()


def test_the_demo_prints_what_it_would_run(capsys):
    command = ["demo", "--small", "--print-config"]
    assert main(command) == 0
    plain = parse_config(tomllib.loads(capsys.readouterr().out))
    assert main([*command, "--set", "train.epochs=7", "--out", "elsewhere"]) == 0
    changed = parse_config(tomllib.loads(capsys.readouterr().out))
    assert plain.run_dir == Path("demo-small-run")
    assert changed.run_dir == Path("elsewhere")
    assert changed.train == plain.train | {"epochs": 7}
    assert changed.observe == plain.observe
    refused([*command, "--set", "epochs=7"], capsys)
