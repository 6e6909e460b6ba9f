"""The same numbers come out of every format, whatever their dtype and byte order."""

import contextlib
import tracemalloc

import h5py
import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

from sbitools.errors import SbitoolsError, StoreError
from sbitools.formats import open_array, open_fields

from .conftest import DATASETS, FORMATS, SHAPE, N, X, dataset, write

DTYPES = ["<f4", ">f4", "<f8", ">f8", "<i2", ">i2", "<i4", ">i4", "u1"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_format_gives_the_same_numbers(tmp_path, kind, dtype):
    if kind == "netcdf3" and dtype == "u1":
        pytest.skip("netCDF 3 has no such type")
    x = np.abs(X).astype(dtype)
    with open_fields(write(tmp_path, kind, x), DATASETS.get(kind)) as fields:
        assert fields.shape == x.shape
        assert len(fields) == N
        assert fields.dtype.isnative
        assert fields.dtype == x.dtype.newbyteorder("=")
        for rows in (slice(None), slice(2, 5), slice(6, 2), slice(-3, 100), [1, 2, 5], [5, 0, 5],
                     np.arange(N) % 2 == 0, slice(None, None, 3)):  # fmt: skip
            read = fields[rows]
            assert read.dtype == fields.dtype
            assert np.array_equal(read, x[rows])
        assert np.array_equal(fields[...], x)
        assert np.array_equal(fields[3], x[3])
        with pytest.raises(StoreError, match="whole numbers in"):
            fields[[N]]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("packed", [True, False])
def test_the_order_of_arrays_in_archives(tmp_path, order, packed):
    x = np.asarray(X, order=order)
    (np.savez_compressed if packed else np.savez)(tmp_path / "x.npz", x=x)
    np.save(tmp_path / "x.npy", x)
    for name in ("x.npz", "x.npy"):
        with open_fields(tmp_path / name) as fields:
            for rows in (slice(4, 7), slice(0, 2), slice(3, 3), ...):
                assert np.array_equal(fields[rows], X[rows])


@pytest.mark.parametrize("kind", ["hdf5", "netcdf3", "netcdf4", "fits"])
def test_units_that_files_state(tmp_path, kind):
    with open_fields(write(tmp_path, kind, X.astype("f4"), "mK")) as fields:
        assert fields.unit == "mK"
    (tmp_path / "b").mkdir()
    with open_fields(write(tmp_path / "b", kind, X.astype("f4"))) as fields:
        assert fields.unit is None


@pytest.mark.parametrize("kind", FORMATS)
def test_names_of_axes(tmp_path, kind):
    with open_fields(write(tmp_path, kind, X.astype("f4")), DATASETS.get(kind)) as fields:
        assert fields.dims == (("y", "z") if kind.startswith("netcdf") else None)


def test_packed_values_and_gaps(tmp_path):
    x = X / 2 + 3.0
    x[2, 1, 1] = np.nan
    packing = {"dtype": "i2", "scale_factor": 0.5, "add_offset": 3.0, "_FillValue": -9999}
    for engine in ("scipy", "h5netcdf"):
        dataset(x).to_netcdf(tmp_path / f"{engine}.nc", engine=engine, encoding={"x": packing})
    hdu = fits.PrimaryHDU(np.where(np.isnan(x), 0, x).astype("f4"))
    hdu.scale("int16", bscale=0.5, bzero=3)
    hdu.data[2, 1, 1] = -9999
    hdu.header["BLANK"] = -9999
    hdu.writeto(tmp_path / "x.fits")
    for name in ("scipy.nc", "h5netcdf.nc", "x.fits"):
        with open_fields(tmp_path / name) as fields:
            assert fields.dtype.kind == "f"
            assert np.array_equal(fields[:], x, equal_nan=True)
            assert np.array_equal(fields[2:4], x[2:4], equal_nan=True)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=X).attrs["_FillValue"] = X[1, 0, 0]
    with open_fields(tmp_path / "x.h5") as fields:
        assert np.array_equal(fields[[1, 4]].mask, (X[1, 0, 0] == X)[[1, 4]])


def test_a_matrix_of_text(tmp_path):
    x = X.reshape(N, -1) / 3
    files = {
        "a.csv": dict(delimiter=","), "b.txt": dict(), "c.tsv": dict(delimiter="\t"),
        "d.dat": dict(delimiter=";", header="made by us"),
        "e.csv": dict(delimiter=",", header=",".join(f"P{i}" for i in range(12)), comments=""),
        "f.csv": dict(delimiter=",", header=",".join(map(str, range(12))), comments=""),
    }  # fmt: skip
    for name, options in files.items():
        np.savetxt(tmp_path / name, x, **options)
    (tmp_path / "g.csv").write_bytes(
        b"\xef\xbb\xbf" + (tmp_path / "a.csv").read_bytes().replace(b"\n", b"\r\n")
    )
    import pandas as pd

    pd.DataFrame(x).to_csv(tmp_path / "h.csv")  # with the numbers of rows
    for name in (*files, "g.csv", "h.csv"):
        with open_fields(tmp_path / name) as fields:
            assert fields.shape == x.shape, name
            assert np.allclose(fields[:], x), name
            assert np.allclose(fields[[2, 5]], x[[2, 5]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1,2,3\n1,2\n", "row 1 has 2 numbers, row 0 has 3"), ("1,2\n1,high\n", "row 1: .*high"),
        ("", "no line of numbers"), ("# only\n", "no line of numbers"), ("a,b\n", "no line"),
        ("1,2\n".encode("utf-16"), "UTF-8"), (b"1,2\n\xff\xfe", "utf-8"),
        (",a,b\n1,2,3\n0,2,3\n", "row 1 is numbered 0"),
    ],
)  # fmt: skip
def test_text_that_is_no_matrix(tmp_path, content, message):
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "x.csv").write_bytes(data)
    with pytest.raises(StoreError, match=message), open_fields(tmp_path / "x.csv") as fields:
        fields[:]


def test_vectors_and_scalars(tmp_path, kind):
    for x in (X[:, 0, 0].astype("f4"), X[:, 0].astype("f8")):
        (tmp_path / str(x.ndim)).mkdir()
        with open_fields(write(tmp_path / str(x.ndim), kind, x), DATASETS.get(kind)) as fields:
            assert fields.shape == x.shape
            assert np.array_equal(fields[2:5], x[2:5])
            assert np.array_equal(fields[...], x)
            assert fields[3:3].shape == (0, *x.shape[1:])


def test_one_field_seen_as_a_whole(tmp_path):
    np.savetxt(tmp_path / "column.txt", X[0, 0] / 3)
    np.savetxt(tmp_path / "row.csv", X[:1, 0] / 3, delimiter=",")
    for name in ("column.txt", "row.csv"):
        with open_array(tmp_path / name) as field:
            assert np.allclose(field.whole(), X[0, 0] / 3)


# What is not clear, damaged or foreign


def test_parts_of_fits(tmp_path):
    parts = [fits.PrimaryHDU(), fits.ImageHDU(X, name="A"), fits.ImageHDU(X + 1, name="B"),
             fits.ImageHDU(X + 2, name="B", ver=2)]  # fmt: skip
    fits.HDUList(parts).writeto(tmp_path / "x.fits")
    for part, more in (("1", 0), ("A", 0), ("2", 1), ("B", 1), ("B,2", 2), ("b, 2", 2)):
        with open_fields(tmp_path / "x.fits", part) as fields:
            assert np.array_equal(fields[:], X + more)
    for part, message in ((None, "one image"), ("C", "a part 'C'"), ("9", "'9'"), ("0", "'0'")):
        with (
            pytest.raises(StoreError, match=message),
            open_fields(tmp_path / "x.fits", part),
        ):
            pass
    table = fits.BinTableHDU.from_columns([fits.Column("a", "D", array=np.ones(3))])
    table.writeto(tmp_path / "t.fits")
    with (
        pytest.raises(StoreError, match="tables of other kinds"),
        open_fields(tmp_path / "t.fits"),
    ):
        pass


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.97])
def test_truncated_files(tmp_path, kind, keep):
    x = np.random.default_rng(0).normal(size=(200, *SHAPE))
    file = write(tmp_path, kind, x)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * keep)])
    with (
        pytest.raises(SbitoolsError, match="fix:"),
        open_fields(file, DATASETS.get(kind)) as fields,
    ):
        fields[:]


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.h5", "x.nc", "x.fits", "x.fits.gz"])
def test_files_of_another_kind(tmp_path, name):
    for data in (b"", b"hello", b"\x89HDF\r\n\x1a\n" + b"\0" * 500, b"CDF\x01" + b"\xff" * 500,
                 b"SIMPLE  =                    T" + b" " * 2850, b"PK\x03\x04" * 99):  # fmt: skip
        (tmp_path / name).write_bytes(data)
        with pytest.raises(StoreError, match="fix:"), open_fields(tmp_path / name) as fields:
            fields[:]


def test_flipped_bytes_are_typed_or_harmless(tmp_path, kind):
    file = write(tmp_path, kind, X.astype("f4"))
    data, rng = file.read_bytes(), np.random.default_rng(1)
    for _ in range(25):
        changed = bytearray(data)
        for at in rng.integers(0, min(len(data), 3000), 4):
            changed[at] = rng.integers(256)
        file.write_bytes(bytes(changed))
        with contextlib.suppress(SbitoolsError), open_fields(file, DATASETS.get(kind)) as fields:
            fields[:]


def test_links_out_of_netcdf_are_refused(tmp_path):
    dataset(X).to_netcdf(tmp_path / "x.nc", engine="h5netcdf")
    with h5py.File(tmp_path / "x.nc", "a") as file:
        file["outside"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/x")
    with pytest.raises(StoreError, match="copy the data in"), open_fields(tmp_path / "x.nc", "x"):
        pass


def test_several_variables_and_groups(tmp_path):
    both = xr.Dataset({"x": (("run", "y"), X[:, 0]), "mask": ("y", np.ones(4)),
                       "name": ("run", list("abcdefg"))})  # fmt: skip
    both.to_netcdf(tmp_path / "x.nc", engine="h5netcdf", group="sims")
    with open_fields(tmp_path / "x.nc", "sims/x") as fields:
        assert np.array_equal(fields[:], X[:, 0])
    both.to_netcdf(tmp_path / "y.nc", engine="h5netcdf")
    with pytest.raises(StoreError, match=r"'mask', 'x'"), open_fields(tmp_path / "y.nc"):
        pass
    with pytest.raises(StoreError, match="called 'z'"), open_fields(tmp_path / "y.nc", "z"):
        pass


def test_zarr_needs_its_extra(tmp_path, monkeypatch):
    (tmp_path / "x.zarr").mkdir()
    monkeypatch.setattr("sbitools.formats.netcdf_files.find_spec", lambda name: None)
    with pytest.raises(SbitoolsError, match=r"sbitools\[zarr\]"), open_fields(tmp_path / "x.zarr"):
        pass


def test_zarr(tmp_path):
    pytest.importorskip("zarr")
    dataset(X, "mK").to_zarr(tmp_path / "x.zarr")
    with open_fields(tmp_path / "x.zarr") as fields:
        assert fields.unit == "mK"
        assert fields.dims == ("y", "z")
        assert np.array_equal(fields[[1, 4]], X[[1, 4]])


# Memory


@pytest.mark.parametrize("kind", [k for k in FORMATS if k not in ("fits, gz", "fits, tiles")])
def test_memory_does_not_grow_with_the_set(tmp_path, kind):
    peaks = []
    for n in (256, 2048):
        (tmp_path / str(n)).mkdir()
        file = write(tmp_path / str(n), kind, np.zeros((n, 32, 32), "f4"))
        with open_fields(file, DATASETS.get(kind)) as fields:  # imports are not counted
            fields[0:32]
        tracemalloc.start()
        with open_fields(file, DATASETS.get(kind)) as fields:
            for start in range(0, n, 32):
                fields[start : start + 32]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 100_000
    assert peaks[1] < 1_500_000  # ten blocks; the larger set has 8 MB
