"""Positive numbers whose logarithm follows from theta: a linear model of gamma variates."""

from __future__ import annotations

import numpy as np

__all__ = ["FLOOR", "log_means"]

FLOOR = 1e-12
"""Of numbers that are 0, in units of the mean of all."""

_ROUNDS = 40
_STEP = 2.0  # of a logarithm in one round, at most
_RIDGE = 0.02


def log_means(terms: np.ndarray, found: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Coefficients (T, bins) of ln of the mean of `found`, at the highest likelihood.

    By Fisher scoring; the shape of the gamma distribution of a bin does not matter.

    Args:
        terms: functions of theta, (n, T), the first one 1.
        found: (n, bins), 0 or more.
        counts: how many numbers each bin is the mean of, (bins,): of few, what depends on theta is
            held back a little.
    """
    found = np.maximum(found, FLOOR * found.mean() + 1e-300)
    out = np.zeros((terms.shape[1], found.shape[1]))
    out[0] = np.log(found.mean(0))
    ridge = _RIDGE * len(terms) / (1 + counts)[:, None, None] * np.eye(terms.shape[1])
    ridge[:, 0, 0] = 0
    systems = terms.T @ terms + ridge
    for _ in range(_ROUNDS):
        miss = terms.T @ (found * np.exp(-(terms @ out)) - 1)
        pull = (ridge @ out.T[..., None])[..., 0].T
        step = np.linalg.solve(systems, (miss - pull).T[..., None])[..., 0].T
        out += np.clip(step, -_STEP, _STEP)
        if np.abs(step).max() < 1e-6:
            break
    return out
