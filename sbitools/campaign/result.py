"""The result of a program: one simulation in a file, checked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sbitools.disk.files import check_regular
from sbitools.errors import ShapeError
from sbitools.formats import open_array
from sbitools.formats.reading import bad_file, reading
from sbitools.formats.suffixes import HDF5
from sbitools.gate.arrays import as_native
from sbitools.labels import field_values
from sbitools.simulator import FieldSpec

__all__ = ["NAMED", "RESULTS", "TEXTS", "read_result"]

TEXTS = (".txt", ".csv", ".dat")
NAMED = (".npy", ".npz", *HDF5)
RESULTS = (*NAMED, *TEXTS)
_INTEGERS = ("int32", "int64", "uint8")
_LONGEST, _COMMENTS = 64, 1 << 20  # bytes of one number, and of what is beside them
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
    what, number = "x in {output_file}", _whole if spec.dtype in _INTEGERS else float
    most = _COMMENTS + _LONGEST * math.prod(spec.shape)
    with reading(file):
        check_regular(file)
        size = file.stat().st_size
    if size > most:
        raise bad_file(file, f"numbers of shape {spec.shape}, in {most} bytes", f"{size} bytes",
                       "write them alone")  # fmt: skip
    try:
        lines = [line.partition("#")[0].strip() for line in file.read_text("utf-8").splitlines()]
        rows = [[number(w) for w in _WORDS.split(line) if w] for line in lines if line]
        values = np.array([v for row in rows for v in row], dtype=_wide(spec.dtype))
        with np.errstate(over="ignore"):  # what becomes infinite is recorded as failed
            flat = values.astype(spec.dtype)
        if number is _whole and not np.array_equal(values, flat):
            raise ValueError(f"numbers beyond {spec.dtype}")
    except (OSError, ValueError, OverflowError) as error:
        fix = f"write numbers of dtype {spec.dtype} only"
        raise bad_file(file, "a text of numbers", str(error), fix) from error
    lengths = {len(row) for row in rows}
    table = len(spec.shape) > 1 and len(lengths) == 1
    shape = (len(rows), *lengths) if table else flat.shape
    if shape != spec.shape and (spec.shape or flat.size != 1):
        raise _misshapen(what, spec, shape)
    return flat.reshape(spec.shape)


def _whole(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        value = float(word)
        if value != math.floor(value):
            raise ValueError(f"{word}, which is not whole") from None
        return int(value)


def _wide(dtype: str) -> str:
    return "int64" if dtype in _INTEGERS else "complex128" if dtype == "complex64" else "float64"


def _misshapen(what: str, spec: FieldSpec, shape: tuple[int, ...]) -> ShapeError:
    return ShapeError(
        f"{what} ({spec.name})", expected=f"shape {spec.shape}, one simulation without batch axis",
        got=f"shape {shape}", fix="write that shape, or correct the FieldSpec",
    )  # fmt: skip
