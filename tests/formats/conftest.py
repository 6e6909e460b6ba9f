"""One small set, written in every format."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

N, SHAPE = 7, (3, 4)
X = np.random.default_rng(5).integers(-100, 100, (N, *SHAPE))


def dataset(x, unit=None):
    attrs = {} if unit is None else {"units": unit}
    dims = ("run", "y", "z")[: x.ndim]
    return xr.Dataset({"x": (dims, x, attrs)})


def write_npz(path, x, unit=None):
    np.savez(path, x=x)


def write_packed(path, x, unit=None):
    np.savez_compressed(path, first=np.zeros(1000), x=x)


def write_hdf5(path, x, unit=None):
    with h5py.File(path, "w") as file:
        data = file.create_dataset("group/x", data=x)
        if unit is not None:
            data.attrs["units"] = unit


def write_chunks(path, x, unit=None):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=x, chunks=(min(2, len(x)), *x.shape[1:]), compression="gzip")


def write_netcdf3(path, x, unit=None):
    dataset(x, unit).to_netcdf(path, engine="scipy")


def write_netcdf4(path, x, unit=None):
    dataset(x, unit).to_netcdf(path, engine="h5netcdf")


def write_fits(path, x, unit=None):
    hdu = fits.PrimaryHDU(x)
    if unit is not None:
        hdu.header["BUNIT"] = unit
    hdu.writeto(path)


def write_part(path, x, unit=None):
    hdu = fits.ImageHDU(x, name="SKY")
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)


def write_tiles(path, x, unit=None):
    hdu = fits.CompImageHDU(x, name="SKY", compression_type="GZIP_1", quantize_level=0)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)


def write_npy(path, x, unit=None):
    np.save(path, x)


Writer = Callable[..., None]
FORMATS: dict[str, tuple[str, Writer]] = {
    "npy": ("x.npy", write_npy),
    "npz": ("x.npz", write_npz),
    "npz, packed": ("x.npz", write_packed),
    "hdf5": ("x.h5", write_hdf5),
    "hdf5, chunks": ("x.hdf5", write_chunks),
    "netcdf3": ("x.nc", write_netcdf3),
    "netcdf4": ("x.nc", write_netcdf4),
    "fits": ("x.fits", write_fits),
    "fits, part": ("x.fit", write_part),
    "fits, tiles": ("x.fits.fz", write_tiles),
    "fits, gz": ("x.fits.gz", write_fits),
}
DATASETS = {"npz, packed": "x"}


@pytest.fixture(params=FORMATS)
def kind(request) -> str:
    return request.param


def write(folder: Path, kind: str, x, unit=None) -> Path:
    name, writer = FORMATS[kind]
    writer(folder / name, x, unit)
    return folder / name
