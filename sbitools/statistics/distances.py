"""Distances between one-point distributions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sbitools.errors import ShapeError

from .fourier import as_array

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["wasserstein"]


def wasserstein(first: Tensor | np.ndarray, second: Tensor | np.ndarray) -> float:
    """Wasserstein-1 distance of the values of two sets of fields.

    The area between the cumulative distributions: how far a value has to be moved in the mean to
    turn one distribution into the other. It is exact, without bins, in the unit of the values.

    Args:
        first: any shape; the cells of all fields are one sample.
        second: any shape, of another number of values if need be.

    Raises:
        ShapeError: for no values, or values that are not finite.
    """
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(_values(first, "first"), _values(second, "second")))


def _values(fields: Tensor | np.ndarray, what: str) -> np.ndarray:
    fields = as_array(fields)
    if not fields.size or np.iscomplexobj(fields) or not np.isfinite(fields).all():
        raise ShapeError(
            what, expected="finite real numbers, at least one",
            got=f"shape {fields.shape}, {fields.dtype}", fix="leave failed fields out",
        )  # fmt: skip
    return fields.ravel().astype(np.float64)
