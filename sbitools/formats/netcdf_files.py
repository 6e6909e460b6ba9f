"""Variables of netCDF and Zarr files, as xarray opens them: unpacked, with named axes."""

from __future__ import annotations

import contextlib
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from sbitools.errors import ConfigError

from .fields import Fields
from .hdf5_files import hdf5_members
from .reading import choose

if TYPE_CHECKING:
    import xarray

__all__ = ["NetcdfFields", "open_dataset", "open_variable"]

_CLASSIC = b"CDF"  # how files of netCDF 3 begin
_NUMBERS = "fiuc"


class NetcdfFields(Fields):
    """A variable; values are unpacked, and NaN where the file has its fill value."""

    def __init__(self, path: Path, array: Any) -> None:
        self._variable = array.variable
        names = ["" if str(d).startswith("phony_dim_") else str(d) for d in array.dims]
        labels = {str(d): np.asarray(array.coords[d].values) for d in array.dims
                  if d in array.coords and array.coords[d].ndim == 1}  # fmt: skip
        super().__init__(
            path, array.shape, array.dtype, attrs=dict(array.attrs),
            axis_names=names if any(names) else (), coords=labels,
        )  # fmt: skip

    def _read(self, rows: Any) -> np.ndarray:
        return np.array(self._variable[rows].values)


def open_variable(
    path: Path, dataset: str | None, prefer: str, stack: contextlib.ExitStack
) -> NetcdfFields:
    """One variable of numbers; ``group/name`` for one in a group."""
    group, _, name = (dataset or "").strip("/").rpartition("/")
    found = open_dataset(path, stack, group or None)
    numbers = [str(k) for k, v in found.data_vars.items() if v.dtype.kind in _NUMBERS]
    chosen = choose(path, numbers, name or None, prefer)
    return NetcdfFields(path, found[chosen])


def open_dataset(
    path: Path, stack: contextlib.ExitStack, group: str | None = None
) -> xarray.Dataset:
    """The dataset in a file or Zarr folder, closed with `stack`.

    Raises:
        ConfigError: for Zarr, if it is not installed.
        StoreError: if part of it lies in another file.
    """
    import xarray

    options: dict[str, Any] = {"engine": "h5netcdf", "group": group}
    if path.is_dir():
        _require_zarr(path)
        options = {"engine": "zarr", "group": group, "chunks": None}
    else:
        with path.open("rb") as file:
            classic = file.read(3) == _CLASSIC
        if classic:
            options = {"engine": "scipy"}
        else:
            with h5py.File(path, "r") as file:
                hdf5_members(path, file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of xarray, about attributes that we do not use
        found = xarray.open_dataset(path, decode_times=False, cache=False, **options)
    return stack.enter_context(found)


def _require_zarr(path: Path) -> None:
    if find_spec("zarr") is None:
        raise ConfigError(
            str(path), expected="the package that reads Zarr", got="it is not installed",
            fix="pip install 'sbitools[zarr]', or convert the set to .npy, HDF5 or netCDF",
        )  # fmt: skip
