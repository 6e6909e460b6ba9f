"""Tables of named columns, from any format: what is there, before anyone asks for a column."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sbitools.errors import ParameterError
from sbitools.gate.plain import as_path

from .archive_columns import from_array, from_hdf5, from_npz
from .columns import Columns
from .labelled_columns import from_fits, from_netcdf
from .reading import bad_file, foreign, refuse_name, require_file
from .suffixes import FITS, HDF5, NETCDF, TABLES, suffix_of
from .text_columns import from_text

__all__ = ["Table", "read_table"]


@dataclass(frozen=True)
class Table:
    """Columns of numbers, one row per simulation.

    Args:
        path: of the file.
        names: of all columns, in their order.
        columns: those of real numbers, float64, (n,); NaN where a cell is empty.
        units: of columns, where the file tells.
        other: the other columns, each with the reason: text, truth values, several numbers.
        n: number of rows.
        named: whether the file names the columns; otherwise they are ``column_0``, ...
    """

    path: Path
    names: tuple[str, ...]
    columns: dict[str, np.ndarray]
    units: dict[str, str]
    other: dict[str, str]
    n: int
    named: bool = True


def read_table(
    path: str | Path, dataset: str | None = None, wanted: list[str] | None = None
) -> Table:
    """The table in a file.

    Args:
        path: text (.csv, .txt, .dat, .tsv, .ecsv), see `textfiles.read_text`; .npz or HDF5 with
            one 1-D array per column, a table of records, or a 2-D array with ``names``; .npy;
            netCDF; a table in FITS.
        dataset: name of the table, array or group in .npz and HDF5; name or number of the part in
            FITS; group in netCDF.
        wanted: names of columns: others are not looked at; all if None.

    Raises:
        ParameterError: if a column that is wanted is not there, or there twice; for rows or
            columns of different lengths, or no rows at all.
        StoreError: for a damaged or foreign file.
    """
    path = as_path(path, "parameter table")
    require_file(path, "a parameter table")
    with foreign(path):
        return _table(path, _read(path, dataset, wanted), wanted)


def _read(path: Path, dataset: str | None, wanted: list[str] | None) -> Columns:
    suffix = suffix_of(path)
    readers: dict[str, Any] = {".npy": from_array, ".npz": from_npz}
    readers |= dict.fromkeys(HDF5, from_hdf5) | dict.fromkeys(NETCDF, from_netcdf)
    readers |= dict.fromkeys(FITS, from_fits)
    if suffix in readers:
        return readers[suffix](path, dataset, wanted)
    if suffix not in TABLES:
        raise bad_file(path, f"one of {TABLES}", f"suffix {path.suffix!r}", "convert the file")
    refuse_name(path, dataset, "a text table, which has columns alone")
    return from_text(path, wanted)


def _table(path: Path, found: Columns, wanted: list[str] | None) -> Table:
    names = list(found.values)
    columns, other = {}, dict(found.other)
    for name, values in found.values.items():
        array = np.asarray(np.ma.filled(np.ma.asarray(values, np.float64), np.nan)
                           if isinstance(values, np.ma.MaskedArray) else values)  # fmt: skip
        if array.ndim != 1:
            other[name] = f"shape {array.shape}"
        elif array.dtype.kind not in "fiu":
            other[name] = f"dtype {array.dtype}"
        else:
            columns[name] = array.astype(np.float64)
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ParameterError(
            f"columns of {path}", expected="1-D arrays of equal length", got=f"{lengths}",
            fix="one entry per simulation",
        )  # fmt: skip
    n = next(iter(lengths.values()), found.n)
    if not n and wanted is None:
        raise ParameterError(
            f"table {path}", expected="one row per simulation", got="no rows",
            fix="write names of columns in the first line, and a row per simulation",
        )  # fmt: skip
    order = [*names, *(name for name in other if name not in names)]
    order = [name for name in found.order if name in order] or order
    return Table(path, tuple(order), columns, found.units, other, n, found.named)
