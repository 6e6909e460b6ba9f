"""Fields of any format: one file, or one file per simulation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sbitools.gate.plain import as_path

from .fields import Fields
from .fits_images import open_fits
from .hdf5_files import Hdf5Fields, hdf5_members, open_hdf5
from .many_files import ManyFields
from .netcdf_files import open_variable
from .numpy_files import NpyFields, npz_members
from .patterns import find_files
from .reading import bad_file, choose, foreign, refuse_name, require_file
from .suffixes import ARRAYS, FITS, HDF5, NETCDF, TEXT, ZARR, suffix_of
from .text_matrix import open_text

__all__ = ["open_array", "open_fields"]


@contextlib.contextmanager
def open_fields(
    path: str | Path, dataset: str | None = None, prefer: str = ""
) -> Iterator[Fields]:
    """Fields in one file, or in one file per simulation.

    Args:
        path: a file, see `open_array`; a folder with files of one kind; or a pattern, either
            with ``*`` and ``?`` or with ``{index}`` (``{index:04d}``) where the number is.
        dataset: name of the array in each file; None for the only one there.
        prefer: name to take when `dataset` is None and there are several.

    Yields:
        An object with ``shape`` (n, ...), ``dtype``, ``unit``, ``dims``, ``kinds``, ``attrs``,
        ``indices`` and ``len``; slices and row numbers read these rows, and nothing else.

    Raises:
        StoreError: for what is damaged, foreign or missing; numbers missing in a pattern; files
            that differ in shape, dtype, unit or order of pixels.
        ConfigError: for a format whose package is not installed.
    """
    path = as_path(path)
    files = find_files(path)
    if files is None:
        with open_array(path, dataset, prefer) as fields:
            yield fields
    else:
        yield ManyFields(path, files, lambda file: open_array(file, dataset, prefer))


@contextlib.contextmanager
def open_array(path: str | Path, dataset: str | None = None, prefer: str = "") -> Iterator[Fields]:
    """The array in one file; it is read as it is sliced.

    Args:
        path: .npy, .npz, HDF5 (.h5, .hdf5, .hdf), netCDF (.nc, .nc4, .cdf), FITS (.fits, .fit,
            .fts, .fz, also .gz) with images or HEALPix maps, text (.csv, .txt, .dat, .tsv) with a
            matrix of numbers, or a .zarr folder.
        dataset: name of the array in .npz, HDF5, netCDF and Zarr; number or name of the part, or
            name of the map, in FITS; None for the only one there.
        prefer: name to take when `dataset` is None and there are several.

    Raises:
        StoreError: for a damaged, truncated or foreign file, a missing name, dtypes that are not
            numbers (they would need pickle), and HDF5 links out of the file.
        ConfigError: for Zarr, if it is not installed.
    """
    path = as_path(path)
    if not (path.is_dir() and suffix_of(path) in ZARR):
        require_file(path, "an array file")
    with contextlib.ExitStack() as stack:
        with foreign(path):
            array = _open(path, dataset, prefer, stack)
        if array.dtype.kind not in "fiuc":
            raise bad_file(
                path, "an array of numbers", f"dtype {array.dtype}", "write plain numbers"
            )
        yield array


def _open(path: Path, dataset: str | None, prefer: str, stack: contextlib.ExitStack) -> Fields:
    suffix = suffix_of(path)
    if suffix == ".npy":
        refuse_name(path, dataset, "an .npy file, which has one array and no names")
        return NpyFields(path)
    if suffix == ".npz":
        arrays = npz_members(path, stack)
        return arrays[choose(path, list(arrays), dataset, prefer)]
    if suffix in HDF5:
        members = hdf5_members(path, open_hdf5(path, stack))
        return Hdf5Fields(path, members[choose(path, list(members), dataset, prefer)])
    if suffix in (*NETCDF, *ZARR):
        return open_variable(path, dataset, prefer, stack)
    if suffix in FITS:
        return open_fits(path, dataset, stack)
    if suffix in TEXT:
        refuse_name(path, dataset, "text, which has one matrix and no names")
        return open_text(path, stack)
    raise bad_file(path, f"one of {ARRAYS}", f"suffix {path.suffix!r}", "convert the file")
