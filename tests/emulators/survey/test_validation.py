"""The comparison that the report draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emulators.survey.simulator import TodSimulator
from emulators.survey.validation import compare
from sbitools.errors import StoreError
from sbitools.report.emulator_figures import emulator_blocks
from sbitools.store import SimulationStore

from .striped import blurred

REFERENCE = TodSimulator(4, parameters=["gain_rms"], n_rings=64, samples=64)


class Standin:
    """The reference in the place of an emulator, or something that is wrong."""

    output = REFERENCE.output

    def __init__(self, change=lambda x: x):
        self.change = change

    def simulate(self, theta, seeds):
        return self.change(REFERENCE.simulate(theta, seeds))

    def start_maps(self, theta, seeds):
        return REFERENCE.simulate(theta, seeds)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path, seeds = tmp_path_factory.mktemp("maps") / "store", torch.arange(48)
    theta = REFERENCE.parameters.design(48, seed=1)
    maps = REFERENCE.simulate(theta, seeds)
    return SimulationStore.from_arrays(
        path, theta, maps, REFERENCE.parameters, REFERENCE.output, seeds=seeds
    )


@pytest.fixture(scope="module")
def found(store):
    return compare(Standin(), REFERENCE, store)


def test_what_it_returns(found):
    assert found["n"] == 48
    assert np.array_equal(found["k"], np.arange(2, 12))
    for name in ("EE over reference", "BB over reference"):
        assert set(found["curves"][name]) == {"emulator", "start, no scattering"}
        assert found["noise_floor"][name].shape == found["k"].shape
        assert name in found["labels"]
    assert {"reference", "emulator"} <= set(found["pdf"]["curves"])
    step = np.diff(found["pdf"]["x"])[0]
    assert found["pdf"]["curves"]["reference"].sum() * step == pytest.approx(1, abs=1e-3)
    assert all(np.isfinite(image).all() for image in found["fields"].values())
    assert all(np.isfinite(v) for e in found["errors"].values() for v in e.values())


def test_an_exact_emulator_is_at_the_noise_floor(found):
    """ln C_l scatters by about sqrt(2 / (2 l + 1)), by sqrt(2) more for a ratio: 0.13 of 48."""
    for error in (e for name, e in found["errors"].items() if name.startswith("ln")):
        assert error["emulator"] < 0.5
        assert error["emulator"] < 3 * error["reference, other seeds"]
    minkowski = found["errors"]["Minkowski"]
    assert minkowski["emulator"] < 1.5 * minkowski["reference, other seeds"]


def test_a_wrong_one_is_not(store, found):
    def change(maps):
        return torch.from_numpy(blurred(maps.numpy()))

    wrong = compare(Standin(change), REFERENCE, store)
    for quantity in ("ln C_l, EE", "ln C_l, BB", "Minkowski", "scattering"):
        floor = abs(found["errors"][quantity]["reference, other seeds"])
        assert wrong["errors"][quantity]["emulator"] > 1.5 * floor, quantity


def test_the_report_draws_it(found):
    blocks = emulator_blocks(found)
    assert len(blocks) == 4


def test_it_needs_maps(store):
    with pytest.raises(StoreError, match="8 or more"):
        compare(Standin(), REFERENCE, store, n_maps=5)
