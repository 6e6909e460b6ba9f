"""Bootstrap errors of means over tests, resampling whole groups."""

from __future__ import annotations

import numpy as np

__all__ = ["bootstrap_means", "bounded"]

_RESAMPLES = 1000

# Random numbers held at a time: few enough for a processor's cache.
_BLOCK = 200_000


def bootstrap_means(
    values: np.ndarray, group: np.ndarray, rng: np.random.Generator, n: int = _RESAMPLES
) -> np.ndarray:
    """Means over tests of `n` bootstrap samples of groups.

    A quantity made of several means (a variance, R^2) is bootstrapped by giving its terms as
    columns: they are resampled together.

    Args:
        values: shape (N, K).
        group: shape (N,).
        rng: generator.
        n: number of bootstrap samples.

    Returns:
        Array of shape (n, K).
    """
    _, which = np.unique(group, return_inverse=True)
    n_groups = int(which.max()) + 1
    sums = np.zeros((n_groups, values.shape[1]))
    np.add.at(sums, which, values)
    sizes = np.bincount(which, minlength=n_groups)
    out = np.empty((n, values.shape[1]))
    step = max(1, _BLOCK // n_groups)
    for start in range(0, n, step):
        rows = min(step, n - start)
        chosen = rng.integers(0, n_groups, size=(rows, n_groups))
        chosen += np.arange(rows)[:, None] * n_groups
        weights = np.bincount(chosen.ravel(), minlength=rows * n_groups).astype(np.float64)
        weights = weights.reshape(rows, n_groups)
        out[start : start + rows] = (weights @ sums) / (weights @ sizes)[:, None]
    return out


# Its square is a number still.
_LARGEST = 1e100


def bounded(values: np.ndarray) -> np.ndarray:
    """Values within 1e100, and this for those that are no numbers: tables must stay finite."""
    return np.clip(np.nan_to_num(values, nan=_LARGEST), -_LARGEST, _LARGEST)
