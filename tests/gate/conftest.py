"""A line, two stores of it, and a posterior that was trained for one epoch: enough to be asked."""

import numpy as np
import pytest

import sbitools
from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors

SPACE = ParameterSpace(
    [Parameter("a", priors.Uniform(0.0, 1.0)), Parameter("b", priors.Uniform(0.0, 1.0))]
)
SPEC = FieldSpec("x", ("i",), (3,))
QUICK = {"flow": "zuko_nsf", "epochs": 1, "channels": 1, "flow_hidden": 4}
N = 60


def line(seed, n=N):
    theta = SPACE.design(n, seed).numpy()
    noise = np.random.default_rng(seed).normal(size=(n, 3))
    return theta, (theta @ np.ones((2, 3)) + 0.1 * noise).astype("f4")


def line_store(path, seed, n=N):
    seeds = np.arange(n) + 1000 * seed
    return SimulationStore.from_arrays(path, *line(seed, n), SPACE, SPEC, seeds=seeds)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("gate")


@pytest.fixture(scope="session")
def store(folder):
    return line_store(folder / "train", 1)


@pytest.fixture(scope="session")
def tests_store(folder):
    return line_store(folder / "test", 2)


@pytest.fixture(scope="session")
def posterior(store, folder):
    return sbitools.train(store, run_dir=folder / "run", **QUICK)
