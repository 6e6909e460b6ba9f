"""A conjugate Gaussian problem: x = theta + noise, whose posterior is known exactly."""

import pytest
import torch

import sbitools
from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors, seeds

NOISE = 0.5
SPEC = FieldSpec("x", ("i",), (2,))
SPACE = ParameterSpace(
    [Parameter("a", priors.Normal(0, 1)), Parameter("b", priors.Uniform(-1.0, 1.0))]
)


def gaussian_store(path, n=2000, seed=1):
    theta = SPACE.design(n, seed)
    noise_seeds = torch.from_numpy(seeds.simulation_seeds(seed, range(n)))
    x = theta.float() + NOISE * seeds.normal(noise_seeds, (2,))
    return SimulationStore.from_arrays(path, theta, x, SPACE, SPEC, seeds=noise_seeds)


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    return gaussian_store(tmp_path_factory.mktemp("store") / "train")


@pytest.fixture(scope="session")
def posterior(store, tmp_path_factory):
    return sbitools.train(
        store, run_dir=tmp_path_factory.mktemp("run"), epochs=12, batch_size=64,
        flow_hidden=32, features=8, channels=4, learning_rate=3e-3,
        flow="zuko_nsf",
    )  # fmt: skip
