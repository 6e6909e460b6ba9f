"""Gaussian tasks: the mean of a normal, or of two normals of different width."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.distributions import Distribution, Independent, Normal, Uniform

from sbitools import priors

from .task import Array, Task, generators, space

__all__ = ["GaussianLinear", "GaussianLinearUniform", "GaussianMixture"]

_DIM = 10
_VARIANCE = 0.1  # of the linear tasks' noise, and of the normal prior


class GaussianLinear(Task):
    """x = theta + n, both normal with variance 0.1 in 10 dimensions (appendix T.1)."""

    def __init__(self) -> None:
        prior = priors.Normal(0.0, math.sqrt(_VARIANCE))
        super().__init__("gaussian_linear", _space([prior] * _DIM), _DIM)

    def draw(self, theta: Array, seeds: Sequence[int]) -> Array:
        """See `Task`."""
        return _noisy(theta, seeds)

    def log_likelihood(self, theta: Array, x: Array) -> Array:
        """See `Task`."""
        return _log_normal(theta, x, _VARIANCE)

    def prior(self) -> Distribution:
        """See `Task`."""
        return Independent(Normal(torch.zeros(_DIM), math.sqrt(_VARIANCE) * torch.ones(_DIM)), 1)

    def reference(self, x: Array, n: int, seed: int) -> Array:
        """Exact: normal with mean x / 2 and variance 0.05."""
        noise = np.random.default_rng(seed).standard_normal((n, _DIM))
        return x / 2 + math.sqrt(_VARIANCE / 2) * noise


class GaussianLinearUniform(Task):
    """x = theta + n with noise of variance 0.1 and a uniform prior in [-1, 1]^10 (T.2)."""

    def __init__(self) -> None:
        super().__init__(
            "gaussian_linear_uniform", _space([priors.Uniform(-1.0, 1.0)] * _DIM), _DIM
        )

    def draw(self, theta: Array, seeds: Sequence[int]) -> Array:
        """See `Task`."""
        return _noisy(theta, seeds)

    def log_likelihood(self, theta: Array, x: Array) -> Array:
        """See `Task`."""
        return _log_normal(theta, x, _VARIANCE)

    def prior(self) -> Distribution:
        """See `Task`."""
        return _box(1.0, _DIM)

    def reference(self, x: Array, n: int, seed: int) -> Array:
        """Exact: each parameter a normal cut at the ends of the prior."""
        from scipy.stats import truncnorm

        sd = math.sqrt(_VARIANCE)
        rng = np.random.default_rng(seed)
        low, high = (-1.0 - x) / sd, (1.0 - x) / sd
        draws = truncnorm.rvs(low, high, x, sd, (n, _DIM), random_state=rng)
        return np.asarray(draws)


class GaussianMixture(Task):
    """x is theta plus a normal of width 1 or, half of the time, 0.1, in 2 dimensions (T.7).

    The width is drawn once for each simulation. The first release of the published benchmark drew
    it once for a batch; its rerun of this task, with which to compare, did not.
    """

    bound = 10.0
    widths = np.array([1.0, 0.1])

    def __init__(self) -> None:
        prior = priors.Uniform(-self.bound, self.bound)
        super().__init__("gaussian_mixture", _space([prior] * 2), 2)

    def draw(self, theta: Array, seeds: Sequence[int]) -> Array:
        """See `Task`."""
        x = theta.copy()
        for row, rng in enumerate(generators(seeds)):
            x[row] += self.widths[rng.integers(2)] * rng.standard_normal(2)
        return x

    def log_likelihood(self, theta: Array, x: Array) -> Array:
        """See `Task`."""
        parts = [_log_normal(theta, x, width**2) for width in self.widths]
        return np.logaddexp(*parts) - math.log(2)

    def prior(self) -> Distribution:
        """See `Task`."""
        return _box(self.bound, 2)

    def reference(self, x: Array, n: int, seed: int) -> Array:
        """Exact, by rejecting draws outside the prior."""
        rng, kept, missing = np.random.default_rng(seed), [], n
        while missing > 0:
            width = self.widths[rng.integers(2, size=n)]
            theta = x + width[:, None] * rng.standard_normal((n, 2))
            kept.append(theta[(np.abs(theta) <= self.bound).all(1)][:missing])
            missing -= len(kept[-1])
        return np.concatenate(kept)


def _space(of: Sequence[priors.Prior]):
    return space([f"theta_{i}" for i in range(len(of))], of)


def _box(bound: float, dim: int) -> Distribution:
    return Independent(Uniform(-bound * torch.ones(dim), bound * torch.ones(dim)), 1)


def _noisy(theta: Array, seeds: Sequence[int]) -> Array:
    noise = np.stack([rng.standard_normal(theta.shape[1]) for rng in generators(seeds)])
    return theta + math.sqrt(_VARIANCE) * noise


def _log_normal(theta: Array, x: Array, variance: float) -> Array:
    chi2 = ((theta - x) ** 2).sum(1) / variance
    return -0.5 * (chi2 + theta.shape[1] * math.log(2 * math.pi * variance))
