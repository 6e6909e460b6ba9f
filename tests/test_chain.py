"""The chain: stages are skipped, resumed, redone or refused for the right reasons."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sbitools.chain import STAGES, STORES, Run, run_chain, run_stage
from sbitools.config import load_config
from sbitools.errors import ConfigError, ObservationError, StoreError
from sbitools.memory import PeakMemory
from sbitools.stage import digest_path, read_record, record_work
from tests.plugins.run import finished, line_installed  # noqa: F401  (fixtures)


@pytest.fixture
def copy(finished, tmp_path) -> Path:  # noqa: F811
    """The configuration of a private copy of the finished run."""
    shutil.copytree(finished.parent / "results", tmp_path / "results")
    config = tmp_path / "run.toml"
    config.write_text(finished.read_text().replace(str(finished.parent), str(tmp_path)))
    return config


def events(run: Run, stages=tuple(STAGES)) -> dict[str, str]:
    seen: dict[str, str] = {}
    run_chain(run, stages, lambda stage, event, record: seen.update({stage.name: event}))
    return seen


def open_run(config: Path, *overrides: str) -> Run:
    return Run(load_config(config, overrides))


def test_every_stage_left_a_record(finished):  # noqa: F811
    run = open_run(finished)
    for name in STAGES:
        record = run.record(name)
        assert record is not None
        assert record.state == "done"
        assert record.outputs
        assert all(len(value) == 64 for value in record.outputs.values())
        assert record.seconds > 0
        assert record.peak_memory_mb > 50  # python with torch
        for stage in STAGES[name].needs:
            for key, value in run.record(stage).outputs.items():
                assert record.inputs[f"{stage}: {key}"] == value
    assert (
        digest_path(run.folder("reference/test")) == run.record("reference/test").outputs["store"]
    )


def test_seeds_of_stores_differ(finished):  # noqa: F811
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
    record = json.loads(run.record_path("emulator").read_text())
    record["outputs"]["checkpoint"] = "0" * 64  # as if it had been fitted to other simulations
    run.record_path("emulator").write_text(json.dumps(record))
    seen = events(run, ["emulated/test"])
    assert seen == {"emulated/test": "done"}


def test_an_interrupted_stage_goes_on(copy):
    run = open_run(copy)
    path = run.record_path("reference/test")
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"state": "running", "outputs": {}}))
    part = sorted((run.folder("reference/test") / "parts").iterdir())[0]
    kept = {p: p.stat().st_mtime_ns for p in part.parent.iterdir() if p != part}
    part.unlink()
    assert run_stage(run, STAGES["reference/test"]).outputs == record["outputs"]
    assert all(p.stat().st_mtime_ns == when for p, when in kept.items()), "only the lost part"


def test_a_stage_without_its_input_says_what_to_run(line_installed, copy):  # noqa: F811
    run = open_run(copy, f"run_dir='{copy.parent / 'empty'}'")
    with pytest.raises(ConfigError, match="sbitools train CONFIG"):
        run_chain(run, ["calibration"])


def test_options_of_later_stages_are_checked_first(copy):
    with pytest.raises(ConfigError, match="did you mean 'epochs'") as caught:
        open_run(copy, "train.epoch=3").check()
    assert caught.value.subject == "train.epoch"
    with pytest.raises(ObservationError):
        open_run(copy, "observe.0.kind=nois").check()
    with pytest.raises(ConfigError, match="noise"):
        open_run(copy, "settings.nois=3")


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


def test_peak_memory_sees_a_block():
    with PeakMemory(0.01) as memory:
        before = memory.megabytes
        block = np.ones(40_000_000, dtype=np.uint8)
        block.sum()
    # 38 MiB were written; half of it allows for pages that were free in the process before.
    assert memory.megabytes - before > 19
