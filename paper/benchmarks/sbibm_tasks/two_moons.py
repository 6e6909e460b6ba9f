"""Two moons: a posterior of two crescents."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.distributions import Distribution, Independent, Uniform

from sbitools import priors

from .task import Array, Task, generators, space

__all__ = ["TwoMoons"]

_RADIUS, _WIDTH, _OFFSET = 0.1, 0.01, 0.25
_LOG_NORMALISATION = math.log(_WIDTH * math.sqrt(2 * math.pi) * math.pi)


class TwoMoons(Task):
    """x = r (cos a, sin a) + (1/4, 0) + (-|t0 + t1|, t1 - t0) / sqrt 2 (appendix T.8).

    a is uniform in (-pi/2, pi/2), r is normal with mean 0.1 and width 0.01, and the prior of theta
    is uniform in [-1, 1]^2.
    """

    def __init__(self) -> None:
        super().__init__("two_moons", space(["t0", "t1"], [priors.Uniform(-1.0, 1.0)] * 2), 2)

    def draw(self, theta: Array, seeds: Sequence[int]) -> Array:
        """See `Task`."""
        moon = np.stack([_crescent(rng, 1)[0] for rng in generators(seeds)])
        return moon + _centre(theta)

    def log_likelihood(self, theta: Array, x: Array) -> Array:
        """See `Task`; the density of the crescent is that of r and a, divided by r."""
        place = x - _centre(theta) - [_OFFSET, 0.0]
        r = np.hypot(*place.T)
        with np.errstate(divide="ignore"):
            value = -0.5 * ((r - _RADIUS) / _WIDTH) ** 2 - np.log(r) - _LOG_NORMALISATION
        return np.where(place[:, 0] > 0, value, -np.inf)

    def prior(self) -> Distribution:
        """See `Task`."""
        return Independent(Uniform(-torch.ones(2), torch.ones(2)), 1)

    def reference(self, x: Array, n: int, seed: int) -> Array:
        """Exact: given x, the crescent's point fixes |t0 + t1| and t1 - t0, with Jacobian 1.

        The sign of t0 + t1 is free. What would need a negative absolute value, or lies outside the
        prior, is drawn again.
        """
        rng, kept, missing = np.random.default_rng(seed), [], n
        while missing > 0:
            moon = _crescent(rng, n)
            size, difference = moon[:, 0] - x[0], x[1] - moon[:, 1]
            total = np.where(rng.random(n) < 0.5, -size, size)
            theta = np.stack([total - difference, total + difference], axis=1) / math.sqrt(2)
            kept.append(theta[(size >= 0) & (np.abs(theta) <= 1).all(1)][:missing])
            missing -= len(kept[-1])
        return np.concatenate(kept)


def _centre(theta: Array) -> Array:
    t0, t1 = theta.T
    return np.stack([-np.abs(t0 + t1), t1 - t0], axis=1) / math.sqrt(2)


def _crescent(rng: np.random.Generator, n: int) -> Array:
    a = rng.uniform(-math.pi / 2, math.pi / 2, n)
    r = _RADIUS + _WIDTH * rng.standard_normal(n)
    return np.stack([r * np.cos(a) + _OFFSET, r * np.sin(a)], axis=1)
