"""Arrays as users give them become plain numpy arrays and tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbitools.errors import SbitoolsError, ShapeError, StoreError
from sbitools.labels import FieldLabels, axis_names, field_values, unlabelled

__all__ = ["as_native", "is_tensor", "real_tensor", "selection"]

_WIDEST = 8  # bytes of a number that torch has


def as_native(
    values: Any, what: str = "array", spec: FieldLabels | None = None, *, batch: bool = True,
    error: type[SbitoolsError] = ShapeError,
) -> np.ndarray:  # fmt: skip
    """A C-contiguous, writable copy in native byte order; `values` stay as they are.

    Args:
        values: tensor, array (memory-mapped, read-only, reversed, or big-endian as FITS files
            give it), nested sequence, or anything with labels: see `sbitools.labels`.
        what: name for the message.
        spec: of the field they are, with which labels and units are compared; without it, labels
            that could matter are refused.
        batch: whether there is a batch axis.
        error: class to raise.

    Raises:
        ShapeError: for what is no array, such as rows of different lengths.
        SbitoolsError: of class `error`, for labels that do not fit.
    """
    if spec is None:
        return _array(unlabelled(values, what, error, batch=batch), what)
    return _array(field_values(values, spec, what, error, batch=batch), what)


def _array(plain: Any, what: str) -> np.ndarray:
    try:
        array = plain.numpy(force=True) if isinstance(plain, Tensor) else np.asarray(plain)
        if array.dtype == object and array.ndim == 0:  # None, a generator, a dictionary
            raise TypeError("not a sequence of numbers")
        return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    except (ValueError, TypeError, RuntimeError) as problem:
        raise ShapeError(
            what, expected="an array whose rows have equal shapes",
            got=f"{type(plain).__name__} ({problem})", fix="make a numpy array of it",
        ) from problem  # fmt: skip


def real_tensor(
    values: Any, what: str, error: type[SbitoolsError], spec: FieldLabels | None = None, *,
    batch: bool = True,
) -> Tensor:  # fmt: skip
    """Real numbers as a tensor of the same dtype; a tensor is returned as it is.

    Args:
        values: as in `as_native`.
        what: name for the message.
        error: class to raise.
        spec: of the field they are; see `as_native`.
        batch: whether a field has a batch axis.

    Raises:
        SbitoolsError: of class `error`, for rows of different lengths, text, objects, truth values
            or complex numbers, and for labels that do not fit.
    """
    if is_tensor(values):
        if not values.is_complex() and values.dtype != torch.bool:
            return values
        got = f"dtype {values.dtype}"
    else:
        if spec is None:
            plain = unlabelled(values, what, error, batch=batch)
        else:
            plain = field_values(values, spec, what, error, batch=batch)
        try:
            array = _array(plain, what)
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


def is_tensor(values: Any) -> bool:
    """Whether it is a tensor without names, mask or gaps."""
    if not isinstance(values, Tensor) or values.layout != torch.strided:
        return False
    return not axis_names(values) and not hasattr(values, "get_mask")


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
    rows = getattr(chosen, "index", None)
    if hasattr(chosen, "to_numpy") and rows is not None:  # a Series: its labels count in a mask
        mask = chosen.to_numpy().dtype.kind == "b"
        if mask and list(rows) != list(range(len(rows))):
            raise error(
                what, expected=f"a mask whose rows are labelled 0 to {n - 1}, or not at all",
                got="rows in another order", fix="pass mask.sort_index().to_numpy()",
            )  # fmt: skip
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
        what,
        expected=f"whole numbers in [0, {n}), or a mask of {n} truth values",
        got=got,
        fix="pass row numbers, for example numpy.flatnonzero(mask)",
    )  # fmt: skip
