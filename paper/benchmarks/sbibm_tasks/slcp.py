"""SLCP: a simple likelihood with a complex posterior, and the same among 92 distractors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch.distributions import Distribution, Independent, Uniform

from sbitools import priors

from .task import Array, Task, generators, space

__all__ = ["SLCP", "SLCPDistractors"]

_BOUND = 3.0
_POINTS = 4
_FLOOR = 1e-6  # added to both variances, as published, so that S has a Cholesky factor
_NOISE, _COMPONENTS, _SCALE, _SPREAD = 92, 20, 3.0, 15.0
_DESIGN_SEED = 42
_FREEDOM = 2  # of the Student distributions
_AT_ONCE = 2000  # proposals, at least
_WISHART = 2.5  # degrees of freedom of the proposals for S


class SLCP(Task):
    """Four points of a normal in the plane (appendix T.3; Papamakarios et al. 2019).

    The mean is (theta_0, theta_1), the standard deviations are theta_2^2 and theta_3^2 and the
    correlation is tanh theta_4; the prior is uniform in [-3, 3]^5. Signs of theta_2 and theta_3
    do not show, so that every posterior has four equal modes.
    """

    def __init__(self, name: str = "slcp", n_data: int = 2 * _POINTS) -> None:
        names = [f"theta_{i}" for i in range(5)]
        super().__init__(name, space(names, [priors.Uniform(-_BOUND, _BOUND)] * 5), n_data)

    def draw(self, theta: Array, seeds: Sequence[int]) -> Array:
        """See `Task`."""
        noise = np.stack([rng.standard_normal((_POINTS, 2)) for rng in generators(seeds)])
        return _points(theta, noise).reshape(len(theta), -1)

    def log_likelihood(self, theta: Array, x: Array) -> Array:
        """See `Task`."""
        a, b, c = (value[:, None] for value in _cholesky(theta))
        points = self.informative(x).reshape(_POINTS, 2)
        first = (points[:, 0] - theta[:, :1]) / a
        second = (points[:, 1] - theta[:, 1:2] - b * first) / c
        chi2 = (first**2 + second**2).sum(1)
        return -0.5 * chi2 - _POINTS * (np.log(a * c)[:, 0] + math.log(2 * math.pi))

    def informative(self, x: Array) -> Array:
        """The eight numbers of x that depend on theta."""
        return x

    def prior(self) -> Distribution:
        """See `Task`."""
        return Independent(Uniform(-_BOUND * torch.ones(5), _BOUND * torch.ones(5)), 1)

    def reference(self, x: Array, n: int, seed: int) -> Array:
        """Exact but for the floor of the variances, by rejection.

        With the mean integrated out, and the Jacobian of (theta_2, theta_3, theta_4) to S, the
        posterior of S is |S|^(-11/4) exp(-tr(S^-1 A) / 2) (1 - rho^2)^(1/4) inside the prior, A
        being the scatter of the points: inverse Wishart with 5/2 degrees of freedom, times a
        probability. The mean given S is normal, inside the prior.
        """
        points = self.informative(x).reshape(_POINTS, 2)
        rng, kept, missing = np.random.default_rng(seed), [], n
        while missing > 0:
            theta, kept_with = _proposals(points, max(n, _AT_ONCE), rng)
            keep = (np.abs(theta) <= _BOUND).all(1) & (rng.random(len(theta)) < kept_with)
            kept.append(theta[keep][:missing])
            missing -= len(kept[-1])
        return np.concatenate(kept)


class SLCPDistractors(SLCP):
    """SLCP hidden among 92 numbers that say nothing, in an order fixed once (appendix T.4).

    The distractors come from a mixture of 20 multivariate Student distributions with 2 degrees of
    freedom. Its constants and the order are the published ones, which numpy's legacy generator
    gives for its seed 42; the likelihood is that of the eight informative numbers.
    """

    def __init__(self) -> None:
        super().__init__("slcp_distractors", 2 * _POINTS + _NOISE)

    def draw(self, theta: Array, seeds: Sequence[int]) -> Array:
        """See `Task`."""
        x = np.empty((len(theta), 2 * _POINTS + _NOISE))
        centres, factors, order = self._design
        for row, rng in enumerate(generators(seeds)):
            points = _points(theta[row : row + 1], rng.standard_normal((1, _POINTS, 2)))
            component = rng.integers(_COMPONENTS)
            scale = math.sqrt(_FREEDOM / rng.chisquare(_FREEDOM))
            noise = centres[component] + scale * factors[component] @ rng.standard_normal(_NOISE)
            x[row] = np.concatenate([points.ravel(), noise])[order]
        return x

    def informative(self, x: Array) -> Array:
        """See `SLCP`."""
        return x[np.argsort(self._design[2])[: 2 * _POINTS]]

    @cached_property
    def _design(self) -> tuple[Array, Array, NDArray[np.intp]]:
        """Centres (20, 92) and factors (20, 92, 92) of the mixture, and the order (100,)."""
        rng = np.random.RandomState(_DESIGN_SEED)
        centres = np.stack([_SPREAD * rng.normal(size=_NOISE) for _ in range(_COMPONENTS)])
        factors = np.stack([
            np.tril(rng.normal(size=(_NOISE, _NOISE))) + np.diag(np.exp(rng.normal(size=_NOISE)))
            for _ in range(_COMPONENTS)
        ])  # fmt: skip
        return centres, _SCALE * factors, rng.permutation(2 * _POINTS + _NOISE)


def _cholesky(theta: Array) -> tuple[Array, Array, Array]:
    """a, b, c, each (n,), of the lower factor [[a, 0], [b, c]] of S."""
    s1, s2, rho = theta[:, 2] ** 2, theta[:, 3] ** 2, np.tanh(theta[:, 4])
    a = np.sqrt(s1**2 + _FLOOR)
    b = rho * s1 * s2 / a
    return a, b, np.sqrt(s2**2 + _FLOOR - b**2)


def _points(theta: Array, noise: Array) -> Array:
    """Points (n, 4, 2) for standard normal noise of that shape."""
    a, b, c = (value[:, None] for value in _cholesky(theta))
    x = theta[:, None, 0] + a * noise[..., 0]
    y = theta[:, None, 1] + b * noise[..., 0] + c * noise[..., 1]
    return np.stack([x, y], axis=-1)


def _proposals(points: Array, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Theta (n, 5), which may lie outside the prior, and the probability to keep each."""
    centre = points.mean(0)
    covariance = _inverse_wishart((points - centre).T @ (points - centre), n, rng)
    s = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    rho = np.clip(covariance[:, 0, 1] / s.prod(1), -1.0, 1.0)
    theta = np.empty((n, 5))
    theta[:, 2:4] = rng.choice([-1.0, 1.0], size=(n, 2)) * np.sqrt(s)
    with np.errstate(divide="ignore"):  # a correlation of one lies outside the prior
        theta[:, 4] = np.arctanh(rho)
    noise = rng.standard_normal((n, 2)) / math.sqrt(_POINTS)
    theta[:, 0] = centre[0] + s[:, 0] * noise[:, 0]
    theta[:, 1] = centre[1] + s[:, 1] * (rho * noise[:, 0] + np.sqrt(1 - rho**2) * noise[:, 1])
    return theta, (1.0 - rho**2) ** 0.25


def _inverse_wishart(scale: Array, n: int, rng: np.random.Generator) -> Array:
    """Inverse Wishart matrices (n, 2, 2): inverses of C T T^t C^t, with C C^t = scale^-1.

    T is Bartlett's lower triangle; scipy's generator makes one matrix at a time.
    """
    t = np.zeros((n, 2, 2))
    t[:, 0, 0] = np.sqrt(rng.chisquare(_WISHART, n))
    t[:, 1, 1] = np.sqrt(rng.chisquare(_WISHART - 1, n))
    t[:, 1, 0] = rng.standard_normal(n)
    root = np.linalg.inv(np.linalg.cholesky(np.linalg.inv(scale)) @ t)
    return root.transpose(0, 2, 1) @ root
