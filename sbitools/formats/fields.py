"""Fields in files: what the file says of them, and slices of them. Nothing else is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sbitools.disk.files import memory
from sbitools.errors import StoreError
from sbitools.gate.arrays import selection
from sbitools.labels import stated_unit
from sbitools.labels.kinds import unnamed

from .reading import foreign

__all__ = ["Fields"]


class Fields:
    """An array on disk, one simulation per row; a kind of file is a class with `_read`.

    Rows are read as they are asked for: by a slice, by row numbers, or all with ``[...]``. They
    come in native byte order; values that the file marks as missing are masked, or NaN.

    Args:
        path: of the file.
        shape: of the array, (n, ...).
        dtype: of its values.
        attrs: what the file says of it.
        axis_names: name of each axis, "" for one without; () if no axis has a name.
        coords: labels along axes, by the name of the axis.
        kinds: what each axis after the first is, where the file tells; see `sbitools.axes`.
        indices: numbers of the simulations in the names of their files, int64, (n,).
    """

    def __init__(
        self,
        path: Path,
        shape: Sequence[int],
        dtype: Any,
        *,
        attrs: Mapping[str, Any] | None = None,
        axis_names: Sequence[str] = (),
        coords: Mapping[str, np.ndarray] | None = None,
        kinds: tuple[str, ...] | None = None,
        indices: np.ndarray | None = None,
    ) -> None:
        self.path = path
        self.shape: tuple[int, ...] = tuple(int(n) for n in shape)
        self.dtype = np.dtype(dtype).newbyteorder("=")
        self.attrs: Mapping[str, Any] = {} if attrs is None else attrs
        self.axis_names = tuple(str(name) for name in axis_names)
        self.coords = {} if coords is None else coords
        self.kinds, self.indices = kinds, indices

    def _read(self, rows: Any) -> np.ndarray:
        """Rows of a slice without step, or everything for ``...``."""
        raise NotImplementedError

    @property
    def unit(self) -> str | None:
        """The unit that the file states, or None."""
        return stated_unit(self.attrs)

    @property
    def dims(self) -> tuple[str, ...] | None:
        """Names of the axes after the first, or None if the file does not name them all."""
        names = self.axis_names[1:]
        return names if names and all(names) and not unnamed(self.axis_names) else None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    def __getitem__(self, rows: Any) -> np.ndarray:
        if rows is ... or (isinstance(rows, tuple) and rows in ((), (...,))):
            return self._checked(..., self.shape)
        if isinstance(rows, int | np.integer) and not isinstance(rows, bool):
            return self[[int(rows)]][0]
        if isinstance(rows, slice) and rows.step in (None, 1):
            start, stop, _ = rows.indices(len(self))
            stop = max(start, stop)
            return self._checked(slice(start, stop), (stop - start, *self.shape[1:]))
        return self._chosen(selection(rows, len(self), "simulations", StoreError))

    def astype(self, dtype: str) -> Fields:
        """The same fields in another dtype, converted as they are read.

        Raises:
            StoreError: where numbers would be cut: complex to real, or fractions to whole ones.
        """
        if np.dtype(dtype) == self.dtype:
            return self
        if not np.can_cast(self.dtype, dtype, "same_kind"):
            raise StoreError(
                str(self.path), expected=f"values that are {dtype} without loss of a part",
                got=f"dtype {self.dtype}", fix="choose a dtype of the same kind",
            )  # fmt: skip
        return _Converted(self, dtype)

    def whole(self) -> np.ndarray:
        """Everything, seen as one field; an axis of length 1 that the format adds is left out."""
        return self[...]

    def _checked(self, rows: Any, shape: tuple[int, ...]) -> np.ndarray:
        with foreign(self.path):
            if math.prod(shape) * self.dtype.itemsize > memory():  # a small file claims any size
                raise ValueError(f"shape {shape}, more than the memory holds")
            values = self._read(rows)
            if values.shape != shape:
                raise ValueError(f"shape {values.shape} where the file states {shape}")
            return values.astype(self.dtype, copy=False)

    def _chosen(self, rows: np.ndarray) -> np.ndarray:
        """Rows by number: each stretch of neighbours is read at once, each row once."""
        ascending, where = np.unique(rows, return_inverse=True)
        if not len(rows):
            return self[0:0]
        ends = np.flatnonzero(np.diff(ascending) != 1) + 1
        parts = [self[int(s[0]) : int(s[-1]) + 1] for s in np.split(ascending, ends)]
        masked = any(isinstance(p, np.ma.MaskedArray) for p in parts)
        values = np.ma.concatenate(parts) if masked else np.concatenate(parts)
        return values if np.array_equal(ascending, rows) else values[where]


class _Converted(Fields):
    """Fields of another dtype."""

    def __init__(self, fields: Fields, dtype: str) -> None:
        self._fields = fields
        super().__init__(
            fields.path, fields.shape, dtype, attrs=fields.attrs, axis_names=fields.axis_names,
            coords=fields.coords, kinds=fields.kinds, indices=fields.indices,
        )  # fmt: skip

    def _read(self, rows: Any) -> np.ndarray:
        with np.errstate(over="ignore"):  # infinite then, and found as such
            return self._fields[rows].astype(self.dtype)

    def whole(self) -> np.ndarray:
        with np.errstate(over="ignore"):
            return self._fields.whole().astype(self.dtype)
