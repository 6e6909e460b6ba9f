"""What is taken for a number, a list of steps or parameters, a store, a device."""

import json

import numpy as np
import pytest
import torch

import sbitools
from sbitools import (
    FieldSpec,
    FunctionSimulator,
    Parameter,
    ParameterSpace,
    Posterior,
    SimulationStore,
    priors,
)
from sbitools.errors import ConfigError, PosteriorError, StoreError
from sbitools.inference.methods import find_method
from sbitools.inference.options import parse_options
from sbitools.observation import Noise
from sbitools.training import TrainingOptions

from .conftest import QUICK, SPACE, SPEC, line


def test_numbers_of_numpy_and_torch_are_numbers(store, posterior, tests_store, tmp_path):
    _, x = line(1)
    assert posterior.sample(x[:1], 1e3).shape == (1, 1000, 2)
    assert torch.equal(posterior.sample(x[:1], np.int64(5), 1), posterior.sample(x[:1], 5, 1))
    with pytest.raises(PosteriorError, match="n=1000"):
        posterior.sample(x[:1], (1000,))
    spec = FieldSpec("x", "i", 3, dtype=x.dtype)
    assert spec == SPEC == FieldSpec("x", ["i"], np.array([3]), dtype=torch.float32)
    assert TrainingOptions(epochs=1e1, learning_rate=np.float32(0.5), seed=np.int64(3)) == (
        TrainingOptions(epochs=10, learning_rate=0.5, seed=3)
    )
    for wrong in ({"epochs": True}, {"epochs": "3"}, {"learning_rate": float("inf")},
                  {"learning_rate": True}, {"seed": False}):  # fmt: skip
        with pytest.raises(ConfigError, match="option"):
            parse_options(find_method("npe"), wrong)
    trained = sbitools.train(
        store.path, observe=[Noise(0.1 * x.std())], run_dir=tmp_path / "r", batch_size=np.int32(8),
        indices=list(range(30)), **QUICK,
    )  # fmt: skip
    again = Posterior.load(trained.save(tmp_path / "p"))
    assert again.observation.digest() == trained.observation.digest()
    result = sbitools.calibrate(posterior, str(tests_store.path), n_draws=np.int64(3),
                                checks=["recovery"], progress=False)  # fmt: skip
    assert result.counts["emulated"]["draws"] == 3


def test_a_campaign_of_numpy_numbers_is_the_campaign_of_its_numbers(tmp_path):
    simulator = FunctionSimulator(lambda t, s: t.float() @ torch.ones(2, 3), list(SPACE), SPEC)
    options = {"progress": False, "workers": np.int64(1), "task_size": np.int64(2)}
    one = sbitools.simulate(simulator, np.int64(4), tmp_path / "a", seed=np.int64(1), **options)
    assert one.digest() == sbitools.simulate(
        simulator, 4.0, tmp_path / "a", seed=1, workers=1, progress=False
    ).digest()  # fmt: skip
    grouped = SimulationStore.from_arrays(
        tmp_path / "g", *line(1), SPACE, SPEC, group_size=np.int64(2)
    )
    assert grouped.group_size == 2


def test_probabilities_out_of_an_array_are_kept_as_numbers():
    half = priors.Categorical(np.array([0.5, 0.5], "f4"))
    assert half == priors.Categorical((0.5, 0.5))
    third = priors.Categorical(np.full(3, 1 / 3, "f4"))
    assert sum(third.probabilities) == pytest.approx(1, abs=1e-15)
    space = ParameterSpace([Parameter("m", third, categories=("u", "v", "w"))])
    json.dumps(space.to_dict(), allow_nan=False)


@pytest.mark.parametrize("ends", [(1e-200, 1e200), (5e-324, 1e308), (1.0, 1.0000001)])
def test_a_log_uniform_prior_of_any_range_has_a_density(ends):
    prior = priors.LogUniform(*ends)
    theta = torch.tensor([np.sqrt(ends[0]) * np.sqrt(ends[1])], dtype=torch.float64)
    width = np.log(ends[1]) - np.log(ends[0])
    assert float(prior.log_prob(theta)) == pytest.approx(-np.log(theta.item()) - np.log(width))


def test_a_store_is_opened_by_its_path_and_nothing_else_is(store, tests_store, posterior):
    with pytest.raises(StoreError, match="no-such-store"):
        sbitools.train("no-such-store", run_dir="r")
    with pytest.raises(PosteriorError, match=r"Posterior\.load"):
        sbitools.calibrate("p", tests_store)


def test_a_device_that_is_not_there_is_named(posterior, folder):
    path = posterior.save(folder / "device")
    for device in ("gpu", "cpu:7x", None, 3, *([] if torch.cuda.is_available() else ["cuda"])):
        with pytest.raises(ConfigError, match=r"device: expected .*cpu.*fix: "):
            Posterior.load(path, device)
    assert Posterior.load(path, torch.device("cpu"))
