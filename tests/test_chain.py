"""The chain: stages are skipped, resumed, redone or refused for the right reasons."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sbitools import inference
from sbitools.chain import STAGES, STORES, Run, run_chain, run_stage
from sbitools.chain.aside import Place
from sbitools.chain.attribution import observed_statistics
from sbitools.chain.records import differences, digest_path, read_record, record_work
from sbitools.cli import main
from sbitools.commands.console import epoch_printer
from sbitools.config import load_config
from sbitools.errors import ConfigError, ObservationError, StoreError


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    """The configuration of a private copy of the finished run."""
    shutil.copytree(finished.parent / "results", tmp_path / "results")
    config = tmp_path / "run.toml"
    config.write_text(finished.read_text().replace(str(finished.parent), str(tmp_path)))
    return config


def events(run: Run, stages=tuple(STAGES)) -> dict[str, str]:
    seen: dict[str, str] = {}
    run_chain(run, stages, lambda stage, event, record: seen.update({stage.name: event}))
    return seen


def forge(path: Path, **values) -> None:
    """Change a record, as if it had been written so by sbitools 0.1.0, without a hash."""
    record = json.loads(path.read_text()) | values
    record.pop("sha256")
    path.write_text(json.dumps(record))


def open_run(config: Path, *overrides: str) -> Run:
    return Run(load_config(config, overrides))


def test_every_stage_left_a_record(finished):
    run = open_run(finished)
    for name, stage in STAGES.items():
        if not stage.wanted(run):
            assert run.record(name) is None
            continue
        record = run.record(name)
        assert record is not None
        assert record.state == "done"
        assert record.outputs
        assert all(len(value) == 64 for value in record.outputs.values())
        assert record.seconds > 0
        assert record.peak_memory_mb > 50  # python with torch
        for needed in stage.needs(run):
            for key, value in run.record(needed).outputs.items() if run.record(needed) else ():
                assert record.inputs[f"{needed}: {key}"] == value
    assert (
        digest_path(run.folder("reference/test")) == run.record("reference/test").outputs["store"]
    )


def test_seeds_of_stores_differ(finished):
    run = open_run(finished)
    seeds = [run.store(name).seed for name in STORES]
    assert len(set(seeds)) == len(STORES)
    everything = np.concatenate([run.store(name).seeds.numpy() for name in STORES])
    assert len(np.unique(everything)) == len(everything)


def test_a_finished_run_is_left_alone(copy):
    before = {p: p.stat().st_mtime_ns for p in copy.parent.rglob("*") if p.is_file()}
    assert set(events(open_run(copy)).values()) == {"skip"}
    assert before == {p: p.stat().st_mtime_ns for p in copy.parent.rglob("*") if p.is_file()}


def test_a_changed_option_redoes_its_stage_and_what_follows(copy):
    seen = events(open_run(copy, "calibrate.n_draws=50"))
    redone = {name for name, event in seen.items() if event == "done"}
    assert redone == {"calibration", "report"}


def test_new_observation_retrains(copy):
    seen = events(open_run(copy, "observe.0.sigma=0.2"), ("emulated/train", "posterior"))
    assert seen == {"emulated/train": "skip", "posterior": "done"}


def test_costly_simulations_are_never_replaced(copy):
    marker = copy.parent / "results" / "reference" / "train"
    before = digest_path(marker)
    with pytest.raises(ConfigError, match="another run_dir") as caught:
        events(open_run(copy, "settings.noise=0.7"))
    assert "noise" in caught.value.expected
    with pytest.raises(ConfigError, match="another run_dir"):
        events(open_run(copy, "seed=6"))
    with pytest.raises(ConfigError, match="another run_dir"):
        events(open_run(copy, "reference.n_train=60"))
    assert digest_path(marker) == before


def test_more_simulations_extend_a_store(copy):
    run = open_run(copy, "reference.n_test=90")
    old = open_run(copy).store("reference/test").read([0, 79]).numpy()
    assert events(run, ["reference/test"]) == {"reference/test": "done"}
    store = run.store("reference/test")
    assert len(store) == 90
    assert np.array_equal(store.read([0, 79]).numpy(), old)


def test_a_new_emulator_replaces_its_simulations(copy):
    run = open_run(copy)
    emulator = run.emulator()  # as if it had been fitted to other simulations
    emulator.network.weights += 0.1
    checkpoint = emulator.save(run.folder("emulator") / "checkpoint")
    record = json.loads(run.record_path("emulator").read_text())
    outputs = record["outputs"] | {"checkpoint": digest_path(checkpoint)}
    forge(run.record_path("emulator"), outputs=outputs)
    seen = events(run, ["emulated/test"])
    assert seen == {"emulated/test": "done"}


def test_an_interrupted_stage_goes_on(copy):
    run = open_run(copy)
    path = run.record_path("reference/test")
    record = json.loads(path.read_text())
    forge(path, state="running", outputs={})
    part = sorted((run.folder("reference/test") / "parts").iterdir())[0]
    kept = {p: p.stat().st_mtime_ns for p in part.parent.iterdir() if p != part}
    part.unlink()
    assert run_stage(run, STAGES["reference/test"]).outputs == record["outputs"]
    assert all(p.stat().st_mtime_ns == when for p, when in kept.items()), "only the lost part"


def test_an_interrupted_choice_ends_with_the_same_weights(copy):
    """Not with the same hash of its checkpoint: a history has the seconds that each epoch took."""
    run = open_run(copy)
    folder = run.folder("choice")
    files = [folder / "checkpoint" / "weights.safetensors", folder / "result.json"]
    before = [file.read_bytes() for file in files]
    forge(run.record_path("choice"), state="running", outputs={})
    shutil.rmtree(folder / "checkpoint")
    shutil.rmtree(folder / "fit" / "tuned")
    files[1].unlink()
    assert events(run, ["choice"]) == {"choice": "done"}
    assert [file.read_bytes() for file in files] == before


def test_a_stage_without_its_input_says_what_to_run(line_installed, copy):
    run = open_run(copy, f"run_dir='{copy.parent / 'empty'}'")
    with pytest.raises(ConfigError, match="sbitools train CONFIG"):
        run_chain(run, ["calibration"])


def test_options_of_later_stages_are_checked_first(copy):
    with pytest.raises(ConfigError, match="did you mean 'epochs'") as caught:
        open_run(copy, "train.epoch=3").check()
    assert caught.value.subject == "train.epoch"
    with pytest.raises(ConfigError, match="one of npe"):
        open_run(copy, "train.method=snl").check()
    with pytest.raises(ConfigError, match="where it has no meaning"):
        open_run(copy, "train.symmetry=cube").check()
    with pytest.raises(ObservationError):
        open_run(copy, "observe.0.kind=nois").check()
    with pytest.raises(ObservationError, match="No such file") as missing:
        open_run(copy, "observe=[{kind='mask', file='absent.npy'}]").check()
    assert "absent.npy" in missing.value.got
    with pytest.raises(ConfigError, match="noise"):
        open_run(copy, "settings.nois=3")


@pytest.mark.parametrize("error", [RuntimeError("diverged"), KeyboardInterrupt()])
def test_a_failing_attempt_leaves_the_finished_result(copy, monkeypatch, error):
    run, changed = open_run(copy), open_run(copy, "train.epochs=4")
    folder, record = run.folder("posterior"), run.record("posterior")
    before = digest_path(folder)
    seen = []

    def fail(*_, run_dir, resume, **__):
        seen.append((resume, run_dir.exists()))
        run_dir.mkdir(exist_ok=True)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(inference, "train", fail)
        for _ in range(2):
            with pytest.raises(type(error)):
                events(changed, ["posterior"])
            assert digest_path(folder) == before
            assert run.record("posterior") == record
    assert seen == [(False, False), (True, True)], "the second attempt goes on with the first"
    assert events(run, ["posterior"]) == {"posterior": "skip"}
    assert events(changed, ["posterior"]) == {"posterior": "done"}
    assert digest_path(folder) != before
    assert [p.name for p in folder.parent.glob("posterior*")] == ["posterior"]


@pytest.mark.parametrize("moment", ["record moved", "folder moved", "attempt", "attempt moved"])
def test_a_killed_attempt_leaves_the_finished_result(copy, moment):
    run = open_run(copy)
    place = Place(run.folder("posterior"), run.record_path("posterior"))
    before, record = digest_path(place.folder), place.read()
    place.record.replace(place.old.record)
    if moment != "record moved":
        place.folder.replace(place.old.folder)
    if moment.startswith("attempt"):
        place.folder.mkdir()
        shutil.copy(place.old.record, place.record)
        forge(place.record, state="running", settings={"other": 1})
    if moment == "attempt moved":
        place.move(place.partial)
        place.old.folder.replace(place.folder)
    assert events(run, ["posterior"]) == {"posterior": "skip"}
    assert digest_path(place.folder) == before
    assert place.read() == record
    assert not place.old.folder.exists()
    assert not place.old.record.exists()


@pytest.mark.parametrize("again", [False, True])
def test_a_finished_successor_stays(copy, again):
    run = open_run(copy)
    place = Place(run.folder("posterior"), run.record_path("posterior"))
    shutil.copytree(place.folder, place.old.folder)  # killed while it removed the old result
    if again:
        shutil.copy(place.record, place.old.record)
    before = digest_path(place.folder)
    assert events(run, ["posterior"]) == {"posterior": "skip"}
    assert digest_path(place.folder) == before
    assert not place.old.folder.exists()


def test_a_repair_is_made_if_asked_for_and_shown_in_the_report(copy):
    from sbitools.calibration.check import Check
    from sbitools.repairs import RepairedPosterior, judgement

    wanted = ("repair.method=recalibrate", "repair.folds=2", "repair.n_draws=50",
              "repair.n=40")  # fmt: skip
    run = open_run(copy, *wanted)
    seen = events(run)
    assert {name for name, event in seen.items() if event == "done"} == {"repair", "report"}
    assert set(events(open_run(copy, *wanted)).values()) == {"skip"}
    folder = run.folder("repair")
    repaired = RepairedPosterior.load(folder / "checkpoint")
    result = json.loads((folder / "result.json").read_text())
    found = judgement(repaired)
    assert result["chosen"] == found.method == "recalibrate"
    assert found.n == 40
    checks = {check["name"]: Check.from_dict(check) for check in result["attribution"]}
    assert set(checks) == {"bias source", "bias of data", "bias explained by data",
                           "feature shift"}  # fmt: skip
    page = (run.folder("report") / "report.html").read_text()
    assert 'id="repair"' in page
    assert f"{found.gain:+.3f} ± " in page
    assert checks["bias of data"].summary in page
    assert f"draws from {'it' if found.helps else 'the posterior as it was trained'}." in page
    # Switched off again, nothing reads it any more.
    seen = events(open_run(copy))
    assert "repair" not in seen
    assert seen["report"] == "done"
    assert 'id="repair"' not in (run.folder("report") / "report.html").read_text()


def test_draws_are_those_of_a_repair_that_helps(copy, field, tmp_path, capsys, monkeypatch):
    from sbitools.chain import observing, records

    wanted = ["repair.method=recalibrate", "repair.folds=2", "repair.n_draws=50", "repair.n=40"]
    changed = [argument for value in wanted for argument in ("--set", value)]

    def told(name: str, *more: str) -> tuple[np.ndarray, str]:
        out = tmp_path / f"{name}.npz"
        command = ["sample", str(copy), "--observation", str(field), "--n", "200", "--out"]
        assert main([*command, str(out), *more]) == 0
        with np.load(out) as arrays:
            return arrays["theta"], capsys.readouterr().out

    before, out = told("before", *changed)
    assert "repair: asked for, and not up to date" in out
    assert main(["repair", str(copy), *changed]) == 0
    found = records.read_json(copy.parent / "results" / "repair" / "result.json")
    for chosen, helps in (("recalibrate", True), ("recalibrate", False), (None, False)):
        found["chosen"], found["tried"]["recalibrate"]["helps"] = chosen, helps
        monkeypatch.setattr(observing, "read_json", lambda path: found)
        draws, out = told("after", *changed)
        assert np.array_equal(draws, before) is not helps
        assert ("repair: recalibrate" in out) is helps
        assert ("repair: none helps" in out) is not helps
        assert ("calibration: before the repair, " in out) is helps
    for more in (["--as-trained", *changed], []):
        draws, out = told("as trained", *more)
        assert np.array_equal(draws, before)
        assert "repair: " not in out


def test_cubes_have_a_spectrum_and_short_vectors_their_entries():
    functions, at = observed_statistics((8, 8, 8), 100.0)
    field = np.random.default_rng(0).standard_normal((2, 8, 8, 8)).astype(np.float32)
    assert functions["power"](field).shape == (2, len(at["power"]))
    # The first shell has modes from one fundamental to one and a half.
    assert 1 < at["power"][0] * 100 / (2 * np.pi) < 1.5
    functions, at = observed_statistics((5,))
    assert np.array_equal(functions["data"](field[0, 0, :, :5]), field[0, 0, :, :5])
    assert len(at["data"]) == 5
    assert observed_statistics((8, 8, 4)) == ({}, {})


@pytest.mark.parametrize("stage", ["calibration", "report"])
def test_results_of_other_settings_are_not_used(copy, stage):
    with pytest.raises(ConfigError, match="stage 'posterior'") as caught:
        run_chain(open_run(copy, "train.epochs=99"), [stage], again=stage == "report")
    assert "options.epochs = 99" in caught.value.expected
    assert "options.epochs = 3" in caught.value.got
    assert caught.value.fix == "run `sbitools train CONFIG` first, or undo the change"


def test_results_of_earlier_results_are_not_used(copy):
    run = open_run(copy)
    events(open_run(copy, "emulated.n_train=410"), ["emulated/train"])
    with pytest.raises(ConfigError, match=r"n = 400.*sbitools simulate CONFIG"):
        events(run, ["calibration"])
    with pytest.raises(ConfigError, match=r"present emulated/train.*sbitools train CONFIG"):
        events(open_run(copy, "emulated.n_train=410"), ["calibration"])


def test_differences_are_named_by_path():
    was, now = {"a": 1, "b": {"c": 2, "d": [3]}}, {"b": {"c": 2, "d": [4]}, "e": Path("f")}
    assert differences(was, now) == {"b.d": ([3], [4]), "e": (None, "f"), "a": (1, None)}


def test_fit_and_train_show_their_epochs(copy, capsys):
    config = load_config(copy, ["emulator.any=1", "train.epochs=2"])
    for stage in ("emulator", "emulated/train", "posterior"):
        run_chain(Run(config, progress=stage != "emulated/train"), [stage])
    out = capsys.readouterr().out
    assert "  epoch 1  loss 0.2" in out
    assert "  epoch 2/2  loss " in out
    epoch_printer(20)({"epoch": 2, "train_loss": 1.234567, "validation_loss": 1.3, "seconds": 41})
    assert capsys.readouterr().out == "  epoch 3/20  loss 1.235  validation 1.3  0:41\n"


def test_a_damaged_record_is_a_typed_error(copy):
    run = open_run(copy)
    run.record_path("report").write_text("{")
    with pytest.raises(StoreError, match="stage record"):
        run.record("report")


def test_a_failing_stage_stays_unfinished(tmp_path):
    def work():
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        record_work(tmp_path / "a.json", "a", {"x": 1}, {}, work)
    record = read_record(tmp_path / "a.json")
    assert record is not None
    assert record.state == "running"


def test_digest_sees_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("1")
    first = digest_path(tmp_path)
    (tmp_path / "a").write_text("2")
    second = digest_path(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, digest_path(tmp_path)}) == 3


_BLOCK = """
import numpy as np
from sbitools.chain.memory import PeakMemory
with PeakMemory(0.01) as memory:
    before = memory.megabytes
    block = np.ones(40_000_000, dtype=np.uint8)
    block.sum()
print(memory.megabytes - before)
"""


def test_peak_memory_sees_a_block():
    # A process of its own: children of earlier tests may end, and free their memory, meanwhile.
    done = subprocess.run(
        [sys.executable, "-c", _BLOCK], capture_output=True, text=True, check=True
    )
    # 38 MiB were written; half of it allows for pages that were free in the process before.
    assert float(done.stdout) > 19
