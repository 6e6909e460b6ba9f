"""Columns of tables in FITS and netCDF files, with the units that these state."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from sbitools.labels import stated_unit

from .columns import Columns, require_columns
from .fits_parts import find_part, is_map, is_table, open_parts
from .netcdf_files import open_dataset
from .reading import bad_file
from .textfiles import COUNTERS

__all__ = ["from_fits", "from_netcdf"]


def from_fits(path: Path, dataset: str | None, wanted: list[str] | None) -> Columns:
    """Columns of a FITS table: TSCAL and TZERO are applied, TNULL is NaN."""
    with contextlib.ExitStack() as stack:
        parts = open_parts(path, stack)
        part = find_part(path, parts, dataset, lambda p: is_table(p) and not is_map(p), "table")
        header = [str(column.name) for column in part.columns]
        require_columns(path, header, wanted)
        keep = [c for c in part.columns if wanted is None or c.name in (*wanted, *COUNTERS)]
        found = Columns({}, order=tuple(c.name for c in keep), n=len(part.data))
        for column in keep:
            found.values[column.name] = _fits_column(part.data, column)
            if column.unit:
                found.units[column.name] = str(column.unit).strip()
        return found


def _fits_column(data: Any, column: Any) -> Any:
    values = np.array(data.field(column.name))
    if column.null is not None and values.dtype.kind in "iu":
        raw = np.asarray(data.field(column.name))
        scaled = column.null * (column.bscale or 1) + (column.bzero or 0)
        return np.ma.masked_array(values, raw == scaled)
    return values


def from_netcdf(path: Path, dataset: str | None, wanted: list[str] | None) -> Columns:
    """Variables along one axis of a netCDF file; NaN where it has its fill value."""
    with contextlib.ExitStack() as stack:
        found = open_dataset(path, stack, dataset.strip("/") if dataset else None)
        known = {str(k): v for k, v in found.variables.items()}
        if wanted is not None:
            require_columns(path, list(known), wanted)
        chosen = {k: v for k, v in known.items()
                  if (wanted is None and v.ndim == 1) or k in (wanted or ())}  # fmt: skip
        axes = sorted({d for v in chosen.values() for d in map(str, v.dims)})
        if len(axes) > 1:  # fields have axes of their own, whose coordinates are no parameters
            data = {str(k) for k in found.data_vars}
            axes = sorted({str(v.dims[0]) for k, v in chosen.items() if k in data and v.ndim})
        if len(axes) != 1:
            raise bad_file(path, "variables along one axis", f"variables along {axes}",
                           "write a file of parameters alone")  # fmt: skip
        chosen = {k: v for k, v in chosen.items() if v.dims == (axes[0],)}
        out = Columns({}, order=tuple(chosen), n=found.sizes[axes[0]])
        for name, variable in chosen.items():
            out.values[name] = np.array(variable.values)
            if unit := stated_unit(variable.attrs):
                out.units[name] = unit
        return out
