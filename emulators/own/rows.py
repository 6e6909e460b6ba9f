"""Some rows of a large array, read slice by slice."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Rows"]


class Rows:
    """Rows of an array as an array of their own; nothing is read before it is asked for.

    Args:
        array: with a shape and slices, rows first.
        rows: ascending numbers, (n,).
        dtype: to which whole blocks are converted.
    """

    def __init__(self, array: Any, rows: np.ndarray, dtype: str) -> None:
        self._array, self._rows = array, rows
        self.dtype = np.dtype(dtype)
        self.shape = (len(rows), *array.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, which: Any) -> np.ndarray:
        rows = self._rows[which]
        if np.ndim(rows) == 0:
            return self[int(which) : int(which) + 1][0]
        values = self._array[rows]
        if isinstance(values, np.ma.MaskedArray):
            if self.dtype.kind != "f":
                return values  # the store says that it has no value for what is masked
            values = values.astype(self.dtype).filled(np.nan)
        return np.asarray(values).astype(self.dtype, copy=False)
