"""Fields in a stranger's files: what they are, as far as they show it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sbitools.axes import SPACE
from sbitools.errors import ShapeError
from sbitools.formats import Axis, Fields, Seen, describe, open_fields
from sbitools.labels import is_missing
from sbitools.simulator import FieldSpec

from .periodic import looks_periodic

__all__ = ["Looked", "look"]

_LOOKED_AT = 64  # fields by which the ends of axes are compared
_DTYPES = {"float16": "float32", "int8": "int32", "int16": "int32", "uint16": "int32",
           "uint32": "int64", "bool": "uint8"}  # fmt: skip
_KNOWN = ("float32", "float64", "int32", "int64", "uint8", "complex64")


@dataclass(frozen=True)
class Looked:
    """What fields are.

    Args:
        file: array file, folder or pattern.
        dataset: name of the array in it.
        seen: by reading all of it.
        axes: of one field.
        dtype: that the store would have.
        indices: numbers in the names of the files, if there is one for each simulation.
    """

    file: str
    dataset: str | None
    seen: Seen
    axes: tuple[Axis, ...]
    dtype: str
    indices: np.ndarray | None

    @property
    def unit(self) -> str:
        """``""`` if the file states none."""
        return self.seen.unit or ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one field."""
        return self.seen.shape[1:]

    def spec(self, name: str) -> FieldSpec:
        """Of one field."""
        dims, kinds = tuple(a.name for a in self.axes), tuple(a.kind for a in self.axes)
        return FieldSpec(name, dims, self.shape, self.dtype, axes=kinds)

    @property
    def remarks(self) -> list[str]:
        """What a user should know."""
        seen, remarks = self.seen, []
        if seen.failed:
            remarks.append(
                f"{seen.failed} of {seen.n} simulations have NaN, infinite or masked values (the "
                f"first is {seen.first_failed}): they will be recorded as failed"
            )
        if seen.first_duplicate is not None:
            one, other = seen.first_duplicate
            remarks.append(
                f"{seen.duplicates} simulations repeat an earlier one (the first: {one} is "
                f"{other}): repeated ones on both sides of a split make tests too good"
            )
        if seen.constant > 0:
            remarks.append(
                f"{100 * seen.constant:.3g} % of the cells have one value in all simulations: "
                "they are left out of training"
            )
        return remarks


def look(file: str, dataset: str | None, what: str) -> Looked:
    """Look at all fields in a file.

    Args:
        file: array file, folder or pattern.
        dataset: name of the array in it; None: the only one, or one called `what`.
        what: ``"x"`` or ``"source"``.

    Raises:
        StoreError: for a file that cannot be read.
        ShapeError: for values that a store cannot hold.
    """
    with open_fields(file, dataset, prefer=what) as fields:
        seen = describe(fields)
        axes = _axes(fields, seen)
        indices = fields.indices
    dtype = _DTYPES.get(seen.dtype, seen.dtype)
    if dtype not in _KNOWN:
        raise ShapeError(
            f"{what} in {file}", expected=f"one of {', '.join(_KNOWN)}", got=seen.dtype,
            fix="convert the values",
        )  # fmt: skip
    return Looked(file, dataset, seen, axes, dtype, indices)


def _axes(fields: Fields, seen: Seen) -> tuple[Axis, ...]:
    """Guessed axes of space are periodic where the fields show that their ends are neighbours."""
    few = fields[:_LOOKED_AT]
    values = np.ma.getdata(few)
    rows = values.reshape(len(values), -1)
    values = values[~(is_missing(rows) | np.ma.getmaskarray(few).reshape(rows.shape)).any(1)]
    out = []
    for i, axis in enumerate(seen.axes, start=1):
        if not axis.stated and axis.kind in SPACE and len(values) and looks_periodic(values, i):
            reason = "the fields step across its ends as between neighbours"
            axis = replace(axis, kind="periodic", reason=reason)
        out.append(axis)
    return tuple(out)
