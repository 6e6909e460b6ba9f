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

__all__ = [
    "EcdfTest",
    "ecdf_counts",
    "ecdf_test",
    "evaluation_ranks",
    "gamma_p_values",
    "gammas",
    "places_of",
    "pointwise",
    "simultaneous_band",
    "simultaneous_gamma",
    "stay_probability",
]

# Evaluation points: evenly spread, and every rank near both ends, where the binomial counts are
# small and vary fast. More change neither band nor power visibly; the null stays exact because it
# is computed at the same points.
_MAX_POINTS = 200
_ENDS = 10

# Up to this many ranks, pointwise probabilities of all possible counts are tabulated.
_TABULATED = 5000

# Statistics at which the exact null is computed once; between them it is interpolated. Where
# curves can attain few values, all of them are nodes.
_NODES = 48
_FEW = 200

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
    """Ranks k at which the ECDF is compared: all of 0..L-1, or some `_MAX_POINTS` of them."""
    if n_draws <= _MAX_POINTS:
        return np.arange(n_draws)
    spread = np.linspace(0, n_draws - 1, _MAX_POINTS).round().astype(np.int64)
    return np.unique([*range(_ENDS), *spread, *range(n_draws - _ENDS, n_draws)])


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
    n = len(ranks)
    z, counts = ecdf_counts(ranks, n_draws)
    gamma = float(pointwise(counts, n, n_draws).min())
    p_value = max(_P_FLOOR, 1 - _null(n, n_draws, gamma))
    difference = counts / n - z
    deviation = float(difference[np.abs(difference).argmax()])
    return EcdfTest(z, counts / n, gamma, float(min(1.0, p_value)), deviation)


def pointwise(counts: np.ndarray, n: int, n_draws: int) -> np.ndarray:
    """Two-sided binomial probabilities of cumulative counts at the evaluation points.

    Args:
        counts: number of ranks at or below each evaluation rank, shape (..., K).
        n: number of ranks.
        n_draws: posterior draws behind each.

    Returns:
        2 min(P(C_k <= c_k), P(C_k >= c_k)), at most 1, same shape.
    """
    if n <= _TABULATED:
        return _pointwise_table(n, n_draws)[np.arange(counts.shape[-1]), counts]
    return _two_sided(counts, n, (evaluation_ranks(n_draws) + 1) / (n_draws + 1))


@lru_cache(maxsize=16)
def _pointwise_table(n: int, n_draws: int) -> np.ndarray:
    """Pointwise probability of every count 0..n at every evaluation point, shape (K, n + 1)."""
    z = (evaluation_ranks(n_draws) + 1) / (n_draws + 1)
    return _two_sided(np.arange(n + 1), n, z[:, None])


def _two_sided(counts: np.ndarray, n: int, z: np.ndarray) -> np.ndarray:
    from scipy.stats import binom

    both = np.minimum(binom.cdf(counts, n, z), binom.sf(counts - 1, n, z))
    return np.minimum(1.0, 2 * both)


def gammas(places: np.ndarray, n_draws: int) -> np.ndarray:
    """Statistics of many curves.

    Args:
        places: of the ranks among the evaluation points (see `places_of`), shape (R, n).
        n_draws: posterior draws behind each rank.

    Returns:
        Smallest pointwise probability of each row, shape (R,).
    """
    repeats, n = places.shape
    n_points = len(evaluation_ranks(n_draws))
    flat = places + (np.arange(repeats) * (n_points + 1))[:, None]
    cells = np.bincount(flat.ravel(), minlength=repeats * (n_points + 1))
    counts = np.cumsum(cells.reshape(repeats, -1)[:, :-1], axis=1)
    return pointwise(counts, n, n_draws).min(1)


def places_of(ranks: np.ndarray, n_draws: int) -> np.ndarray:
    """Number of evaluation points below each rank: all that an ECDF needs to know, uint16."""
    table = np.searchsorted(evaluation_ranks(n_draws), np.arange(n_draws + 1))
    return table.astype(np.uint16)[ranks]


def gamma_p_values(gamma: np.ndarray, n: int, n_draws: int) -> np.ndarray:
    """p-values of many statistics: `ecdf_test`'s exact null, interpolated between its own values.

    The map is monotone and exact at its nodes; between them it errs by up to 9 % of the p-value,
    as the exact null is a staircase and this is not.

    Args:
        gamma: smallest pointwise probabilities, any shape.
        n: number of ranks.
        n_draws: posterior draws behind each.
    """
    from scipy.interpolate import PchipInterpolator

    nodes, p = _p_table(n, n_draws)
    logs = np.log(np.clip(gamma, np.exp(nodes[0]), np.exp(nodes[-1])))
    return np.exp(
        PchipInterpolator(nodes, p)(logs) if len(nodes) > 1 else np.full_like(logs, p[0])
    )


@lru_cache(maxsize=32)
def _p_table(n: int, n_draws: int) -> tuple[np.ndarray, np.ndarray]:
    """(log gamma, log p) at values of gamma that curves can attain, ascending."""
    wanted = np.exp(np.concatenate([np.linspace(-32, -14, 10), np.linspace(-13.5, 0, _NODES)]))
    if n <= _TABULATED:  # between attainable values the null is flat: it is known at those only
        possible = _attainable(n, n_draws)
        places = np.searchsorted(possible, wanted).clip(0, len(possible) - 1)
        wanted = possible if len(possible) <= _FEW else np.unique(possible[places])
    p = np.array([max(_P_FLOOR, 1 - _null(n, n_draws, float(g))) for g in wanted])
    return np.log(wanted), np.log(np.maximum.accumulate(np.minimum(p, 1.0)))


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
    gamma = simultaneous_gamma(n, n_draws, false_alarm)
    z = (evaluation_ranks(n_draws) + 1) / (n_draws + 1)
    lower, upper = _limits(n, z, gamma)
    return z, lower / n, upper / n


def simultaneous_gamma(n: int, n_draws: int, false_alarm: float) -> float:
    """The largest statistic (to 1e-6) whose p-value is at most `false_alarm`."""

    def rejected(log_gamma: float) -> bool:
        return _null(n, n_draws, float(np.exp(log_gamma))) >= 1 - false_alarm

    nodes, p = _p_table(n, n_draws)
    # The p-value between nodes is between theirs, so a few halvings find the place.
    place = int(np.searchsorted(p, np.log(false_alarm), side="right"))
    low = nodes[place - 1] if place else nodes[0] - np.log(2000.0)
    high = nodes[place] if place < len(nodes) else np.log(2.0)
    if n <= _TABULATED and place:  # only values that curves attain can be the one
        steps = np.log(_attainable(n, n_draws))
        first, last = np.searchsorted(steps, [low, high])
        while last - first > 1:
            middle = (first + last) // 2
            first, last = (middle, last) if rejected(float(steps[middle])) else (first, middle)
        return float(np.exp(steps[first]))
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if rejected(middle) else (low, middle)
    return float(np.exp(low))


@lru_cache(maxsize=16)
def _attainable(n: int, n_draws: int) -> np.ndarray:
    """Values above 1e-15 that the statistic can have, ascending."""
    possible = np.unique(_pointwise_table(n, n_draws))
    possible = possible[possible > 1e-15]
    # Values that differ by rounding alone are one, the largest.
    return possible[np.append(np.diff(np.log(possible)) > 1e-10, True)]


def _null(n: int, n_draws: int, gamma: float) -> float:
    """P(every pointwise probability of N uniform ranks exceeds gamma)."""
    if gamma < 1e-3 * _P_FLOOR:  # there are fewer than a thousand points: all but surely
        return 1.0
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
