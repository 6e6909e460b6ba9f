"""Whether the two ends of an axis are neighbours, as the fields themselves tell."""

from __future__ import annotations

import numpy as np

__all__ = ["looks_periodic"]

_SMOOTH = 0.7  # of the step between far cells: larger steps between neighbours tell nothing
_SAME = 1.5  # a step across the ends is at most as much larger than one between neighbours


def looks_periodic(fields: np.ndarray, axis: int) -> bool:
    """Whether the step from the last cell of an axis to the first is like any other.

    Args:
        fields: finite values, (n, ...).
        axis: of the array, 1 or more.
    """
    x = np.moveaxis(fields.astype(np.float64), axis, -1)
    n = x.shape[-1]
    if n < 4:
        return False
    inner = _mean_square(x[..., 1:] - x[..., :-1])
    across = _mean_square(x[..., 0] - x[..., -1])
    far = _mean_square(x[..., : n // 2] - x[..., n // 2 : 2 * (n // 2)])
    return bool(0 < inner < _SMOOTH * far and across < _SAME * inner)


def _mean_square(steps: np.ndarray) -> float:
    largest = np.abs(steps).max()
    return float(np.mean((steps / largest) ** 2) * largest**2) if largest > 0 else 0.0
