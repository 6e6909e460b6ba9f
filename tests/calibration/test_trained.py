"""A posterior trained here, from store to verdict."""

import numpy as np
import pytest
import torch

import sbitools
from sbitools import SimulationStore, calibrate, seeds
from sbitools.errors import StoreError
from tests.oracles.gaussian import LinearGaussian

MODEL = LinearGaussian(n_data=3, dtype="float32")


def make_store(path, n, seed):
    theta = MODEL.parameters.design(n, seed)
    simulation_seeds = torch.from_numpy(seeds.simulation_seeds(seed, range(n)))
    x = MODEL.simulate(theta, simulation_seeds)
    return SimulationStore.from_arrays(
        path, theta, x, MODEL.parameters, MODEL.output, seeds=simulation_seeds
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    train = make_store(folder / "train", 3000, 1)
    posterior = sbitools.train(
        train, run_dir=folder / "run", epochs=15, batch_size=64, flow_hidden=32, features=8,
        channels=4, learning_rate=3e-3, flow="zuko_nsf",
    )  # fmt: skip
    return posterior, train, make_store(folder / "test", 400, 2)


def test_trained_posterior_is_calibrated_and_reproducible(trained):
    posterior, _, test = trained
    result = calibrate(posterior, test, n_draws=200, seed=1, progress=False)
    assert abs(result.check("sbc").effect) < 0.1
    assert abs(result.check("coverage").effect) < 0.1
    # R^2 of the exact posterior, to 0.08: the error over 400 tests and of a short training.
    exact = 1 - np.diag(MODEL.covariance)
    found = [row["r2"] for row in result.check("recovery").details["parameters"]]
    assert found == pytest.approx(exact, abs=0.08)
    again = calibrate(posterior, test, n_draws=200, seed=1, progress=False)
    assert again.emulated == result.emulated


def test_the_training_store_is_no_test(trained):
    posterior, train, _ = trained
    with pytest.raises(StoreError, match="not trained on"):
        calibrate(posterior, train, progress=False)
