"""Endings of file names, and what is behind them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["ARRAYS", "FITS", "HDF5", "NETCDF", "RESULTS", "TABLES", "TEXT", "ZARR", "suffix_of"]

HDF5 = (".h5", ".hdf5", ".hdf")
NETCDF = (".nc", ".nc4", ".cdf")
ZARR = (".zarr",)
FITS = (".fits", ".fit", ".fts", ".fz")
TEXT = (".csv", ".txt", ".dat", ".tsv", ".ecsv")

RESULTS = (".npy", ".npz", *HDF5, *NETCDF, *FITS)
"""One simulation per file, beside which text may be logs."""

ARRAYS = (*RESULTS, *ZARR, *TEXT)
TABLES = (".npy", ".npz", *HDF5, *NETCDF, *FITS, *TEXT)


def suffix_of(path: Path) -> str:
    """The ending of a name in small letters, of what is inside for ``.fits.gz``."""
    suffix = path.suffix.lower()
    inner = Path(path.stem).suffix.lower()
    return inner if suffix == ".gz" and inner in FITS else suffix
