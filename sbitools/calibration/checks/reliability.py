"""Reliability curves: stated probabilities against shares that came true, with exact bands.

Given the probabilities, hits in a bin are a sum of independent Bernoulli numbers, and those in
different bins are independent. So the band of a bin is a quantile of the Poisson binomial
distribution, at a level at which a whole curve leaves its bands with a stated probability.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["equal_bins", "reliability_curve"]


def equal_bins(values: np.ndarray, bins: int) -> np.ndarray:
    """Number of the bin of each value, bins of equal numbers of tests; equal values together."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, values, side="right")


def reliability_curve(
    stated: np.ndarray, hit: np.ndarray, bins: int, false_alarm: float
) -> dict[str, Any]:
    """Mean stated probability and share of hits in bins, and simultaneous bands of the latter.

    Args:
        stated: probabilities of an event in N tests, (N,).
        hit: whether it happened, (N,).
        bins: at most so many, of equal numbers of tests.
        false_alarm: probability, at most, with which the curve of right probabilities leaves its
            bands anywhere.

    Returns:
        ``"stated"``, ``"actual"``, ``"lower"``, ``"upper"`` and ``"tests"``, one number per bin.
    """
    cell = equal_bins(stated, bins)
    filled = [np.flatnonzero(cell == c) for c in np.unique(cell)]
    # Bins are independent: each may err with this probability (Sidak 1967).
    level = -np.expm1(np.log1p(-false_alarm) / len(filled))
    ends = np.array([_limits(stated[rows], level) for rows in filled])
    return {
        "stated": np.array([stated[rows].mean() for rows in filled]),
        "actual": np.array([hit[rows].mean() for rows in filled]),
        "lower": ends[:, 0], "upper": ends[:, 1],
        "tests": np.array([len(rows) for rows in filled], dtype=np.int64),
    }  # fmt: skip


def _limits(p: np.ndarray, level: float) -> tuple[float, float]:
    """Shares of hits that tests of probabilities p (n,) leave with probability `level` at most."""
    chance = np.zeros(len(p) + 1)  # of each number of hits
    chance[0] = 1.0
    for q in p:
        chance[1:] = chance[1:] * (1 - q) + chance[:-1] * q
        chance[0] *= 1 - q
    low = int(np.searchsorted(np.cumsum(chance), level / 2, side="right"))
    high = len(p) - int(np.searchsorted(np.cumsum(chance[::-1]), level / 2, side="right"))
    return low / len(p), high / len(p)
