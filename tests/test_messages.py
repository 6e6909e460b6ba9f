"""What a message says: the thing itself, in a few words, and a fix that helps."""

import os

import numpy as np
import pandas as pd
import pytest
import torch
from astropy.io import fits

from sbitools import (
    FieldSpec,
    FunctionSimulator,
    Parameter,
    ParameterSpace,
    SimulationStore,
    priors,
    train,
)
from sbitools.errors import ConfigError, SbitoolsError, StoreError, TrainingError
from sbitools.formats.opening import open_array
from sbitools.formats.theta import read_theta
from sbitools.observation.observed import read_field
from sbitools.store.imports import import_files

SPACE = ParameterSpace([Parameter("a", priors.Uniform(0, 1))])
SPEC = FieldSpec("x", ("i",), (3,), unit="K")
THETA = np.random.default_rng(0).random((40, 1))
X = (THETA + np.random.default_rng(1).random((40, 3))).astype("f4")


def opened(path):
    with open_array(path) as array:
        return array[...]


READERS = {
    "open_array": opened,
    "read_field": read_field,
    "read_theta": lambda path: read_theta(path, SPACE),
    "import_files": lambda path: import_files(path.parent / "s", path, path, SPACE, SPEC),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".csv"])
def test_what_is_no_file_is_called_what_it_is(tmp_path, reader, suffix):
    fifo, folder = tmp_path / f"fifo{suffix}", tmp_path / f"folder{suffix}"
    os.mkfifo(fifo)
    folder.mkdir()
    kinds = {fifo: "a fifo", folder: "a folder", tmp_path / f"absent{suffix}": "no such file"}
    for path, words in kinds.items():
        with pytest.raises(StoreError, match=f"got {words}.*correct the path"):
            READERS[reader](path)


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_a_name_of_an_array_in_a_file_without_names_is_refused(tmp_path, suffix):
    np.save(tmp_path / "x.npy", X)
    pd.DataFrame(THETA, columns=["a"]).to_csv(tmp_path / "t.csv", index=False)
    np.save(tmp_path / "t.npy", THETA)
    with pytest.raises(StoreError, match=r"'density'; got .*leave the name out"):
        read_theta(tmp_path / f"t{suffix}", SPACE, "density")
    if suffix == ".npy":
        for call in (
            lambda: read_field(tmp_path / "x.npy", "density"),
            lambda: import_files(tmp_path / "s", tmp_path / "x.npy", tmp_path / "t.csv", SPACE,
                                 SPEC, dataset="density"),
        ):  # fmt: skip
            with pytest.raises(StoreError, match=r"an .npy file, which has one array"):
                call()


@pytest.mark.parametrize(("given", "words"), [
    ({"verbose": False}, "an unknown one, verbose=False; fix: leave it out"),
    ({"epoch": 3}, "did you mean 'epochs'"),
    ({"epochs": 0}, "greater than or equal to 1; got 0; fix: correct 'epochs'"),
])  # fmt: skip
def test_options_of_train(tmp_path, given, words):
    store = SimulationStore.from_arrays(tmp_path / "s", THETA, X, SPACE, SPEC)
    with pytest.raises(ConfigError) as error:
        train(store, run_dir=tmp_path / "r", **given)
    assert words in str(error.value)
    assert "Extra inputs" not in str(error.value)


def test_float64_is_no_cure_for_float64(tmp_path):
    for size in (1e300, 1e-300):
        spec = FieldSpec("x", ("i",), (3,), dtype="float64")
        store = SimulationStore.from_arrays(
            tmp_path / f"{size}", THETA, size * X.astype("f8"), SPACE, spec
        )
        with pytest.raises(TrainingError, match="another unit") as error:
            train(store, run_dir=tmp_path / "r", epochs=1)
        assert "declare the field" not in error.value.fix


def test_fits_hdus_are_read_or_refused(tmp_path):
    columns = [
        fits.Column(k, "D", array=v) for k, v in (("b", THETA[::-1, 0]), ("a", THETA[:, 0]))
    ]
    image, table = fits.ImageHDU(X), fits.BinTableHDU.from_columns(columns)
    image.header["BUNIT"] = "K"
    for i, theta in enumerate((table, fits.ImageHDU(THETA), table.data)):
        store = SimulationStore.from_arrays(tmp_path / f"s{i}", theta, image, SPACE, SPEC)
        assert np.array_equal(store.theta.numpy(), THETA)
        assert np.array_equal(store.read(store.done).numpy(), X)
    image.header["BUNIT"] = "mK"
    with pytest.raises(SbitoolsError, match="unit of x"):
        SimulationStore.from_arrays(tmp_path / "t", THETA, image, SPACE, SPEC)
    for wrong in (fits.PrimaryHDU(), fits.HDUList([fits.PrimaryHDU(), image])):
        with pytest.raises(SbitoolsError, match="fix:"):
            SimulationStore.from_arrays(tmp_path / "t", THETA, wrong, SPACE, SPEC)


def test_a_series_of_fields_is_a_batch(tmp_path):
    series = pd.Series(list(X), index=np.arange(40) + 5)
    theta = pd.DataFrame(THETA, columns=["a"], index=series.index)
    store = SimulationStore.from_arrays(tmp_path / "s", theta, series, SPACE, SPEC)
    assert np.array_equal(store.read(store.done).numpy(), X)
    with pytest.raises(SbitoolsError, match="rows of x"):
        SimulationStore.from_arrays(tmp_path / "t", theta, series.iloc[::-1], SPACE, SPEC)
    with pytest.raises(SbitoolsError, match="fix:"):
        SimulationStore.from_arrays(tmp_path / "t", THETA, pd.Series(X[:, 0]), SPACE, SPEC)


def test_a_simulator_is_shown_in_brief():
    def waves(theta, seeds):
        return torch.zeros(len(theta), 3)

    space = ParameterSpace([Parameter(f"p{i}", priors.Uniform(0, 1)) for i in range(500)])
    shown = repr(FunctionSimulator(waves, space, SPEC))
    assert shown.startswith("FunctionSimulator(test_a_simulator")
    assert "waves" in shown
    assert len(shown) < 200
    assert "0x" not in shown
