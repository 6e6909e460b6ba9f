"""Resuming a run of training: by the same options, data and start, or not at all.

`resume` of a run with other options is refused, not trained anew: that would overwrite a result.
"""

import json

import pytest
import torch

from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors, seeds, train
from sbitools.errors import TrainingError
from sbitools.observation import Noise, Observation
from sbitools.training.run_state import RunState

SPACE = ParameterSpace([Parameter("mu", priors.Normal(0.0, 1.0))])
OPTIONS = {
    "flow": "zuko_maf", "flow_transforms": 1, "flow_hidden": 8, "features": 4, "epochs": 2,
    "batch_size": 40, "workers": 1,
}  # fmt: skip


def make(path, add=0.0):
    theta, own = SPACE.design(120, 1), seeds.simulation_seeds(1, range(120))
    x = add + theta.float() + seeds.normal(own, (6,))
    return SimulationStore.from_arrays(
        path, theta, x, SPACE, FieldSpec("x", ("i",), (6,)), seeds=own, design="random"
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("stale")
    store = make(root / "s")
    plain = train(store, run_dir=root / "plain", **OPTIONS)
    other = train(store, run_dir=root / "other", learning_rate=1e-2, **OPTIONS)
    tuned = train(store, run_dir=root / "tuned", start=plain, epochs=1)
    return root, store, plain, other, tuned


def weights(posterior):
    return torch.cat([v.flatten().float() for v in posterior.estimator.state_dict().values()])


def test_the_same_run_comes_back_whatever_does_not_matter(runs):
    root, store, plain, *_ = runs
    for change in ({}, {"workers": 2}, {"checkpoint_seconds": 1.0}, {"device": "cpu"}):
        again = train(store, run_dir=root / "plain", resume=True, **(OPTIONS | change))
        assert torch.equal(weights(again), weights(plain))


@pytest.mark.parametrize(
    "change",
    [
        {"pretrain_epochs": 3}, {"seed": 7}, {"epochs": 3}, {"flow_hidden": 9}, {"features": 5},
        {"validation_fraction": 0.3}, {"ema_decay": 0.5}, {"indices": list(range(100))},
        {"observe": Observation([Noise(0.5)])}, {"flow": "zuko_nsf"}, {"precision": "bfloat16"},
    ],
)  # fmt: skip
def test_another_option_is_refused(runs, change):
    root, store, *_ = runs
    with pytest.raises(TrainingError, match="another run_dir"):
        train(store, run_dir=root / "plain", resume=True, **(OPTIONS | change))


def test_other_simulations_are_refused(runs, tmp_path):
    root, *_ = runs
    with pytest.raises(TrainingError, match="another run_dir"):
        train(make(tmp_path / "s", 1.0), run_dir=root / "plain", resume=True, **OPTIONS)


def test_fine_tuning_of_another_posterior_is_refused(runs):
    root, store, plain, other, tuned = runs
    again = train(store, run_dir=root / "tuned", start=plain, epochs=1, resume=True)
    assert torch.equal(weights(again), weights(tuned))
    with pytest.raises(TrainingError, match="another run_dir"):
        train(store, run_dir=root / "tuned", start=other, epochs=1, resume=True)


def test_a_state_of_the_last_release_is_compared_by_what_it_has(tmp_path):
    module = torch.nn.Module()
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    now = {"epochs": 2, "option pretrain_epochs": 0, "start": None}
    before = RunState(tmp_path, {"epochs": 2, "workers": 3})
    before.save({"module": module}, optimizer, {"history": {}})
    assert RunState(tmp_path, now).load({"module": module}, optimizer) is not None
    with pytest.raises(TrainingError, match="epochs"):
        RunState(tmp_path, now | {"epochs": 3}).load({"module": module}, optimizer)
    assert json.dumps(now)


def test_a_relative_folder_is_that_of_the_moment(runs, tmp_path, monkeypatch):
    _, store, *_ = runs
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    train(store, run_dir="r", on_epoch=lambda row: monkeypatch.chdir(tmp_path / "elsewhere"),
          **OPTIONS)  # fmt: skip
    assert (tmp_path / "r" / "metrics.jsonl").exists()
    assert not list((tmp_path / "elsewhere").iterdir())
