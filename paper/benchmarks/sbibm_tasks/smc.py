"""Draws of a posterior whose likelihood is known: tempered sequential Monte Carlo.

Del Moral, Doucet & Jasra 2006. Particles start in the prior, which is N(0, 1) in the unconstrained
coordinates u, and move through prior x likelihood^b for growing b. The moves are those of
differential evolution (ter Braak 2006): u_i + g (u_j - u_k) with j and k of the other half, so
that steps have the shape of the posterior, and g = 1 jumps between its modes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

__all__ = ["tempered_draws"]

Array = NDArray[Any]

_SURVIVING = 0.7  # effective share of the particles after each rise of b
_SWEEPS = 6  # moves of each particle per temperature
_FINAL_SWEEPS = 40  # and at b = 1, where copies must part
_MODE_JUMPS = 0.1  # share of the moves with g = 1
_JITTER = 1e-4
_SMALLEST = 1e-12  # rise of b


def tempered_draws(
    log_likelihood: Callable[[Array], Array], n_parameters: int, n: int, seed: int
) -> Array:
    """Particles (n, P) in u of N(0, 1)^P x likelihood.

    Args:
        log_likelihood: shape (m,) for u (m, P); minus infinity is allowed.
        n_parameters: P.
        n: number of particles; a few thousand at least, since they carry the proposals.
        seed: of everything.
    """
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((n, n_parameters))
    value, b = log_likelihood(u), 0.0
    while b < 1:
        rise = _rise(value, 1 - b)
        b = 1.0 if rise == 1 - b else b + rise
        rows = _resample(rise * value, rng)
        u, value = u[rows], value[rows]
        for _ in range(_SWEEPS if b < 1 else _FINAL_SWEEPS):
            u, value = _sweep(log_likelihood, u, value, b, rng)
    return u


def _rise(value: Array, largest: float) -> float:
    """How far b may rise so that the effective number of particles is `_SURVIVING` of all."""

    def excess(rise: float) -> float:
        weights = np.exp(rise * (value - value.max()))
        return weights.sum() ** 2 / (weights**2).sum() / len(value) - _SURVIVING

    if excess(largest) >= 0:
        return largest
    # Particles of no likelihood at all die at once, however small the rise.
    return _SMALLEST if excess(_SMALLEST) <= 0 else _root(excess, largest)


def _root(excess: Callable[[float], float], largest: float) -> float:
    found: Any = brentq(excess, _SMALLEST, largest)
    return float(found)


def _resample(log_weights: Array, rng: np.random.Generator) -> NDArray[np.intp]:
    """Systematic resampling: particle i survives n w_i times, up to rounding."""
    weights = np.exp(log_weights - log_weights.max())
    edges = np.cumsum(weights / weights.sum())
    places = (rng.random() + np.arange(len(edges))) / len(edges)
    return np.minimum(np.searchsorted(edges, places), len(edges) - 1)


def _sweep(
    log_likelihood: Callable[[Array], Array],
    u: Array,
    value: Array,
    b: float,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Move each half with differences of the other."""
    order = rng.permutation(len(u))
    halves = np.array_split(order, 2)
    u, value = u.copy(), value.copy()
    for moving, still in (halves, halves[::-1]):
        m, p = len(moving), u.shape[1]
        first = rng.integers(len(still), size=m)
        second = (first + rng.integers(1, len(still), size=m)) % len(still)
        # Steps of several lengths: the best one differs along a curved or cut posterior.
        g = 2.38 / np.sqrt(2 * p) * np.exp(rng.uniform(np.log(0.1), np.log(1.5), size=m))
        g = np.where(rng.random(m) < _MODE_JUMPS, 1.0, g)
        step = g[:, None] * (u[still[first]] - u[still[second]])
        proposal = u[moving] + step + _JITTER * rng.standard_normal((m, p))
        proposed = log_likelihood(proposal)
        gain = 0.5 * ((u[moving] ** 2).sum(1) - (proposal**2).sum(1))
        with np.errstate(invalid="ignore"):  # -inf from -inf: not accepted, below
            gain = gain + b * (proposed - value[moving])
        accepted = np.log(rng.random(m)) < gain
        u[moving[accepted]], value[moving[accepted]] = proposal[accepted], proposed[accepted]
    return u, value
