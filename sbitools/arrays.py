"""Arrays as users give them become plain numpy arrays and tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import SbitoolsError, ShapeError

__all__ = ["as_native", "real_tensor"]


def as_native(
    values: Any, what: str = "array", error: type[SbitoolsError] = ShapeError
) -> np.ndarray:
    """A C-contiguous, writable copy in native byte order; `values` stay as they are.

    Args:
        values: tensor, array (memory-mapped, read-only, reversed, or big-endian as FITS files
            give it) or nested sequence.
        what: name for the message.
        error: class to raise.

    Returns:
        A numpy array.

    Raises:
        SbitoolsError: of class `error`, for what is no array, such as rows of different lengths.
    """
    try:
        array = values.numpy(force=True) if isinstance(values, Tensor) else np.asarray(values)
        return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    except (ValueError, TypeError, RuntimeError) as problem:
        raise error(
            what, expected="an array whose rows have equal shapes",
            got=f"{type(values).__name__} ({problem})", fix="make a numpy array of it",
        ) from problem  # fmt: skip


def real_tensor(values: Any, what: str, error: type[SbitoolsError]) -> Tensor:
    """Real numbers as a tensor of the same dtype; a tensor is returned as it is.

    Args:
        values: tensor, array or nested sequence, as in `as_native`.
        what: name for the message.
        error: class to raise.

    Raises:
        SbitoolsError: of class `error`, for text, objects, truth values or complex numbers.
    """
    if isinstance(values, Tensor):
        real, dtype = not values.is_complex() and values.dtype != torch.bool, values.dtype
    else:
        values = as_native(values, what, error)
        real, dtype = values.dtype.kind in "fiu" and values.dtype.itemsize <= 8, values.dtype
    if not real:
        raise error(
            what, expected="real numbers", got=f"dtype {dtype}".replace("torch.", ""),
            fix="convert it with .astype('float64') or .astype('float32')",
        )  # fmt: skip
    return torch.as_tensor(values)
