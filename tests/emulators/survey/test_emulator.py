"""The emulator of sky maps: what it refuses, what it keeps, and that its maps are better."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from emulators.survey.emulator import ScatteringEmulator
from emulators.survey.instrument.geometry import RingGeometry
from emulators.survey.instrument.scan import Scan
from emulators.survey.simulator import TodSimulator
from sbitools import FieldSpec, ParameterSpace, SimulationStore, simulate
from sbitools.errors import (
    ConfigError,
    ParameterError,
    ShapeError,
    StoreError,
    TrainingError,
)
from sbitools.statistics import infinite_map_error, relative_error, sample_covariance

NSIDE = 4
OPTIONS = {"steps": 5}


@pytest.fixture(scope="module")
def reference():
    return TodSimulator(NSIDE, parameters=[], n_rings=96, samples=64)


@pytest.fixture(scope="module")
def store(reference, tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    return simulate(reference, 10, folder / "store", seed=4, workers=1, progress=False)


@pytest.fixture(scope="module")
def emulator(reference, store, tmp_path_factory):
    emulator = ScatteringEmulator.of(reference)
    emulator.fit(store, OPTIONS, run_dir=tmp_path_factory.mktemp("fit"))
    return emulator


def draw(emulator, n):
    return torch.zeros(n, len(emulator.parameters), dtype=torch.float64), torch.arange(n)


def test_covariance_from_ten_maps(reference, store, emulator):
    maps = emulator.simulate(*draw(emulator, 80)).double().numpy().reshape(80, -1)
    truth = reference.response().covariance(reference.gain_covariance(np.zeros(0)))
    limit = infinite_map_error(maps, truth)
    assert limit.error < 0.65  # 0.2 to 0.4; the best tapered estimator has about 0.95
    inputs = store.read(store.done).double().numpy().reshape(10, -1)
    assert limit.error < 0.5 * relative_error(sample_covariance(inputs), truth)


def test_scattering_moves_the_start(emulator):
    theta, seeds = draw(emulator, 4)
    start, maps = emulator.start_maps(theta, seeds), emulator.simulate(theta, seeds)
    assert not torch.equal(start, maps)
    assert (maps - start).norm() < start.norm()  # it corrects, it does not replace


def test_no_steps_is_the_start(emulator):
    other = ScatteringEmulator.from_config(emulator.config())
    other.options, other.model = emulator.options.model_copy(update={"steps": 0}), emulator.model
    theta, seeds = draw(emulator, 2)
    # The start is standardised in float32 and back: a rounding of 1e-7 of the largest value.
    start = emulator.start_maps(theta, seeds)
    assert torch.allclose(
        other.simulate(theta, seeds), start, rtol=0, atol=1e-6 * start.abs().max()
    )


def test_alone_and_in_a_batch_bit_equal(emulator):
    theta, seeds = draw(emulator, 5)
    whole = emulator.simulate(theta, seeds)
    assert torch.equal(whole[3:4], emulator.simulate(theta[3:4], seeds[3:4]))


def test_pixels_without_a_map_stay_empty(tmp_path):
    reference = TodSimulator(
        8, parameters=["gain_rms"], n_rings=48, samples=64, fixed={"scan_angle": 70.0}
    )
    empty = ~reference.map_maker().mask
    assert empty.any()
    store = simulate(reference, 8, tmp_path / "store", seed=1, workers=1, progress=False)
    emulator = ScatteringEmulator.of(reference)
    emulator.fit(store, {"steps": 3}, run_dir=tmp_path / "fit")
    theta = reference.parameters.design(3, 5)
    maps = emulator.simulate(theta, torch.arange(3)).numpy()
    assert (maps[:, :, empty] == 0).all()
    assert (maps[:, :, ~empty] != 0).all()


def test_history_tells_of_three_steps(reference, store, tmp_path):
    rows = []
    history = ScatteringEmulator.of(reference).fit(
        store, {"steps": 1, "seed": 3}, run_dir=tmp_path, on_epoch=rows.append
    )
    assert history.epochs == rows
    assert len(rows) == 3
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def test_another_run_is_not_resumed(reference, store, tmp_path):
    ScatteringEmulator.of(reference).fit(store, OPTIONS, run_dir=tmp_path)
    with pytest.raises(TrainingError, match="another one"):
        ScatteringEmulator.of(reference).fit(store, {"seed": 9}, run_dir=tmp_path, resume=True)


def test_few_maps(reference, tmp_path):
    store = simulate(reference, 2, tmp_path / "store", seed=4, workers=1, progress=False)
    with pytest.raises(StoreError, match="at least 3"):
        ScatteringEmulator.of(reference).fit(store, run_dir=tmp_path / "fit")


def test_other_maps(reference, store, tmp_path):
    other = TodSimulator(2, parameters=[], n_rings=48, samples=64)
    with pytest.raises(StoreError, match="192"):
        ScatteringEmulator.of(other).fit(store, run_dir=tmp_path / "fit")


def test_another_unit(reference, store, tmp_path):
    output = dataclasses.replace(reference.output, unit="K")
    maps = store.read(store.done)
    theta = torch.zeros(len(maps), 0, dtype=torch.float64)
    other = SimulationStore.from_arrays(tmp_path / "s", theta, maps, ParameterSpace([]), output)
    with pytest.raises(StoreError, match="in uK"):
        ScatteringEmulator.of(reference).fit(other, run_dir=tmp_path / "fit")


@pytest.mark.parametrize(
    ("dims", "shape", "words"),
    [
        (("map", "pixel_ring"), (2, 192), "nested"),
        (("map", "pixel"), (2, 192), "nested"),
        (("map", "pixel_nested"), (3, 192), "leave T out"),
        (("map", "pixel_nested"), (2, 191), "12"),
        (("map", "pixel_nested"), (2, 12 * 36), "power of two"),
    ],
)
def test_other_outputs(dims, shape, words):
    geometry = RingGeometry(Scan(n_rings=48, samples=64))
    with pytest.raises((ShapeError, ConfigError), match=words):
        ScatteringEmulator(ParameterSpace([]), FieldSpec("sky", dims, shape), geometry)


def test_theta_outside_the_prior(tmp_path):
    reference = TodSimulator(NSIDE, parameters=["gain_rms"], n_rings=96, samples=64)
    store = simulate(reference, 12, tmp_path / "store", seed=4, workers=1, progress=False)
    emulator = ScatteringEmulator.of(reference)
    emulator.fit(store, {"steps": 1}, run_dir=tmp_path / "fit")
    with pytest.raises(ParameterError, match="gain_rms"):
        emulator.simulate(torch.tensor([[1.0]], dtype=torch.float64), torch.tensor([1]))


def test_options():
    with pytest.raises(ConfigError, match="known options"):
        ScatteringEmulator.of(TodSimulator(2, n_rings=48, samples=64)).fit(
            None, {"stepz": 3}, run_dir="."
        )


def test_not_fitted(reference):
    with pytest.raises(TrainingError, match="call fit"):
        ScatteringEmulator.of(reference).simulate(
            torch.zeros(1, 0, dtype=torch.float64), torch.tensor([1])
        )
