"""The noise floor: how much a mean statistic of the reference differs from itself.

An emulator that agrees with its reference to better than two halves of the reference agree with
each other cannot be told from it with these simulations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sbitools.errors import ShapeError
from sbitools.seeds import derive

__all__ = ["NoiseFloor", "noise_floor"]


@dataclass(frozen=True)
class NoiseFloor:
    """Reference against reference, each of the shape of one statistic.

    Attributes:
        mean: over the simulations.
        scatter: standard deviation between simulations.
        error: standard error of the mean.
        halves: root mean square difference of the means of two disjoint halves.
        n: number of simulations.
    """

    mean: np.ndarray
    scatter: np.ndarray
    error: np.ndarray
    halves: np.ndarray
    n: int

    @property
    def relative(self) -> np.ndarray:
        """`halves` as a fraction of the mean: the band to draw around a ratio of 1."""
        return self.halves / np.abs(self.mean)


def noise_floor(statistic: np.ndarray, *, splits: int = 200, seed: int = 0) -> NoiseFloor:
    """Measure the noise floor from a statistic of independent reference simulations.

    Args:
        statistic: shape (n_simulations, ...), at least 4 simulations.
        splits: number of random divisions into halves.
        seed: of the divisions.

    Raises:
        ShapeError: for fewer than 4 simulations.
    """
    values = np.asarray(statistic, dtype=np.float64)
    n = len(values) if values.ndim else 0
    if n < 4:
        raise ShapeError(
            "statistic", expected="4 or more simulations on the first axis",
            got=f"shape {values.shape}", fix="use more reference simulations",
        )  # fmt: skip
    rng = np.random.default_rng(derive(seed, 0))
    squares, half = np.zeros(values.shape[1:]), n // 2
    for _ in range(splits):
        order = rng.permutation(n)
        first, second = values[order[:half]], values[order[half : 2 * half]]
        squares += (first.mean(0) - second.mean(0)) ** 2
    scatter = values.std(0, ddof=1)
    return NoiseFloor(values.mean(0), scatter, scatter / n**0.5, np.sqrt(squares / splits), n)
