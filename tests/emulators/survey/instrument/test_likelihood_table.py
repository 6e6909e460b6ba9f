"""The table is the likelihood; the posterior on a grid is normalised and calibrated."""

import numpy as np
import pytest
import torch
from scipy import stats

from emulators.survey.instrument import likelihood as module
from emulators.survey.instrument.likelihood import GainLikelihood
from emulators.survey.instrument.likelihood_table import GridPosterior
from emulators.survey.simulator import TodSimulator
from sbitools.errors import ConfigError, ParameterError
from sbitools.priors import LogUniform, Uniform

TAIL = 1e-6  # false-alarm rate of a statistical test
N = 600
SIMULATOR = TodSimulator(
    4, parameters=["gain_rms", "correlation_time"], n_rings=96, samples=64,
    priors={"gain_rms": LogUniform(2e-5, 5e-4)},
)  # fmt: skip
LIKELIHOOD = GainLikelihood(SIMULATOR)
THETA = SIMULATOR.parameters.design(N, 1)
MAPS = SIMULATOR.simulate(THETA, torch.arange(N))
TABLE = LIKELIHOOD.table(MAPS)
CELLS = 300, 200


@pytest.fixture(scope="module")
def posterior():
    return GridPosterior(TABLE, CELLS)


def shifted(factor, n):
    """Theta of the first maps with correlation times that are longer, within the prior."""
    theta = THETA[:n].clone()
    theta[:, 1] = (factor * theta[:, 1]).clamp(0.5, 60.0)
    return theta


def error(table, factor, n=20):
    theta = shifted(factor, n)
    exact = LIKELIHOOD.log_likelihood(theta, MAPS[:n])
    return np.abs(table.log_likelihood(theta[:, None])[:, 0] - exact).max()


@pytest.mark.parametrize("factor", [1e-3, 0.7, 1.0, 1.3, 1e3])
def test_interpolation_against_direct_evaluation(factor, monkeypatch):
    few = LIKELIHOOD.table(MAPS[:20])
    assert error(few, factor) < 1e-3
    if 0.5 < factor < 2:  # at the ends of the prior there are nodes
        monkeypatch.setattr(module, "_SPACING", 1.5)
        assert error(LIKELIHOOD.table(MAPS[:20]), factor) > 1e-2


def test_many_theta_of_each_map():
    theta = torch.stack([shifted(f, 5) for f in (0.8, 1.0, 1.2)], dim=1)
    found = LIKELIHOOD.table(MAPS[:5]).log_likelihood(theta)
    assert found.shape == (5, 3)
    for i in range(3):
        exact = LIKELIHOOD.log_likelihood(theta[:, i], MAPS[:5])
        np.testing.assert_allclose(found[:, i], exact, atol=1e-3)


def test_grid_has_the_values_of_single_theta():
    rms, time = np.array([3e-5, 1e-4]), np.array([0.5, 4.0, 60.0])
    pairs = torch.cartesian_prod(torch.from_numpy(rms), torch.from_numpy(time))
    single = TABLE.log_likelihood(pairs[None].expand(N, 6, 2))
    for row in (0, 7):
        np.testing.assert_allclose(TABLE.grid(rms, time, row).ravel(), single[row], rtol=1e-12)


def test_theta_that_does_not_fit():
    for wrong in (THETA, THETA[:5, None], 1e3 * THETA[:, None], THETA[:, None, :1]):
        with pytest.raises(ParameterError):
            TABLE.log_likelihood(wrong)


def test_a_prior_that_begins_at_zero():
    simulator = TodSimulator(
        4, parameters=["correlation_time", "gain_rms"], n_rings=48, samples=64,
        priors={"correlation_time": Uniform(0.0, 30.0)},
    )  # fmt: skip
    theta = torch.tensor([[0.0, 1e-4], [1e-9, 1e-4], [30.0, 1e-4]], dtype=torch.float64)
    likelihood = GainLikelihood(simulator)
    maps = simulator.simulate(theta, torch.arange(3))
    found = likelihood.table(maps).log_likelihood(theta[:, None])[:, 0]
    np.testing.assert_allclose(found, likelihood.log_likelihood(theta, maps), atol=1e-3)


def test_posterior_against_another_grid(posterior):
    # Trapezoids in ln theta instead of midpoints in quantiles of the prior.
    rms = np.linspace(np.log(2e-5), np.log(5e-4), 601)
    time = np.linspace(np.log(0.5), np.log(60.0), 401)
    pairs = torch.cartesian_prod(torch.from_numpy(rms).exp(), torch.from_numpy(time).exp())
    low, high = torch.tensor([[2e-5, 0.5], [5e-4, 60.0]], dtype=torch.float64)
    pairs = pairs.clamp(low, high)  # exp(log(x)) may be another number
    three = GridPosterior(LIKELIHOOD.table(MAPS[:3]), CELLS)
    log_prob = three.log_prob(pairs[None].expand(3, -1, 2))
    density = np.exp(log_prob + np.log(pairs.numpy()).sum(1)).reshape(3, 601, 401)
    mass = np.trapezoid(np.trapezoid(density, time), rms)
    np.testing.assert_allclose(mass, 1.0, atol=2e-3)  # one cell is up to half a sigma
    density /= mass[:, None, None]
    mean, std = three.log_moments()
    cdf = three.cdf(THETA[:3])
    np.testing.assert_allclose(mean, posterior.log_moments()[0][:3], rtol=1e-10)
    for column, (axis, share) in enumerate(
        [(rms, np.trapezoid(density, time)), (time, np.trapezoid(density, rms, axis=1))]
    ):
        first = np.trapezoid(share * axis, axis)
        spread = np.sqrt(np.trapezoid(share * axis**2, axis) - first**2)
        np.testing.assert_allclose(mean[:, column], first, atol=0.02 * spread.min())
        np.testing.assert_allclose(std[:, column], spread, rtol=0.01)
        below = axis <= np.log(THETA[:3, column].numpy())[:, None]
        exact = np.trapezoid(share * below, axis)
        np.testing.assert_allclose(cdf[:, column], exact, atol=0.03)  # steps of either grid


def test_posteriors_of_prior_draws_are_calibrated(posterior):
    # Simulation-based calibration: quantiles of the truth are uniform, exactly.
    quantiles = posterior.cdf(THETA)
    for column in (0, 1):
        assert stats.kstest(quantiles[:, column], "uniform").pvalue > TAIL / 2
        # A truth that is off by half a sigma, or posteriors 1.6 times too narrow, would be seen.
        _, std = posterior.log_moments()
        off = THETA.log()
        off[:, column] += 0.5 * torch.from_numpy(std[:, column])
        low, high = posterior.table.parameters.from_unconstrained(
            torch.tensor([[-8.2] * 2, [8.2] * 2], dtype=torch.float64)
        )
        moved = posterior.cdf(off.exp().clamp(low, high))[:, column]
        assert stats.kstest(moved, "uniform").pvalue < TAIL / 2
        narrow = stats.norm.cdf(1.6 * stats.norm.ppf(quantiles[:, column].clip(1e-9, 1 - 1e-9)))
        assert stats.kstest(narrow, "uniform").pvalue < TAIL / 2


def test_cells_that_are_too_large():
    with pytest.raises(ConfigError, match="cells"):
        GridPosterior(TABLE, (10, 10))
