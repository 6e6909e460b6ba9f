"""Simultaneous bands for the ECDF of ranks, and the p-value that agrees with them exactly.

For N independent ranks, uniform on {0, ..., L}, the number C_k of ranks <= k is binomial with
z_k = (k + 1) / (L + 1). The pointwise two-sided probability of a curve is
gamma_k = 2 min(P(C_k <= c_k), P(C_k >= c_k)), the statistic of a curve is gamma = min_k gamma_k,
and the band of level 1 - alpha is the set of curves whose gamma exceeds the alpha-quantile of the
null. So a curve leaves the band exactly if its p-value is at most alpha.

The null is exact, for any N and L: the counts are a Poisson process given its total, and the
probability that it stays between two boundaries is one convolution per evaluation point.

References:
    | Graphical test for discrete uniformity and its applications in goodness-of-fit evaluation and
      multiple sample comparison (Säilynoja, Bürkner & Vehtari 2022, arXiv:2103.10522), section 2
    | Fast calculation of boundary crossing probabilities for Poisson processes
      (Moscovich & Nadler 2017, arXiv:1503.04363), section 2
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

__all__ = ["EcdfTest", "ecdf_counts", "ecdf_test", "simultaneous_band", "stay_probability"]

# More evaluation points than this change neither band nor power visibly; the null stays exact
# because it is computed at the same points.
_MAX_POINTS = 1000

# 1 - P loses its digits below this; smaller p-values are given as this.
_P_FLOOR = 1e-12


@dataclass(frozen=True)
class EcdfTest:
    """The ECDF of ranks at the evaluation points, and how far it is from uniform.

    Args:
        z: evaluation points, shape (K,).
        ecdf: share of ranks at or below each, shape (K,).
        gamma: smallest pointwise probability: the statistic.
        p_value: exact probability of a smaller or equal gamma under uniform ranks.
        deviation: the ECDF difference of largest absolute value, with its sign.
    """

    z: np.ndarray
    ecdf: np.ndarray
    gamma: float
    p_value: float
    deviation: float


def evaluation_ranks(n_draws: int) -> np.ndarray:
    """Ranks k at which the ECDF is compared: all of 0..L-1, or `_MAX_POINTS` evenly spread."""
    if n_draws <= _MAX_POINTS:
        return np.arange(n_draws)
    return np.unique(np.linspace(0, n_draws - 1, _MAX_POINTS).round().astype(np.int64))


def ecdf_counts(ranks: np.ndarray, n_draws: int) -> tuple[np.ndarray, np.ndarray]:
    """(z, counts) at the evaluation points, for ranks (N,) in 0..n_draws."""
    k = evaluation_ranks(n_draws)
    cumulative = np.cumsum(np.bincount(ranks, minlength=n_draws + 1))
    return (k + 1) / (n_draws + 1), cumulative[k]


def ecdf_test(ranks: np.ndarray, n_draws: int) -> EcdfTest:
    """Test ranks for uniformity.

    Args:
        ranks: integers in 0..n_draws, shape (N,), independent of one another.
        n_draws: number of posterior draws behind each rank.

    Returns:
        The curve, its statistic and its exact p-value.
    """
    from scipy.stats import binom

    n = len(ranks)
    z, counts = ecdf_counts(ranks, n_draws)
    pointwise = 2 * np.minimum(binom.cdf(counts, n, z), binom.sf(counts - 1, n, z))
    gamma = float(min(1.0, pointwise.min()))
    p_value = max(_P_FLOOR, 1 - _null(n, n_draws, gamma))
    difference = counts / n - z
    deviation = float(difference[np.abs(difference).argmax()])
    return EcdfTest(z, counts / n, gamma, float(min(1.0, p_value)), deviation)


@lru_cache(maxsize=64)
def simultaneous_band(
    n: int, n_draws: int, false_alarm: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Band that a whole curve of N uniform ranks leaves with probability `false_alarm` at most.

    Args:
        n: number of ranks N.
        n_draws: posterior draws behind each.
        false_alarm: alpha, in (0, 1).

    Returns:
        (z, lower, upper), each of shape (K,); the ECDF may take the values lower and upper.
    """
    low, high = np.log(false_alarm) - np.log(2.0 * _MAX_POINTS), np.log(false_alarm)
    for _ in range(30):  # halving an interval of ln(2000) to 1e-8
        middle = (low + high) / 2
        inside = _null(n, n_draws, float(np.exp(middle))) >= 1 - false_alarm
        low, high = (middle, high) if inside else (low, middle)
    z = (evaluation_ranks(n_draws) + 1) / (n_draws + 1)
    lower, upper = _limits(n, z, float(np.exp(low)))
    return z, lower / n, upper / n


def _null(n: int, n_draws: int, gamma: float) -> float:
    """P(every pointwise probability of N uniform ranks exceeds gamma)."""
    z = (evaluation_ranks(n_draws) + 1) / (n_draws + 1)
    lower, upper = _limits(n, z, gamma)
    return stay_probability(lower, upper, n, z)


def _limits(n: int, z: np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest count whose pointwise probability exceeds gamma."""
    from scipy.stats import binom

    # A curve's own gamma is attained by one of its counts: that count must fall outside, though
    # the quantile function may round either way.
    half = 0.5 * gamma * (1 + 1e-9)
    if half >= 0.5:
        return np.ones(len(z)), np.zeros(len(z))
    return binom.ppf(half, n, z), n - binom.ppf(half, n, 1 - z)


def stay_probability(lower: np.ndarray, upper: np.ndarray, n: int, z: np.ndarray) -> float:
    """P(lower_k <= C_k <= upper_k for all k) for the counts C_k of N uniform numbers below z_k.

    Args:
        lower: integers, shape (K,), not decreasing.
        upper: integers, shape (K,), not decreasing.
        n: number of uniform numbers.
        z: increasing points in (0, 1), shape (K,).
    """
    from scipy.stats import poisson

    lower, upper = np.asarray(lower, dtype=np.int64), np.asarray(upper, dtype=np.int64)
    if (lower > upper).any():
        return 0.0
    steps = n * np.diff(z, prepend=0.0)
    kernels = {step: _kernel(step) for step in np.unique(steps.round(12)).tolist()}
    weight, start = np.ones(1), 0
    for step, low, high in zip(steps.round(12).tolist(), lower, upper, strict=True):
        spread = np.convolve(weight, kernels[step])
        first = max(low, start)
        weight = spread[first - start : high + 1 - start]
        start = first
        if not len(weight):
            return 0.0
    rest = poisson.pmf(n - start - np.arange(len(weight)), n * (1 - z[-1]))
    return float(min(1.0, weight @ rest / poisson.pmf(n, n)))


def _kernel(mean: float) -> np.ndarray:
    """Poisson probabilities up to a count whose tail is below 1e-20 (Chernoff bound)."""
    from scipy.stats import poisson

    return poisson.pmf(np.arange(int(mean + 12 * np.sqrt(mean)) + 40), mean)
