"""Arrays as users give them become plain numpy arrays and tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import SbitoolsError, ShapeError, StoreError

__all__ = ["as_native", "real_tensor", "selection"]

_WIDEST = 8  # bytes of a number that torch has


def as_native(values: Any, what: str = "array") -> np.ndarray:
    """A C-contiguous, writable copy in native byte order; `values` stay as they are.

    Args:
        values: tensor, array (memory-mapped, read-only, reversed, or big-endian as FITS files
            give it) or nested sequence.
        what: name for the message.

    Raises:
        ShapeError: for what is no array, such as rows of different lengths.
    """
    try:
        array = values.numpy(force=True) if isinstance(values, Tensor) else np.asarray(values)
        return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    except (ValueError, TypeError, RuntimeError) as error:
        raise ShapeError(
            what, expected="an array whose rows have equal shapes",
            got=f"{type(values).__name__} ({error})", fix="make a numpy array of it",
        ) from error  # fmt: skip


def real_tensor(values: Any, what: str, error: type[SbitoolsError]) -> Tensor:
    """Real numbers as a tensor of the same dtype; a tensor is returned as it is.

    Args:
        values: tensor, array or nested sequence, as in `as_native`.
        what: name for the message.
        error: class to raise.

    Raises:
        SbitoolsError: of class `error`, for rows of different lengths, text, objects, truth values
            or complex numbers.
    """
    if isinstance(values, Tensor):
        if not values.is_complex() and values.dtype != torch.bool:
            return values
        got = f"dtype {values.dtype}"
    else:
        try:
            array = as_native(values, what)
        except ShapeError as problem:
            got = problem.got
        else:
            if array.dtype.kind in "fiu" and array.dtype.itemsize <= _WIDEST:
                return torch.from_numpy(array)
            got = f"dtype {array.dtype}"
    raise error(
        what, expected="real numbers in rows of equal length", got=got,
        fix="convert it with numpy: .astype('float64') or .astype('float32')",
    )  # fmt: skip


def selection(
    chosen: Any, n: int, what: str = "indices", error: type[SbitoolsError] = StoreError
) -> np.ndarray:
    """The one reading of every selection of simulations: row numbers, int64, shape (m,).

    Args:
        chosen: whole numbers in [0, n), in any order and with repetitions; or a boolean mask of
            length n; a slice; or None for all.
        n: how many there are.
        what: name for the message.
        error: class to raise.

    Raises:
        SbitoolsError: of class `error`, for anything else: fractions, text, a mask of another
            length, several axes, numbers outside.
    """
    if chosen is None:
        return np.arange(n, dtype=np.int64)
    if isinstance(chosen, slice):
        return np.arange(n, dtype=np.int64)[chosen]
    try:
        rows = as_native(list(chosen) if isinstance(chosen, range) else chosen, what)
    except ShapeError as problem:
        rows, got = None, problem.got
    else:
        got = f"dtype {rows.dtype}, shape {rows.shape}"
    if rows is not None and rows.ndim == 1:
        if not len(rows) and rows.dtype.kind in "fiub":
            return rows.astype(np.int64)
        if rows.dtype.kind == "b" and len(rows) == n:
            return np.flatnonzero(rows).astype(np.int64)
        if rows.dtype.kind in "iu":
            outside = (rows < 0) | (rows >= n)
            if not outside.any():
                return rows.astype(np.int64)
            got = f"{rows[outside][0]}"
    raise error(
        what, expected=f"whole numbers in [0, {n}), or a mask of {n} truth values", got=got,
        fix="pass row numbers, for example numpy.flatnonzero(mask)",
    )  # fmt: skip
