"""Cells that are exactly 0, as a smooth field: how deep within their regions a cell is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

__all__ = ["EDGE", "filled", "signed_depth", "signed_distance"]

EDGE = 2.0
"""Cells from an edge over which depth saturates."""

_SATURATED = 4  # edges away, depth is within 1e-3 of its limit
_REACH = 1.5  # cells: standard deviation of the weights of cells around an empty one
_FAINT = 0.01  # sum of these weights at which values have faded half way to their mean


def signed_depth(empty: np.ndarray, periodic: Sequence[bool]) -> np.ndarray:
    """From -1, far from the nearest empty cell, to 1, deep within them: of truth values (*n)."""
    pad = math.ceil(_SATURATED * EDGE)
    widths = [(min(pad, n),) * 2 if p else (0, 0)
              for n, p in zip(empty.shape, periodic, strict=True)]  # fmt: skip
    inner = tuple(slice(a, a + n) for (a, _), n in zip(widths, empty.shape, strict=True))
    return np.tanh(signed_distance(np.pad(empty, widths, mode="wrap"))[inner] / EDGE)


def filled(x: np.ndarray, empty: np.ndarray, periodic: Sequence[bool]) -> np.ndarray:
    """Cells (*n) of zero mean, the empty ones replaced by the weighted mean around them.

    What they are never shows, but a jump at every edge would be smeared.
    """
    modes = ["wrap" if p else "constant" for p in periodic]
    total, weight = (
        # A mode for each axis is what scipy documents, and its signature does not say.
        gaussian_filter(part, _REACH, mode=modes)  # pyright: ignore[reportArgumentType]
        for part in (np.where(empty, 0.0, x), np.where(empty, 0.0, 1.0))
    )
    return np.where(empty, total / (weight + _FAINT), x)


def signed_distance(empty: np.ndarray) -> np.ndarray:
    """Cells from the nearest edge between neighbours, positive within empty regions."""
    if empty.all() or not empty.any():
        return np.full(empty.shape, np.inf if empty.all() else -np.inf)
    inside, outside = (np.asarray(distance_transform_edt(b)) for b in (empty, ~empty))
    return np.where(empty, inside - 0.5, 0.5 - outside)
