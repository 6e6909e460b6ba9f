"""Tables from every format: the same columns, units where the file tells, faults by name."""

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from astropy.io import fits
from astropy.table import Table as Astropy

from sbitools import Parameter, ParameterSpace, priors
from sbitools.errors import ParameterError, SbitoolsError, StoreError
from sbitools.formats import describe_table, read_table, read_theta

N = 8
RNG = np.random.default_rng(3)
COLUMNS = {"a": RNG.random(N), "h [km/s]": RNG.random(N), "n": np.arange(N)}
SPACE = ParameterSpace([Parameter(n, priors.Uniform(0, 20)) for n in ("n", "a")])
NAMES = list(COLUMNS)
FRAME = pd.DataFrame(COLUMNS)
VARIABLES = xr.Dataset({k.replace("/", " per "): ("run", v) for k, v in COLUMNS.items()})
MATRIX = FRAME.to_numpy()


def write_hdf5(path, group=""):
    with h5py.File(path, "a") as file:
        for name, values in COLUMNS.items():
            # a name with a slash is no name of a dataset
            file[f"{group}{name.replace('/', ' per ')}"] = values


def write_records(path):
    with h5py.File(path, "w") as file:
        file["deep/table"] = FRAME.to_records(index=False)
        file["fields"] = np.zeros((N, 3, 3))


def write_frame(path):
    """As `pandas.DataFrame.to_hdf` does, which needs a package that is not asked for."""
    with h5py.File(path, "w") as file:
        for i, names in enumerate((["h [km/s]", "a"], ["n"])):
            file[f"frame/block{i}_items"] = np.array(names, "S")
            file[f"frame/block{i}_values"] = FRAME[names].to_numpy()
        file["frame/axis0"], file["frame/axis1"] = np.array(NAMES, "S"), np.arange(N)


def write_fits(path, **units):
    table = Astropy.from_pandas(FRAME)
    for name, unit in units.items():
        table[name].unit = unit
    table.write(path)


def write_ecsv(path):
    path.write_text(
        "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: a, unit: K, datatype: float64}\n"
        "# - {name: h [km/s], datatype: float64}\n# - {name: n, datatype: int64}\n"
        + FRAME.to_csv(index=False)
    )


WRITERS = {
    "csv": lambda p: FRAME.to_csv(p, index=False),
    "csv, semicolons": lambda p: FRAME.to_csv(p, index=False, sep=";"),
    "tsv": lambda p: FRAME.to_csv(p, index=False, sep="\t"),
    "txt": lambda p: np.savetxt(p, MATRIX, header="a  h [km/s] n"),
    "dat": lambda p: np.savetxt(p, MATRIX, header="a, h [km/s], n", delimiter=","),
    "ecsv": write_ecsv,
    "npz": lambda p: np.savez(p, **{"a": COLUMNS["a"], "h [km/s]": COLUMNS["h [km/s]"],
                                    "n": COLUMNS["n"]}),
    "npz, names": lambda p: np.savez(p, theta=MATRIX, names=np.array(NAMES)),
    "npz, records": lambda p: np.savez(p, table=FRAME.to_records(index=False)),
    "npy": lambda p: np.save(p, FRAME.to_records(index=False)),
    "h5, records": write_records,
    "h5, pandas": write_frame,
    "fits": write_fits,
    "nc": lambda p: VARIABLES.to_netcdf(p, engine="h5netcdf"),
    "cdf": lambda p: VARIABLES.to_netcdf(p, engine="scipy"),
    "h5": write_hdf5,
}  # fmt: skip


def written(folder, kind):
    path = folder / f"t.{kind.partition(',')[0]}"
    WRITERS[kind](path)
    return path


@pytest.mark.parametrize("kind", WRITERS)
def test_the_same_columns(tmp_path, kind):
    path = written(tmp_path, kind)
    table = read_table(path)
    assert table.n == N
    assert table.named
    assert not table.other
    names = [n.replace("km per s", "km/s") for n in table.names]
    assert sorted(names) == sorted(NAMES)
    for name, plain in zip(table.names, names, strict=True):
        assert table.columns[name].dtype == np.float64
        assert np.allclose(table.columns[name], COLUMNS[plain], rtol=1e-15)
    theta = read_theta(path, SPACE)
    assert np.allclose(theta, MATRIX[:, [2, 0]], rtol=1e-15)


def test_units(tmp_path):
    write_fits(tmp_path / "t.fits", a="K", n="Mpc")
    assert read_table(tmp_path / "t.fits").units == {"a": "K", "n": "Mpc"}
    write_ecsv(tmp_path / "t.ecsv")
    assert read_table(tmp_path / "t.ecsv").units == {"a": "K", "h [km/s]": "km/s"}
    (tmp_path / "t.csv").write_text("# units: K, , Mpc\na,b,n\n1,2,3\n")
    assert read_table(tmp_path / "t.csv").units == {"a": "K", "n": "Mpc"}
    write_hdf5(tmp_path / "t.h5", "run/")
    with h5py.File(tmp_path / "t.h5", "a") as file:
        file["run/a"].attrs["units"] = "K"
        file["fields"] = np.zeros((3, 3))
    assert read_table(tmp_path / "t.h5", "run").units == {"a": "K"}
    assert read_table(tmp_path / "t.h5", "run").names == ("a", "h [km per s]", "n")


def test_gaps(tmp_path):
    column = fits.Column("a", "J", array=np.array([1, -9, 3]), null=-9)
    fits.BinTableHDU.from_columns([column]).writeto(tmp_path / "t.fits")
    (tmp_path / "t.csv").write_text("a\n1\n\n2\n")  # an empty line is no row
    (tmp_path / "u.csv").write_text("a,b\n1,1\n,2\n3,3\n")
    packed = {"a": {"_FillValue": -9, "dtype": "i2"}}
    xr.Dataset({"a": ("run", [1.0, np.nan, 3])}).to_netcdf(
        tmp_path / "t.nc", engine="h5netcdf", encoding=packed
    )
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file.create_dataset("a", data=[1.0, -9, 3]).attrs["_FillValue"] = -9.0
    for name in ("t.fits", "u.csv", "t.nc", "t.h5"):
        table = read_table(tmp_path / name)
        assert np.array_equal(table.columns["a"], [1, np.nan, 3], equal_nan=True), name
        with pytest.raises(SbitoolsError, match="fix:"):
            read_theta(tmp_path / name, ParameterSpace([Parameter("a", priors.Uniform(0, 9))]))
    assert read_table(tmp_path / "t.csv").n == 2


def test_columns_that_are_no_numbers(tmp_path):
    frame = FRAME.assign(run=[f"LH {i}" for i in range(N)])
    frame.to_csv(tmp_path / "t.csv", index=False)
    Astropy.from_pandas(frame).write(tmp_path / "t.fits")
    np.savez(tmp_path / "t.npz", run=frame["run"].to_numpy("U"), a=COLUMNS["a"])
    for name in ("t.csv", "t.fits", "t.npz"):
        table = read_table(tmp_path / name)
        assert list(table.other) == ["run"]
        assert "run" in table.names
        space = ParameterSpace([Parameter("run", priors.Uniform(0, 1))])
        with pytest.raises(ParameterError, match=r"'run'.*real numbers"):
            read_theta(tmp_path / name, space)


def test_tables_without_names(tmp_path):
    np.save(tmp_path / "t.npy", MATRIX)
    np.savetxt(tmp_path / "t.csv", MATRIX, delimiter=",")
    np.savetxt(tmp_path / "t.txt", MATRIX, header="made by us, for you, in 2024")
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["theta"] = MATRIX
    for name in ("t.npy", "t.csv", "t.txt", "t.h5"):
        table = read_table(tmp_path / name)
        assert not table.named
        assert table.names == ("column_0", "column_1", "column_2")
        assert np.allclose(np.stack(list(table.columns.values()), 1), MATRIX)


BAD = {
    "twice": ("a,b,a\n1,2,3\n", "'a'.* twice"),
    "empty": ("", "no rows"),
    "names alone": ("a,b\n", "no rows"),
    "ragged": ("a,b\n1,2\n1\n", "row 1 .*2 entries"),
}


@pytest.mark.parametrize("kind", BAD)
def test_tables_that_are_refused(tmp_path, kind):
    content, message = BAD[kind]
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(ParameterError, match=message):
        read_table(tmp_path / "t.csv")


def test_files_that_are_no_tables(tmp_path):
    for name in ("t.csv", "t.npz", "t.npy", "t.h5", "t.nc", "t.fits"):
        for data in (b"\xff\xfea\0,\0b\0", b"\x89HDF\r\n\x1a\n" + b"\xff" * 300, b"PK\x03\x04"):
            (tmp_path / name).write_bytes(data)
            with pytest.raises(SbitoolsError, match="fix:"):
                read_table(tmp_path / name)
    np.save(tmp_path / "t.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(StoreError, match=r"numpy\.save"):
        read_table(tmp_path / "t.npy")
    np.savez(tmp_path / "t.npz", a=np.ones(3), k=np.ones(5))
    with pytest.raises(ParameterError, match="equal length"):
        read_table(tmp_path / "t.npz")
    np.savez(tmp_path / "t.npz", a=np.array([{}, {}], object), b=np.ones(2))
    assert list(read_table(tmp_path / "t.npz").other) == ["a"]


def test_rows_in_disorder(tmp_path):
    frame = FRAME.assign(index=np.arange(N)[::-1])
    frame.to_csv(tmp_path / "t.csv", index=False)
    Astropy.from_pandas(frame).write(tmp_path / "t.fits")
    for name in ("t.csv", "t.fits"):
        assert read_table(tmp_path / name).columns["index"][0] == N - 1
        with pytest.raises(ParameterError, match="ascending numbers"):
            read_theta(tmp_path / name, SPACE)


def test_what_columns_are(tmp_path):
    n = 40
    frame = pd.DataFrame({
        "index": range(n), "one": range(1, n + 1), "same": 0.3, "kind": [0, 1, 2, 1] * (n // 4),
        "gap": [np.nan, *RNG.random(n - 1)], "theta": RNG.random(n),
    })  # fmt: skip
    frame.to_csv(tmp_path / "t.csv", index=False)
    seen = describe_table(read_table(tmp_path / "t.csv"))
    assert [name for name, c in seen.items() if c.index] == ["index", "one"]
    assert [name for name, c in seen.items() if c.constant] == ["same"]
    assert [name for name, c in seen.items() if c.missing] == ["gap"]
    assert {name: c.categories for name, c in seen.items() if c.categories} == {"kind": (0, 1, 2)}
    assert seen["theta"].minimum == frame["theta"].min()
    assert seen["theta"].maximum == frame["theta"].max()
    assert not seen["theta"].whole
