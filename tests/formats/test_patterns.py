"""One file per simulation: in the order of their numbers, all there, all alike."""

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

from sbitools import FieldSpec, Parameter, ParameterSpace, priors
from sbitools.errors import StoreError
from sbitools.formats import open_fields
from sbitools.store.imports import import_files

from .conftest import DATASETS, N, X, write


def fill(folder, names, x=X):
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("wb") as file:
            np.save(file, x[i % N])
    return folder


LAYOUTS = {
    "sims/run_{}.npy": ["sims/run_*.npy", "sims/run_{index}.npy", "sims", "sims/*"],
    "sims/run_{:04d}.npy": ["sims/run_*.npy", "sims/run_{index:04d}.npy", "sims/run_{index}.npy"],
    "sims/{}/density.npy": ["sims/*/density.npy", "sims/{index}/density.npy", "sims/**/*.npy"],
    "sims2/{}_z0.5.npy": ["sims2/*_z0.5.npy", "sims2", "sims2/{index}_z*.npy"],
    "s/{0}/run_{0}.npy": ["s/*/run_*.npy", "s/{index}/run_{index}.npy"],
    "LH_{}_v2[a].npy": ["LH_{index}_v2?a?.npy", "LH_*.npy"],
}


@pytest.mark.parametrize("first", [0, 1, 7])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_natural_order(tmp_path, monkeypatch, layout, first):
    x = np.arange(12 * 3).reshape(12, 3)
    for i in range(12):
        file = tmp_path / layout.format(i + first)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, x[i])
    monkeypatch.chdir(tmp_path)
    for pattern in LAYOUTS[layout]:
        for path in (pattern, tmp_path / pattern):
            with open_fields(path) as fields:
                assert np.array_equal(fields[...], x), pattern
                assert fields.indices.tolist() == list(range(first, first + 12))
                assert np.array_equal(fields[[3, 10]], x[[3, 10]])


def test_every_format_in_files_of_its_own(tmp_path, kind):
    name = write(tmp_path, kind, X[0].astype("f4"), "mK").name
    for i in range(N):
        (tmp_path / str(i)).mkdir()
        write(tmp_path / str(i), kind, X[i].astype("f4"), "mK")
    with open_fields(tmp_path / "*" / name, DATASETS.get(kind)) as fields:
        assert np.array_equal(fields[:], X)
        assert fields.shape == X.shape
        if kind.startswith("netcdf"):
            assert fields.dims == ("run", "y")
        assert fields.unit in ("mK", None)


BAD = {
    "missing": (["run_0.npy", "run_1.npy", "run_3.npy", "run_4.npy"], "1 missing, .* number 2"),
    "twice": (["run_1.npy", "run_01.npy", "run_2.npy"], "both number 1"),
    "two numbers": (["run_1_s7.npy", "run_2_s9.npy"], "2 numbers that differ"),
    "no number": (["a.npy"], "no number"),
    "no numbers": (["a.npy", "b.npy"], "differ in one number alone"),
    "another": (["run_1.npy", "run_2.npy", "mean.npy"], "mean.npy beside run_"),
    "kinds": (["run_1.npy", "table.csv"], r"files that end in \.csv, \.npy"),
    "nothing": ([".hidden.npy", "notes.md"], "got none"),
    "too large": ([f"run_{10**25}.npy"], "fix:"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_names_that_do_not_count(tmp_path, kind):
    names, message = BAD[kind]
    fill(tmp_path / "sims", names)
    with pytest.raises(StoreError, match=message), open_fields(tmp_path / "sims"):
        pass


def test_patterns_without_files(tmp_path):
    for pattern in ("run_*.npy", "run_{index}.npy", "no/*/x.npy", "no_folder"):
        with pytest.raises(StoreError, match="fix:"), open_fields(tmp_path / pattern):
            pass


@pytest.mark.parametrize("odd", [0, 2, 4])
def test_files_that_differ(tmp_path, odd):
    base = X[0].astype("f4")
    for what, change in {"shape": base[:2], "dtype": base.astype("f8")}.items():
        fill(tmp_path, [f"{what}/run_{i}.npy" for i in range(5)], X.astype("f4"))
        np.save(tmp_path / what / f"run_{odd}.npy", change)
        message = rf"run_\d\.npy.*{what}"
        with (
            pytest.raises(StoreError, match=message) as info,
            open_fields(tmp_path / what) as fields,
        ):
            fields[:]
        assert odd == 0 or f"run_{odd}.npy" in info.value.subject
    (tmp_path / "units").mkdir()
    for i in range(5):
        hdu = fits.PrimaryHDU(base)
        hdu.header["BUNIT"] = "K" if i == odd else "mK"
        hdu.writeto(tmp_path / "units" / f"run_{i}.fits")
    with pytest.raises(StoreError, match=r"unit m?K"), open_fields(tmp_path / "units") as fields:
        fields[:]


def test_axes_that_run_the_other_way(tmp_path):
    for i in range(4):
        y = [0.0, 1, 2] if i < 3 else [2.0, 1, 0]
        xr.Dataset({"x": (("y", "z"), X[i])}, {"y": y}).to_netcdf(tmp_path / f"run_{i}.nc")
    with pytest.raises(StoreError, match="coordinates"), open_fields(tmp_path) as fields:
        fields[:]


def test_a_broken_file_is_named(tmp_path):
    fill(tmp_path, [f"run_{i}.npy" for i in range(5)])
    (tmp_path / "run_3.npy").write_bytes(b"\x93NUMPY")
    with open_fields(tmp_path) as fields:
        assert np.array_equal(fields[:3], X[:3])
        with pytest.raises(StoreError, match=r"run_3\.npy"):
            fields[:]


def test_a_file_whose_name_looks_like_a_pattern(tmp_path):
    np.save(tmp_path / "x[1].npy", X)
    with open_fields(tmp_path / "x[1].npy") as fields:
        assert fields.shape == X.shape
        assert fields.indices is None


def test_a_folder_becomes_a_store(tmp_path):
    space = ParameterSpace([Parameter("a", priors.Uniform(0, 1))])
    theta = space.design(N, 1).numpy()
    np.save(tmp_path / "theta.npy", theta)
    fill(tmp_path / "sims", [f"run_{i + 1}.npy" for i in range(N)], X.astype("f4"))
    store = import_files(
        tmp_path / "s", tmp_path / "sims" / "run_{index}.npy", tmp_path / "theta.npy", space,
        FieldSpec("x", ("y", "z"), X.shape[1:]),
    )  # fmt: skip
    assert np.array_equal(store.read(range(N)), X)
