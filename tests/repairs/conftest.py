"""A posterior trained on an emulator that is biased by a known amount, and reference stores."""

import pytest
import torch

import sbitools
from sbitools import SimulationStore, seeds
from tests.oracles.gaussian import LinearGaussian

MODEL = LinearGaussian(n_parameters=2, n_data=4, dtype="float32")

# The emulator's data are 0.8 sigma of the noise too high in two of four places, and its
# noise is too small.
OFFSET = torch.tensor([0.8, 0.8, 0.0, 0.0])
NOISE = 0.75

TRAINING = {
    "flow": "zuko_nsf", "epochs": 8, "batch_size": 64, "flow_hidden": 32, "features": 8,
    "channels": 4, "flow_transforms": 2, "learning_rate": 4e-3,
}  # fmt: skip


def make_store(path, n, seed, emulated=False, group_size=1):
    theta = MODEL.parameters.design(n, seed)
    numbers = torch.from_numpy(seeds.simulation_seeds(seed, range(n)))
    x = MODEL.simulate(theta, numbers)
    if emulated:
        mean = (theta @ torch.from_numpy(MODEL.matrix).T).float()
        x = mean + NOISE * (x - mean) + OFFSET
    return SimulationStore.from_arrays(
        path, theta, x, MODEL.parameters, MODEL.output, seeds=numbers, group_size=group_size
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("repairs")


@pytest.fixture(scope="session")
def posterior(folder):
    """Trained on the emulator."""
    store = make_store(folder / "emulated", 1500, 1, emulated=True)
    return sbitools.train(store, run_dir=folder / "run", **TRAINING)


@pytest.fixture(scope="session")
def reference(folder):
    """Reference simulations for the repair."""
    return make_store(folder / "reference", 100, 2)


@pytest.fixture(scope="session")
def test_store(folder):
    """Reference simulations that nothing else uses."""
    return make_store(folder / "test", 500, 3)
