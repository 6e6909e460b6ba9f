"""Whatever lies at a path: a saver writes there or says why not, and changes nothing foreign.

A save onto anything but a checkpoint of its kind is an error, each time it is tried, and through a
link, too: to expect that it succeeds somewhere else, or the second time, would be wrong.
"""

import os

import numpy as np
import pytest
import torch

import sbitools
from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors
from sbitools.checkpoint import checkpoint_kind, load_checkpoint, save_checkpoint
from sbitools.disk.files import write_atomic
from sbitools.errors import CheckpointError, SbitoolsError, StoreError, TrainingError
from sbitools.observation.observed import write_draws
from sbitools.repairs import repair
from tests.plugins.gaussian import LineEmulator

SPACE = ParameterSpace([Parameter("mu", priors.Normal(0.0, 1.0))])
FIELD = FieldSpec("x", ("i",), (4,))
THETA = SPACE.design(240, 1)
X = THETA.float() + torch.from_numpy(np.random.default_rng(0).normal(size=(240, 4))).float()
SMALL = {"flow": "zuko_maf", "flow_transforms": 1, "flow_hidden": 8, "features": 4, "epochs": 1}


def imported(path, n=120, first=0):
    return SimulationStore.from_arrays(
        path, THETA[first:][:n], X[first:][:n], SPACE, FIELD, design="random",
        seeds=np.arange(n) + first,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store, a posterior, a repaired one, an emulator and a calibration."""
    folder = tmp_path_factory.mktemp("made")
    store, fresh = imported(folder / "s"), imported(folder / "t", first=120)
    posterior = sbitools.train(store, run_dir=folder / "run", batch_size=60, **SMALL)
    return {
        "store": store, "posterior": posterior,
        "repaired": repair(posterior, fresh, "recalibrate", folds=2, n_draws=50),
        "result": sbitools.calibrate(posterior, fresh, n_draws=20, progress=False),
    }  # fmt: skip


def simulator():
    return sbitools.FunctionSimulator(
        lambda theta, seeds: theta.float().expand(-1, 4), SPACE, FIELD
    )


SAVERS = {
    "Posterior.save": lambda m, p: m["posterior"].save(p),
    "repaired.save": lambda m, p: m["repaired"].save(p),
    "Emulator.save": lambda m, p: LineEmulator().save(p),
    "save_checkpoint": lambda m, p: save_checkpoint(p, "posterior", {}, {"a": torch.ones(1)}),
    "from_arrays": lambda m, p: imported(p, 20),
    "create": lambda m, p: SimulationStore.create(p, SPACE, FIELD, THETA[:120], range(120)),
    "simulate": lambda m, p: sbitools.simulate(simulator(), 4, p, seed=1, workers=1,
                                               progress=False),
    "to_json": lambda m, p: m["result"].to_json(p),
    "to_html": lambda m, p: m["result"].to_html(p),
    "export_design": lambda m, p: m["store"].export_design(p.with_name(p.name + ".csv")),
    "write_atomic": lambda m, p: write_atomic(p, b"{}"),
}  # fmt: skip


def place(kind, path):
    """Put something at `path`; every file of it is foreign."""
    match kind:
        case "file":
            path.write_text("my notes")
        case "empty folder":
            path.mkdir()
        case "folder":
            (path / "deep").mkdir(parents=True)
            (path / "deep" / "thesis.tex").write_text("three years")
        case "folder with a manifest":
            path.mkdir()
            (path / "manifest.json").write_text('{"name": "web app"}')
        case "link to a folder":
            (path.parent / "scratch").mkdir()
            (path.parent / "scratch" / "old").write_text("1")
            path.symlink_to(path.parent / "scratch")
        case "link to nothing":
            path.symlink_to(path.parent / "nothing")
        case "checkpoint of another kind":
            save_checkpoint(path, "another", {"n": 1}, {"a": torch.ones(3)})
        case "store":
            imported(path)
        case "training run":
            save_checkpoint(path / "state-00000001", "training-state", {}, {"a": torch.ones(3)})
            (path / "metrics.jsonl").write_text('{"epoch": 0}\n')
        case "fifo":
            os.mkfifo(path)
        case "below a file":
            path.parent.rmdir()
            path.parent.write_text("a file")


THINGS = [
    "nothing", "file", "empty folder", "folder", "folder with a manifest", "link to a folder",
    "link to nothing", "checkpoint of another kind", "store", "training run", "fifo",
    "below a file",
]  # fmt: skip


def snapshot(folder):
    def content(p):
        if p.is_symlink():
            return p.readlink()
        return p.read_bytes() if p.is_file() else p.is_fifo()

    return {p.relative_to(folder): content(p) for p in folder.rglob("*")}


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("saver", SAVERS)
def test_nothing_foreign_changes(made, tmp_path, saver, thing):
    path = tmp_path / "user" / "target"
    path.parent.mkdir()
    place(thing, path)
    before, failed = snapshot(tmp_path), False
    try:
        SAVERS[saver](made, path)
    except SbitoolsError:
        failed = True
    after = snapshot(tmp_path)
    # The lowest level writes over a file that is named; all else stays as it was.
    over = {path.relative_to(tmp_path)} if thing == "file" and saver == "write_atomic" else set()
    lost = {k for k in before if k not in after or after[k] != before[k]} - over
    assert not lost
    if failed:
        assert set(after) == set(before)
    if thing in ("nothing", "empty folder") and not (thing == "empty folder" and saver in FILES):
        assert not failed


FILES = ("to_html", "to_json", "write_atomic")


def test_a_result_is_replaced_by_its_like_alone(made, tmp_path):
    for save in (made["result"].to_json, made["result"].to_html):
        path = tmp_path / "out"
        save(path)
        save(path)
        path.unlink()
    for name in ("store.json", "parts"):
        taken = made["store"].path / name
        with pytest.raises(SbitoolsError, match=r"expected a new file|folder"):
            made["result"].to_json(taken)
    made["store"].verify()


def test_a_checkpoint_of_the_same_kind_is_replaced(made, tmp_path):
    path = made["posterior"].save(tmp_path / "p")
    made["posterior"].save(path)
    link = tmp_path / "link"
    link.symlink_to(path)
    made["posterior"].save(link)
    assert link.is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "p"]
    with pytest.raises(CheckpointError, match="one of kind 'posterior'"):
        made["repaired"].save(path)
    (path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="other files in it"):
        made["posterior"].save(path)
    assert checkpoint_kind(path) == "posterior"


@pytest.mark.parametrize("name", ["", ".", "../project", "sub/.."])
def test_the_current_folder_is_never_replaced(tmp_path, monkeypatch, name):
    here = tmp_path / "project"
    (here / "sub").mkdir(parents=True)
    monkeypatch.chdir(here)
    with pytest.raises(CheckpointError, match="fix:"):
        save_checkpoint(name, "kind", {}, {})
    (here / "sub").rmdir()
    if name != "sub/..":
        with pytest.raises(CheckpointError, match="fix:"):
            save_checkpoint(name, "kind", {}, {})
    assert here.is_dir()
    assert list(tmp_path.iterdir()) == [here]


def test_saving_beside_a_training_and_above_simulations(tmp_path, monkeypatch):
    """A run's folder holds simulations and trainings: a posterior saved onto it is refused."""
    monkeypatch.chdir(tmp_path)
    store = imported("run/truth")
    posterior = sbitools.train(store, run_dir="run/posterior", batch_size=60, **SMALL)
    before = snapshot(tmp_path)
    for path in (
        "run",
        "run/truth",
        "run/posterior",
        next((tmp_path / "run/posterior").glob("s*")),
    ):
        with pytest.raises(CheckpointError, match="nothing there was changed"):
            posterior.save(path)
    assert snapshot(tmp_path) == before
    assert len(SimulationStore("run/truth").done) == 120


def test_a_name_that_begins_alike_is_left_alone(tmp_path):
    theirs = [
        ".post.final.123.tmp",
        ".post.final.0123abcd.tmp",
        ".post.notes.tmp",
        ".postal.1.tmp",
    ]
    for name in theirs:
        (tmp_path / name).mkdir()
    (tmp_path / ".post.99.tmp").mkdir()  # of a killed saver
    (tmp_path / ".post.77.tmp").mkdir()
    (tmp_path / ".post.77.tmp" / "mine").touch()
    save_checkpoint(tmp_path / "post", "kind", {}, {})
    save_checkpoint(tmp_path / "fit[1]", "kind", {}, {})
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {*theirs, ".post.77.tmp", "post", "fit[1]"}


def test_a_folder_with_the_name_of_the_older_checkpoint(tmp_path):
    save_checkpoint(tmp_path / "c", "kind", {"n": 1}, {})
    (tmp_path / ".c.old").mkdir()
    (tmp_path / ".c.old" / "thesis.tex").write_text("three years")
    with pytest.raises(CheckpointError, match="fix:"):
        save_checkpoint(tmp_path / "c", "kind", {"n": 2}, {})
    assert (tmp_path / ".c.old" / "thesis.tex").read_text() == "three years"
    assert load_checkpoint(tmp_path / "c", "kind")[0] == {"n": 1}


def test_draws_go_to_no_folder(tmp_path):
    (tmp_path / "d.csv").mkdir()
    with pytest.raises((SbitoolsError, OSError)):
        write_draws(tmp_path / "d.csv", ["a"], np.zeros((2, 1)))
    assert list((tmp_path / "d.csv").iterdir()) == []


def test_devices_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(StoreError, match="fix:"):
            write_atomic(path, b"x")
    with pytest.raises(TrainingError, match="fix:"):
        sbitools.train(imported(tmp_path / "s"), run_dir=tmp_path / "pipe", batch_size=60, **SMALL)
    assert (tmp_path / "pipe").is_fifo()


def test_a_link_to_a_file_stays_a_link(tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    write_atomic(tmp_path / "b", b"new")
    assert (tmp_path / "b").is_symlink()
    assert (tmp_path / "a").read_text() == "new"
