"""One folder, one training: whatever was trained there, no other one is mixed with it."""

import itertools
import threading

import pytest

from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors, seeds, train
from sbitools.errors import RunDirError

SPACE = ParameterSpace([Parameter("mu", priors.Normal(0.0, 1.0))])
FLOW = {"flow": "zuko_maf", "flow_transforms": 1, "flow_hidden": 8, "features": 4}
SMALL = {"epochs": 1, "batch_size": 40, "workers": 1}
KINDS = {
    "npe": {"emulate": False},
    "nle": {"method": "nle"},
    "a flow": FLOW,
    "an ensemble": FLOW | {"ensemble": 2},
    "three stages": FLOW | {"pretrain_epochs": 1},
    "an ensemble in stages": FLOW | {"ensemble": 2, "pretrain_epochs": 1},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    theta, own = SPACE.design(120, 1), seeds.simulation_seeds(1, range(120))
    x = theta.float() + seeds.normal(own, (6,))
    return SimulationStore.from_arrays(
        tmp_path_factory.mktemp("one") / "s", theta, x, SPACE, FieldSpec("x", ("i",), (6,)),
        seeds=own, design="random",
    )  # fmt: skip


@pytest.fixture(scope="module")
def folders(store, tmp_path_factory):
    """A finished training of each kind."""
    root = tmp_path_factory.mktemp("runs")
    for name, options in KINDS.items():
        train(store, run_dir=root / name, **(SMALL | options))
    return root


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(KINDS, 2)))
def test_another_training_is_refused(store, folders, first, second):
    before = content(folders / first)
    for resume in (False, True):
        with pytest.raises(RunDirError, match="another run_dir"):
            train(store, run_dir=folders / first, resume=resume, **(SMALL | KINDS[second]))
    assert content(folders / first) == before


@pytest.mark.parametrize("name", KINDS)
def test_the_same_is_read_back_or_refused(store, folders, name):
    before = content(folders / name)
    with pytest.raises(RunDirError, match="resume=True"):
        train(store, run_dir=folders / name, resume=False, **(SMALL | KINDS[name]))
    train(store, run_dir=folders / name, **(SMALL | KINDS[name]))
    assert content(folders / name) == before


@pytest.mark.parametrize("second", ["a flow", "an ensemble", "npe"])
def test_the_first_stage_alone_is_a_training(store, tmp_path, second):
    def stop(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(store, run_dir=tmp_path, on_epoch=stop, checkpoint_seconds=0.0,
              **(SMALL | KINDS["three stages"] | {"epochs": 2}))  # fmt: skip
    assert list(tmp_path.glob("pretrain/state-*"))
    for resume in (False, True):
        with pytest.raises(RunDirError, match="another run_dir"):
            train(store, run_dir=tmp_path, resume=resume, **(SMALL | KINDS[second]))


def test_two_trainings_at_once(store, tmp_path):
    """Also before the first one has a state."""
    inside, go = threading.Event(), threading.Event()

    def wait(row):
        inside.set()
        go.wait(60)

    first = threading.Thread(
        target=lambda: train(store, run_dir=tmp_path, on_epoch=wait, **(SMALL | KINDS["nle"]))
    )
    first.start()
    assert inside.wait(60)
    for name in ("npe", "a flow"):
        with pytest.raises(RunDirError, match="training there"):
            train(store, run_dir=tmp_path, **(SMALL | KINDS[name]))
    go.set()
    first.join()
    assert not list(tmp_path.glob(".*lock"))


def test_indices_are_shown_in_brief(store, tmp_path):
    train(store, run_dir=tmp_path, indices=range(100), **(SMALL | KINDS["npe"]))
    for other in (range(90), range(1, 101)):
        with pytest.raises(RunDirError, match="indices") as error:
            train(store, run_dir=tmp_path, indices=other, resume=True, **(SMALL | KINDS["npe"]))
        assert len(str(error.value)) < 400
