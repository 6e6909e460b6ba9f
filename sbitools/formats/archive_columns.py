"""Columns of .npy, .npz and HDF5 files: arrays side by side, records, or a matrix with names."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sbitools.disk.files import memory
from sbitools.errors import ParameterError
from sbitools.gate.arrays import as_native
from sbitools.labels import stated_unit

from .columns import Columns, require_columns, side_by_side
from .hdf5_files import Hdf5Fields, hdf5_members, open_hdf5
from .numpy_files import map_npy, npz_members
from .reading import bad_file, choose, refuse_name
from .textfiles import COUNTERS

__all__ = ["from_array", "from_hdf5", "from_npz"]


def from_array(path: Path, dataset: str | None, wanted: list[str] | None) -> Columns:
    """Columns of an .npy file: records with names, or a matrix without."""
    refuse_name(path, dataset, "an .npy file, which has one array and no names")
    array = map_npy(path)
    if array.dtype.names is not None:
        return _records(path, array, wanted, {})
    return side_by_side(path, as_native(array), None, wanted)


def from_npz(path: Path, dataset: str | None, wanted: list[str] | None) -> Columns:
    """Columns of an .npz file."""
    with contextlib.ExitStack() as stack:
        return _from_archive(path, npz_members(path, stack), dataset, wanted)


def from_hdf5(path: Path, dataset: str | None, wanted: list[str] | None) -> Columns:
    """Columns of an HDF5 file: of all groups, or of the one that `dataset` names."""
    with contextlib.ExitStack() as stack:
        file = open_hdf5(path, stack)
        members = hdf5_members(path, file)
        prefix = f"{dataset.strip('/')}/" if dataset else ""
        inside = {k.removeprefix(prefix): v for k, v in members.items() if k.startswith(prefix)}
        if dataset and dataset.strip("/") not in members and inside:
            members, dataset = inside, None
        return _from_archive(path, members, dataset, wanted)


def _from_archive(
    path: Path, arrays: Mapping[str, Any], dataset: str | None, wanted: list[str] | None
) -> Columns:
    arrays = _frame(path, arrays) or arrays
    keys = list(arrays)
    # Our own designs and draws are such a table, whatever their parameters are called.
    table = "theta" in keys and "names" in keys and len(arrays["theta"].shape) == 2
    if dataset is None and wanted and not table and all(n in keys for n in wanted):
        return _columns(path, {n: arrays[n] for n in keys if n in (*wanted, *COUNTERS)})
    key = dataset or ("theta" if table or ("theta" in keys and wanted is not None) else None)
    records = [k for k in keys if arrays[k].dtype.names is not None]
    if key is None and len(records) == 1:
        key = records[0]
    if key is None:
        vectors = {k: v for k, v in arrays.items() if len(v.shape) == 1}
        if wanted is not None:
            require_columns(path, sorted(keys), wanted)
        if vectors:
            return _columns(path, vectors)
    key = choose(path, keys, key, "theta")
    array = arrays[key]
    if array.dtype.names is not None:
        return _records(path, array, wanted, getattr(array, "attrs", {}))
    header = _header(path, arrays["names"]) if "names" in keys else None
    return side_by_side(path, as_native(_values(path, array)), header, wanted)


def _frame(path: Path, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Columns of the one table that pandas wrote (`to_hdf`), by name; {} for any other file."""
    blocks = [k.removesuffix("_items") for k in arrays
              if k.rpartition("/")[2].startswith("block") and k.endswith("_items")]  # fmt: skip
    if not blocks or len({b.rpartition("/")[0] for b in blocks}) > 1:
        return {}
    out: dict[str, np.ndarray] = {}
    for block in blocks:
        names, table = _header(path, arrays[f"{block}_items"]), arrays.get(f"{block}_values")
        if table is None or table.shape[1:] != (len(names),):
            return {}  # of text, say, which is pickled
        values = _values(path, table)
        out |= {name: values[:, i] for i, name in enumerate(names)}
    return out


def _columns(path: Path, arrays: Mapping[str, Any]) -> Columns:
    grouped = all(isinstance(v, h5py.Dataset) for v in arrays.values())
    plain = grouped and len({k.rpartition("/")[2] for k in arrays}) == len(arrays)
    shapes = {k: tuple(v.shape) for k, v in arrays.items()}
    if len(set(shapes.values())) != 1 or next(iter(shapes.values()))[1:]:
        raise ParameterError(
            f"columns of {path}", expected="1-D arrays of equal length", got=f"{shapes}",
            fix="one entry per simulation; name the table with dataset=... where the file has "
            "other arrays, too",
        )  # fmt: skip
    found = Columns({}, order=tuple(k.rpartition("/")[2] if plain else k for k in arrays),
                    n=next(iter(shapes.values()))[0])  # fmt: skip
    for key, name in zip(arrays, found.order, strict=True):
        if arrays[key].dtype.kind not in "fiu":
            found.other[name] = f"dtype {arrays[key].dtype}"
            continue
        found.values[name] = _values(path, arrays[key])
        if unit := stated_unit(getattr(arrays[key], "attrs", {})):
            found.units[name] = unit
    return found


def _records(
    path: Path, array: Any, wanted: list[str] | None, attrs: Mapping[str, Any]
) -> Columns:
    names = list(array.dtype.names)
    if len(array.shape) != 1:
        raise bad_file(path, "records in one row per simulation", f"shape {array.shape}",
                       "write a 1-D table")  # fmt: skip
    require_columns(path, names, wanted)
    keep = [n for n in names if wanted is None or n in (*wanted, *COUNTERS)]
    rows = array if isinstance(array, np.ndarray) else _values(path, array)
    found = Columns({}, order=tuple(keep), n=len(rows))
    for name in keep:
        found.values[name] = np.array(rows[name])
        # PyTables and astropy keep units beside the table
        for key in (f"FIELD_{names.index(name)}_UNIT", f"{name}_unit", f"{name}_units"):
            if unit := stated_unit({"unit": attrs[key]} if key in attrs else {}):
                found.units[name] = unit
    return found


def _values(path: Path, array: Any) -> Any:
    if not isinstance(array, h5py.Dataset):
        return array[...]
    if array.dtype.names is None:
        return Hdf5Fields(path, array)[...]
    if array.size * array.dtype.itemsize > memory():
        raise ValueError(f"shape {array.shape}, more than the memory holds")
    return array[...]


def _header(path: Path, stored: Any) -> list[str]:
    """Names of columns, as strings of fixed (numpy) or variable (HDF5) length."""
    if isinstance(stored, h5py.Dataset) and h5py.check_string_dtype(stored.dtype) is not None:
        return [str(name) for name in np.ravel(stored.asstr()[...])]
    if stored.dtype.kind in "US":
        return [str(name) for name in np.ravel(stored[...].astype("U"))]
    raise bad_file(
        path, "names of the columns as strings", f"'names' of dtype {stored.dtype}",
        "write strings, or remove 'names' if columns are in the order of the parameter space",
    )  # fmt: skip
