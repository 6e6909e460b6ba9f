"""A posterior trained with a correlated prior, against the closed form."""

import numpy as np
import pytest
import torch
from scipy import stats

import sbitools
from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors, seeds
from sbitools.calibration import sbc

pytestmark = pytest.mark.slow

MEAN = np.array([1.0, -2.0])
COVARIANCE = np.array([[1.0, 0.9], [0.9, 1.2]])
MATRIX = np.array([[1.0, 1.0], [0.0, 0.5], [1.0, 0.0]])
NOISE = 1.0
SPEC = FieldSpec("x", ("i",), (3,))
SPACE = ParameterSpace(
    [Parameter("a", None), Parameter("b", None)],
    [priors.multivariate_normal(("a", "b"), MEAN, COVARIANCE)],
)


def linear_store(path, n, seed):
    theta = SPACE.design(n, seed)
    noise_seeds = torch.from_numpy(seeds.simulation_seeds(seed, range(n)))
    x = (theta @ torch.from_numpy(MATRIX).T).float() + NOISE * seeds.normal(noise_seeds, (3,))
    return SimulationStore.from_arrays(path, theta, x, SPACE, SPEC, seeds=noise_seeds)


def exact(x):
    """Mean (n, 2) and covariance (2, 2) of the posterior."""
    inverse = np.linalg.inv(COVARIANCE)
    covariance = np.linalg.inv(inverse + MATRIX.T @ MATRIX / NOISE**2)
    return (x @ MATRIX / NOISE**2 + inverse @ MEAN) @ covariance, covariance


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    store = linear_store(tmp_path_factory.mktemp("store") / "train", 4000, 1)
    return sbitools.train(
        store, run_dir=tmp_path_factory.mktemp("run"), epochs=10, batch_size=128, flow_hidden=32,
        features=8, channels=4, learning_rate=3e-3, flow="zuko_nsf",
    )  # fmt: skip


@pytest.fixture(scope="module")
def tests(tmp_path_factory):
    store = linear_store(tmp_path_factory.mktemp("tests") / "store", 400, 2)
    return store.theta.numpy(), store.read(store.done)


def test_mean_and_covariance_are_those_of_the_closed_form(trained, tests):
    x = tests[1][:100]
    mean, covariance = exact(x.double().numpy())
    draws = trained.sample(x, 2000, seed=3).numpy()
    width = np.sqrt(covariance.diagonal())
    # 0.1 of the width: 4,000 simulations fix it to 0.05; without the correlation of the prior
    # the mean is wrong by 0.4 widths.
    assert np.sqrt((((draws.mean(1) - mean) / width) ** 2).mean()) < 0.1
    spread = np.mean([np.cov(d.T) for d in draws], axis=0)
    np.testing.assert_allclose(spread / np.outer(width, width),
                               covariance / np.outer(width, width), atol=0.1)  # fmt: skip


def test_ranks_are_even(trained, tests):
    theta, x = tests
    draws = trained.sample(x, 100, seed=4).numpy()
    check = sbc(draws, theta, seed=0)
    assert check.p_value > 1e-4  # of an exact posterior, one seed in ten thousand is below
    shifted = draws + 0.4 * draws.std(1, keepdims=True)
    assert sbc(shifted, theta, seed=0).p_value < 1e-4


def test_saved_posteriors_keep_the_joint_prior(trained, tests, tmp_path):
    x = tests[1][:3]
    loaded = sbitools.Posterior.load(trained.save(tmp_path / "saved"))
    assert loaded.parameters == SPACE
    assert loaded.parameters.blocks
    assert torch.equal(loaded.sample(x, 50, seed=1), trained.sample(x, 50, seed=1))
    theta = torch.from_numpy(tests[0][:3])
    torch.testing.assert_close(loaded.log_prob(theta, x), trained.log_prob(theta, x))
    mean, covariance = exact(x.double().numpy())
    density = [stats.multivariate_normal(m, covariance).logpdf(t)
               for m, t in zip(mean, theta, strict=True)]  # fmt: skip
    np.testing.assert_allclose(trained.log_prob(theta, x), density, atol=0.4)
