"""One file per simulation, seen as one array: each file is opened when its row is read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from .fields import Fields
from .patterns import Files
from .reading import bad_file

__all__ = ["ManyFields"]


class ManyFields(Fields):
    """Files of one shape, dtype, unit and order of pixels; the first says which.

    Args:
        pattern: for messages.
        files: in order.
        opened: how to open one of them.
    """

    def __init__(
        self,
        pattern: Path,
        files: Files,
        opened: Callable[[Path], AbstractContextManager[Fields]],
    ) -> None:
        self.files, self._opened = files.paths, opened
        with opened(files.paths[0]) as one:
            values = one.whole()
            self._said = _said(one)
            names = one.axis_names[one.ndim - values.ndim :] if one.axis_names else ()
            super().__init__(
                pattern, (len(files.paths), *values.shape), values.dtype, attrs=dict(one.attrs),
                axis_names=("simulation", *names) if names and all(names) else (),
                coords=dict(one.coords), kinds=one.kinds, indices=files.indices,
            )  # fmt: skip
        if len(self.files) > 1:  # the others are looked at as they are read
            self._one(self.files[-1])

    def _read(self, rows: Any) -> np.ndarray:
        chosen = self.files if rows is ... else self.files[rows]
        out = np.empty((len(chosen), *self.shape[1:]), self.dtype)
        masks: dict[int, np.ndarray] = {}
        for i, file in enumerate(chosen):
            values = self._one(file)
            if isinstance(values, np.ma.MaskedArray):
                masks[i] = np.ma.getmaskarray(values)
            out[i] = np.ma.getdata(values)
        if not masks:
            return out
        mask = np.zeros(out.shape, bool)
        for i, where in masks.items():
            mask[i] = where
        return np.ma.masked_array(out, mask)

    def _one(self, file: Path) -> np.ndarray:
        with self._opened(file) as one:
            for (what, usual), (_, found) in zip(self._said, _said(one), strict=True):
                if found != usual:
                    raise bad_file(
                        file, f"{what} {usual}, as in {self.files[0].name}", f"{what} {found}",
                        "make all files in the same way, or leave this one out",
                    )  # fmt: skip
            return one.whole()


def _said(one: Fields) -> tuple[tuple[str, Any], ...]:
    """What must be the same in all files."""
    return (
        ("shape", one.shape), ("dtype", str(one.dtype)), ("unit", one.unit),
        ("axes", one.axis_names), ("order of pixels", one.attrs.get("ORDERING")),
        ("coordinates", {name: _direction(labels) for name, labels in one.coords.items()}),
    )  # fmt: skip


def _direction(labels: np.ndarray) -> str:
    """How labels along an axis run."""
    if labels.dtype.kind not in "iufmM" or len(labels) < 2:
        return str(labels.tolist())
    steps = np.diff(labels)
    zero = steps.dtype.type(0)
    return "ascending" if (steps > zero).all() else "descending or in disorder"
