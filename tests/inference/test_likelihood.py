"""NLE and emcee against the closed form, and what NLE refuses."""

import numpy as np
import pytest
import torch

import sbitools
from sbitools import FieldSpec, Posterior, SimulationStore, seeds
from sbitools.errors import ConfigError, TrainingError
from sbitools.inference.likelihood import LikelihoodEstimator, LikelihoodOptions
from sbitools.inference.mcmc import FailedSimulationsWarning, MCMCPosterior
from tests.oracles.gaussian import LinearGaussian

MODEL = LinearGaussian(2, 3, sigma=0.5, dtype="float32")
N_DRAWS = 300
# Of a mean over draws of chains with twice as many effective draws, in posterior widths.
ERROR = np.sqrt(1 / N_DRAWS + 1 / (2 * N_DRAWS))


def simulations(n, seed):
    theta = MODEL.parameters.design(n, seed)
    numbers = torch.from_numpy(seeds.simulation_seeds(seed, range(n)))
    return theta, MODEL.simulate(theta, numbers), numbers


@pytest.fixture(scope="module")
def posterior(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nle")
    theta, x, numbers = simulations(5000, 1)
    store = SimulationStore.from_arrays(
        folder / "s", theta, x, MODEL.parameters, MODEL.output, seeds=numbers
    )
    return sbitools.train(
        store, "nle", run_dir=folder / "r", epochs=8, batch_size=64, flow="zuko_maf",
        flow_transforms=1, flow_hidden=16, learning_rate=5e-3, workers=1,
    )  # fmt: skip


def test_mean_and_covariance_are_within_three_standard_errors(posterior):
    """Those of the draws; the seed is fixed, and the network errs by about one of them."""
    _, x, _ = simulations(2, 7)
    draws = posterior.sample(x, N_DRAWS, seed=1).numpy()
    width = np.sqrt(np.diag(MODEL.covariance))
    off = (draws.mean(1) - MODEL.mean(x.numpy())) / width
    assert np.abs(off).max() < 3 * ERROR
    root = np.linalg.cholesky(MODEL.covariance)
    white = np.linalg.solve(root, np.moveaxis(draws - draws.mean(1, keepdims=True), 1, 2))
    covariance = white @ np.moveaxis(white, 1, 2) / N_DRAWS - np.eye(2)
    assert np.abs(covariance).max() < 3 * np.sqrt(2) * ERROR
    assert posterior.diagnostics.converged.all()


def test_the_likelihood_is_right_up_to_a_constant_for_each_x(posterior):
    theta, x, _ = simulations(200, 8)
    got = posterior.log_prob(theta, x) - posterior.log_prob(theta.roll(1, 0), x)
    exact = MODEL.log_prob(theta.numpy(), x.numpy().astype(float)) - MODEL.log_prob(
        theta.roll(1, 0).numpy(), x.numpy().astype(float)
    )
    # Differences of tens of nats, to a few per cent.
    assert np.corrcoef(got, exact)[0, 1] > 0.99


def test_checkpoints_keep_the_chains(posterior, tmp_path):
    again = Posterior.load(posterior.save(tmp_path / "p"))
    assert isinstance(again, MCMCPosterior)
    _, x, _ = simulations(1, 9)
    assert torch.equal(again.sample(x, 20, seed=1), posterior.sample(x, 20, seed=1))


@pytest.mark.parametrize("spec", [
    FieldSpec("map", ("x", "y"), (11, 10)), FieldSpec("x", ("i",), (5,), "complex64"),
])  # fmt: skip
def test_long_or_complex_data_are_refused(spec):
    with pytest.raises(ConfigError, match="summarise the data first"):
        LikelihoodEstimator(LikelihoodOptions(), MODEL.parameters, spec)


def test_constant_entries_are_refused(tmp_path):
    theta, x, _ = simulations(64, 1)
    x[:, 1] = 2.0
    store = SimulationStore.from_arrays(tmp_path / "s", theta, x, MODEL.parameters, MODEL.output)
    with pytest.raises(TrainingError, match=r"constant ones, at \[1\]"):
        sbitools.train(store, "nle", run_dir=tmp_path / "r")


def test_counts_are_spread_over_their_unit():
    spec = FieldSpec("n", (), (), "int32")
    estimator = LikelihoodEstimator(LikelihoodOptions(), MODEL.parameters, spec)
    u, x = torch.zeros(4, 2), torch.tensor([0, 1, 2, 3], dtype=torch.int32)
    one, other = (estimator.loss(u, x, seeds.generator(s)) for s in (1, 2))
    assert one.shape == (4,)
    assert not torch.equal(one, other)
    assert torch.equal(one, estimator.loss(u, x, seeds.generator(1)))


def test_failed_simulations_are_counted_and_told(tmp_path):
    theta, x, _ = simulations(64, 1)
    x[3] = torch.nan
    store = SimulationStore.from_arrays(
        tmp_path / "s", theta, x, MODEL.parameters, MODEL.output, nonfinite="fail"
    )
    with pytest.warns(FailedSimulationsWarning, match="1 failed"):
        posterior = sbitools.train(
            store, "nle", run_dir=tmp_path / "r", epochs=1, flow="zuko_maf", flow_transforms=1,
            flow_hidden=4,
        )  # fmt: skip
    assert posterior.info["excluded"] == {"failed": 1}
