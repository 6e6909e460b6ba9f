"""Parameter tables: named columns of text, .npz and HDF5 files become theta."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sbitools.arrays import as_native
from sbitools.errors import ParameterError
from sbitools.parameters import ParameterSpace
from sbitools.plain import as_path

from .arrayfiles import (
    HDF5,
    bad_file,
    hdf5_members,
    open_array,
    open_hdf5,
    open_npz,
    reading,
    require_file,
)
from .textfiles import read_text

__all__ = ["read_theta"]

_TEXT = (".csv", ".txt", ".dat", ".tsv")
_NUMBERS = ("", "index", "Unnamed: 0")  # columns that number the rows


def read_theta(
    path: str | Path, parameters: ParameterSpace, dataset: str | None = None
) -> np.ndarray:
    """Theta, float64, (n, P), with columns in the order of `parameters`.

    Args:
        path: text (.csv, .txt, .dat, .tsv), see `textfiles.read_text`: other columns are
            ignored, whatever is in them; .npz or HDF5 with one 1-D array per parameter, or
            a 2-D array with ``names``; or a plain .npy array of P columns.
        parameters: whose names are looked up.
        dataset: name of a 2-D array in an .npz or HDF5 file.

    Raises:
        ParameterError: for missing columns, numbers that are none, or theta outside the priors.
        StoreError: for a damaged or foreign file.
    """
    path = as_path(path, "parameter table")
    require_file(path, "a parameter table")
    suffix = path.suffix.lower()
    if dataset and suffix in _TEXT:
        raise bad_file(
            path, f"an .npz or HDF5 file with an array {dataset!r}", "a text table, which has "
            "columns alone", "leave the name out, or give the other file",
        )  # fmt: skip
    if suffix in _TEXT:
        theta = _from_text(path, parameters.names)
    elif suffix in (".npz", *HDF5):
        theta = _from_archive(path, parameters.names, dataset)
    else:
        with open_array(path, dataset) as array:
            theta = _by_name(path, as_native(array[...]), None, parameters.names)
    return parameters.check(theta, f"theta of {path.name}").numpy()


def _from_text(path: Path, names: list[str]) -> np.ndarray:
    header, body = read_text(path, names)
    columns = _columns(path, header, names)
    _check_order(path, header, body, names)
    out = np.empty((len(body), len(names)))
    for i, row in enumerate(body):
        try:
            if len(row) != len(header):
                raise ValueError(f"{len(row)} entries")
            out[i] = [float(row[c]) for c in columns]
        except ValueError as error:
            raise ParameterError(
                f"row {i} of {path}", expected=f"{len(header)} entries, numbers under {names}",
                got=str(error), fix="correct the row",
            ) from error  # fmt: skip
    return out


def _check_order(path: Path, header: list[str], body: list[list[str]], names: list[str]) -> None:
    """Refuse rows whose numbers, in our own designs or those of pandas, are in disorder."""
    for name in _NUMBERS:
        if header.count(name) != 1 or name in names:
            continue
        numbers = [row[header.index(name)] for row in body if len(row) == len(header)]
        if not all(number.strip().isdecimal() for number in numbers):
            continue
        if [int(n) for n in numbers] != sorted({int(n) for n in numbers}):
            raise ParameterError(
                f"rows of {path}", expected=f"ascending numbers in column {name!r}",
                got=f"{', '.join(numbers[:5])}, ...",
                fix="sort the rows by it, as the fields are, or leave the column out",
            )  # fmt: skip


def _columns(path: Path, header: list[str], names: list[str]) -> list[int]:
    missing = [n for n in names if header.count(n) != 1]
    if missing:
        raise ParameterError(
            f"columns of {path}", expected=f"one column for each of {names}",
            got=f"columns {header[:20]}, so not one {missing}",
            fix="name the columns in the first line as in the parameter space",
        )  # fmt: skip
    return [header.index(n) for n in names]


def _from_archive(path: Path, names: list[str], dataset: str | None) -> np.ndarray:
    with contextlib.ExitStack() as stack, reading(path):
        arrays: Any
        if path.suffix.lower() == ".npz":
            arrays = open_npz(path, stack)
        else:
            arrays = hdf5_members(path, open_hdf5(path, stack))
        keys = list(arrays)
        # Our own designs and draws are such a table, whatever their parameters are called.
        table = "theta" in keys and "names" in keys and len(arrays["theta"].shape) == 2
        if dataset is None and names and not table and all(n in keys for n in names):
            return _stack(path, {n: as_native(arrays[n][...]) for n in names})
        key = dataset or ("theta" if "theta" in keys else None)
        if key is None:
            _columns(path, sorted(keys), names)
        header = _header(path, arrays["names"]) if "names" in keys else None
    with open_array(path, key) as array:
        return _by_name(path, as_native(array[...]), header, names)


def _header(path: Path, stored: Any) -> list[str]:
    """Names of columns, as strings of fixed (numpy) or variable (HDF5) length."""
    if isinstance(stored, h5py.Dataset) and h5py.check_string_dtype(stored.dtype) is not None:
        return [str(name) for name in np.ravel(stored.asstr()[...])]
    if stored.dtype.kind in "US":
        return [str(name) for name in np.ravel(stored.astype("U"))]
    raise bad_file(
        path, "names of the columns as strings", f"'names' of dtype {stored.dtype}",
        "write strings, or remove 'names' if columns are in the order of the parameter space",
    )  # fmt: skip


def _stack(path: Path, columns: dict[str, np.ndarray]) -> np.ndarray:
    shapes = {k: v.shape for k, v in columns.items()}
    if len(set(shapes.values())) != 1 or next(iter(shapes.values()))[1:]:
        raise ParameterError(
            f"columns of {path}", expected="1-D arrays of equal length", got=f"{shapes}",
            fix="one entry per simulation",
        )  # fmt: skip
    return np.stack([_real(path, v) for v in columns.values()], axis=1)


def _by_name(
    path: Path, table: np.ndarray, header: list[str] | None, names: list[str]
) -> np.ndarray:
    width = len(header) if header is not None else len(names)
    if table.ndim != 2 or table.shape[1] != width:
        raise ParameterError(
            f"table {path}", expected=f"shape (n, {width}), columns {header or names}",
            got=f"shape {table.shape}", fix="one row per simulation, one column per parameter",
        )  # fmt: skip
    if header is not None:
        table = table[:, _columns(path, header, names)]
    return _real(path, table)


def _real(path: Path, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "fiu":
        raise ParameterError(
            f"table {path}", expected="real numbers", got=f"dtype {values.dtype}",
            fix="write the parameters as float64",
        )  # fmt: skip
    return values.astype(np.float64)
