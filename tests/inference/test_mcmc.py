"""Markov chains against targets whose answer is known; no network is trained."""

import time

import numpy as np
import pytest
import torch

from sbitools.errors import PosteriorError, TimeLimitError
from sbitools.inference import mcmc, walkers
from sbitools.inference.likelihood import LikelihoodOptions
from sbitools.inference.mcmc import ConvergenceWarning, FailedSimulationsWarning, MCMCPosterior
from sbitools.observation import Observation
from tests.oracles.gaussian import LinearGaussian

N = 600
# The standard error of a mean over N of the 2 N effective draws in a chain, in posterior widths.
ERROR = np.sqrt(1 / N + 1 / (2 * N))


class Exact(torch.nn.Module):
    """The likelihood of a linear-Gaussian problem, in the place of a network."""

    def __init__(self, model):
        super().__init__()
        self.model, self.space = model, model.parameters

    def features(self, x):
        return x

    def log_ratio(self, u, features):
        residual = features[:, None] - u @ torch.from_numpy(self.model.matrix).T
        return -0.5 * (residual**2).sum(-1) / self.model.sigma**2

    def log_prob(self, u, features):
        return self.log_ratio(u, features) + self.space.log_prob_unconstrained(u)


class TwoModes(Exact):
    """Two narrow modes at +-x, the left one three times as heavy."""

    def log_ratio(self, u, features):
        modes = [
            np.log(weight) - 0.5 * ((u - sign * features[:, None]) ** 2).sum(-1) / 0.05**2
            for sign, weight in ((1, 0.25), (-1, 0.75))
        ]
        return torch.logaddexp(*modes)


def posterior_of(model, exact=Exact, info=None):
    return MCMCPosterior(
        exact(model), LikelihoodOptions(), model.parameters, model.output, Observation(), info
    )


def observations(model, n, seed=1):
    return torch.from_numpy(model.joint(n, seed)[1])


@pytest.mark.parametrize("snooker", [0.0, 0.15, 1.0])
def test_mean_and_covariance_are_those_of_the_closed_form(snooker, monkeypatch):
    """8 means and 20 covariances at 5 standard errors: a false alarm in 10^5 runs."""
    monkeypatch.setattr(walkers, "_SNOOKER", snooker)
    model = LinearGaussian(4, 6, sigma=0.05)
    x = observations(model, 2)
    posterior = posterior_of(model)
    draws = posterior.sample(x, N, seed=2).numpy()
    assert draws.shape == (2, N, 4)
    width = np.sqrt(np.diag(model.covariance))
    assert np.abs((draws.mean(1) - model.mean(x.numpy())) / width).max() < 5 * ERROR
    white = np.linalg.solve(np.linalg.cholesky(model.covariance), np.moveaxis(draws, 1, 2))
    variances = np.stack([np.cov(w) for w in white]) - np.eye(4)
    assert np.abs(np.einsum("bii->bi", variances)).max() < 5 * np.sqrt(2) * ERROR
    assert np.abs(variances).max() < 5 * np.sqrt(2) * ERROR
    diagnostics = posterior.diagnostics
    assert diagnostics.converged.all()
    assert diagnostics.ess_bulk.min() >= 2 * N
    assert ((diagnostics.warm_up > 0) & (diagnostics.warm_up < diagnostics.steps)).all()


def test_both_of_two_distant_modes_get_their_weight():
    model = LinearGaussian(2, 2, sigma=1.0)
    posterior = posterior_of(model, TwoModes)
    draws = posterior.sample(torch.tensor([[0.8, 1.0]], dtype=torch.float64), N, seed=1)[0]
    left = float((draws[:, 0] < 0).double().mean())
    # Jumps between modes happen in one step of twenty; 0.06 is 4 times the binomial error.
    assert abs(left - 0.75) < 0.06


def test_densities_of_draws_lack_one_constant_for_each_observation():
    model = LinearGaussian(2, 5)
    x, posterior = observations(model, 3), posterior_of(model)
    draws, density = posterior.sample_and_log_prob(x, 200, seed=3)
    torch.testing.assert_close(density, posterior.log_prob(draws, x))
    constant = density.numpy() - model.log_prob(draws.numpy(), x.numpy())
    assert np.ptp(constant, axis=1).max() < 1e-9
    assert not posterior.normalised


def test_draws_are_seeded_and_do_not_depend_on_the_batch(monkeypatch):
    model = LinearGaussian(2, 5)
    x, posterior = observations(model, 3), posterior_of(model)
    one = posterior.sample(x, 50, seed=4)
    assert torch.equal(one, posterior.sample(x, 50, seed=4))
    assert not torch.equal(one, posterior.sample(x, 50, seed=5))
    torch.testing.assert_close(posterior.sample(x[:1], 50, seed=4), one[:1])
    monkeypatch.setattr(mcmc, "_WALKERS_AT_ONCE", 1)
    torch.testing.assert_close(posterior.sample(x, 50, seed=4), one)
    assert posterior.sample(x, 0).shape == (3, 0, 2)
    assert posterior.sample(x[:0], 5).shape == (0, 5, 2)


def test_chains_that_are_too_short_warn(monkeypatch):
    monkeypatch.setattr(mcmc, "_FIRST", 32)
    monkeypatch.setattr(mcmc, "_MOST", 32)
    model = LinearGaussian(10, 12, sigma=0.1)
    posterior = posterior_of(model)
    with pytest.warns(ConvergenceWarning, match=r"2 of 2 observations .*rows \[0, 1\]"):
        posterior.sample(observations(model, 2), 100, seed=0)


def test_ensembles_in_different_places_are_noticed(monkeypatch):
    """Without the slow start and without jumps, each ensemble stays where it began."""
    monkeypatch.setattr(walkers, "_TEMPERATURES", 1)
    monkeypatch.setattr(walkers, "_CANDIDATES", 1)
    monkeypatch.setattr(walkers, "_JUMP", 0.0)
    monkeypatch.setattr(mcmc, "_MOST", 256)
    posterior = posterior_of(LinearGaussian(2, 2), TwoModes)
    with pytest.warns(ConvergenceWarning, match="R-hat up to"):
        posterior.sample(torch.tensor([[1.6, 1.6]], dtype=torch.float64), 100, seed=1)


def test_the_time_limit_stops_the_chains():
    class Slow(Exact):
        def log_ratio(self, u, features):
            time.sleep(0.2)
            return super().log_ratio(u, features)

    model = LinearGaussian(2, 5)
    with pytest.raises(TimeLimitError, match="chains of the next"):
        posterior_of(model, Slow).sample(observations(model, 2), 10, time_limit=0.5)


def test_a_likelihood_that_is_nowhere_finite_names_the_row():
    class Broken(Exact):
        def log_ratio(self, u, features):
            return super().log_ratio(u, features) / (features[:, :1] < 100)

    model = LinearGaussian(2, 5)
    x = observations(model, 3)
    x[1] = 1e3
    with pytest.raises(PosteriorError, match=r"observations \[1\]"):
        posterior_of(model, Broken).sample(x, 10)


def test_failed_simulations_warn_as_the_posterior_ignores_them():
    model = LinearGaussian(2, 5)
    with pytest.warns(FailedSimulationsWarning, match="3 failed simulations were left out"):
        posterior_of(model, info={"excluded": {"failed": 3, "pending": 5}})
