"""The result of a program: one simulation in a file, checked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sbitools.arrays import as_native
from sbitools.errors import ShapeError
from sbitools.formats import open_array
from sbitools.formats.reading import bad_file
from sbitools.formats.suffixes import HDF5
from sbitools.labels import field_values
from sbitools.simulator import FieldSpec

__all__ = ["NAMED", "RESULTS", "TEXTS", "read_result"]

TEXTS = (".txt", ".csv", ".dat")
NAMED = (".npy", ".npz", *HDF5)
RESULTS = (*NAMED, *TEXTS)
_WORDS = re.compile(r"[\s,;]+")


def read_result(file: Path, fields: Mapping[str, FieldSpec]) -> dict[str, np.ndarray]:
    """The fields of one simulation, without batch axis.

    Args:
        file: an array file with one array or one called x, or text of numbers; with a source
            field, one that has both by name.
        fields: x and, if there is one, source.

    Raises:
        StoreError: for a file that cannot be read.
        ShapeError: for another shape, dtype or unit.
    """
    if file.suffix.lower() in TEXTS:
        return {"x": _from_text(file, fields["x"])}
    named = len(fields) > 1
    return {k: _from_array(file, k, spec, named) for k, spec in fields.items()}


def _from_array(file: Path, name: str, spec: FieldSpec, named: bool) -> np.ndarray:
    what = f"{name} in {{output_file}}"
    with open_array(file, name if named else None, prefer="x") as array:
        values = field_values(array, spec, what, ShapeError, batch=False)
        shape = tuple(array.shape)
        if math.prod(shape) != math.prod(spec.shape):  # before it is read: it may be of any size
            raise _misshapen(what, spec, shape)
        values = as_native(array[()] if shape == () else array[:], what, spec, batch=False)
    spec.check(values[None], 1, what)
    return values


def _from_text(file: Path, spec: FieldSpec) -> np.ndarray:
    """Numbers between blanks, commas or semicolons; a table of two axes has one row in a line."""
    what = "x in {output_file}"
    try:
        lines = [line.partition("#")[0].strip() for line in file.read_text("utf-8").splitlines()]
        rows = [[float(word) for word in _WORDS.split(line) if word] for line in lines if line]
    except (OSError, ValueError) as error:
        raise bad_file(file, "a text of numbers", str(error), "write numbers only") from error
    lengths = {len(row) for row in rows}
    values = np.array([v for row in rows for v in row], dtype=np.float64)
    flat = len(spec.shape) < 2
    shape = (len(values),) if flat or len(lengths) != 1 else (len(rows), lengths.pop())
    if (values.size != 1 or spec.shape) and shape != spec.shape:
        raise _misshapen(what, spec, shape)
    with np.errstate(over="ignore", invalid="ignore"):
        out = values.reshape(spec.shape).astype(spec.dtype)
    if out.dtype.kind in "iu" and not np.array_equal(out, values.reshape(spec.shape)):
        raise ShapeError(what, expected=f"numbers of dtype {spec.dtype}", got="others",
                         fix="write whole numbers in its range")  # fmt: skip
    return out


def _misshapen(what: str, spec: FieldSpec, shape: tuple[int, ...]) -> ShapeError:
    return ShapeError(
        f"{what} ({spec.name})", expected=f"shape {spec.shape}, one simulation without batch axis",
        got=f"shape {shape}", fix="write that shape, or correct the FieldSpec",
    )  # fmt: skip
