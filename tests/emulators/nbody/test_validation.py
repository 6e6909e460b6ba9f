"""The comparison with the reference, and the system that the chain sees."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from pydantic import ValidationError

from emulators.nbody.emulator import NBodyEmulator
from emulators.nbody.simulator import NBodySimulator
from emulators.nbody.system import NBodySettings
from emulators.nbody.validation import RIVALS, compare
from sbitools.errors import StoreError
from sbitools.systems import find_system

from .tiny import OPTIONS, TINY, particles

SETTINGS = {"n": 8, "box_size": 25.0, "steps": 4, "redshifts": (0.0, 1.0)}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return particles(tmp_path_factory.mktemp("nbody") / "store", 4)


@pytest.fixture(scope="module")
def emulator(store, tmp_path_factory):
    emulator = NBodyEmulator(NBodySimulator(**TINY), (0.0, 1.0))
    emulator.fit(store, OPTIONS, run_dir=tmp_path_factory.mktemp("fit"))
    return emulator


def test_statistics(emulator, store):
    found = compare(emulator, store, steps=4)
    names = {"emulator", *RIVALS}
    assert set(found["curves"]["power"]) == names | {"reference"}
    for statistic in ("transfer", "correlation"):
        assert set(found["curves"][statistic]) == names
    for curves in found["curves"].values():
        assert all(c.shape == found["k"].shape and np.isfinite(c).all() for c in curves.values())
    for curve in found["noise_floor"].values():
        assert curve.shape == found["k"].shape
        assert (curve >= 0).all()
    floor = found["noise_floor"]
    # Both are what twice the time steps change: |T^2 - 1| = |T - 1| |T + 1|.
    assert np.all(np.abs(floor["power"] - 2 * floor["transfer"]) <= floor["transfer"] ** 2 + 1e-12)
    assert all(image.shape == (8, 8) for image in found["fields"].values())
    assert found["n"] == 4
    assert np.isclose(found["k_nyquist"], np.pi * 8 / 25)


def test_paired_with_the_reference(emulator, store):
    """The rivals start from the store's own universes: at early times all agree."""
    found = compare(emulator, store, steps=4, n_boxes=2)
    errors = found["errors"]["displacement"]
    # Unpaired boxes differ by their own size, sqrt(2) times the rms displacement of 3 Mpc/h.
    assert errors["2LPT"] < 1.5
    assert found["n"] == 2
    assert found["curves"]["correlation"]["PM, 3 steps"][0] > 0.98


def test_needs_particles_that_are_finished(emulator, store, tmp_path):
    other = NBodySimulator(**TINY)
    from sbitools.store import SimulationStore

    empty = SimulationStore.create(
        tmp_path / "empty", other.parameters, other.output, store.theta, store.seeds, seed=1
    )
    with pytest.raises(StoreError, match="training_simulator"):
        compare(emulator, empty)


def test_system_is_found_and_complete(emulator, store, tmp_path):
    system = find_system("nbody")
    settings = system.settings(**SETTINGS)
    simulator, training = system.simulator(settings), system.training_simulator(settings)
    assert simulator.output == emulator.output == system.emulator(settings).output
    assert training.output == store.output
    assert training.source == store.source
    loaded = system.load_emulator(emulator.save(tmp_path / "checkpoint"))
    assert "curves" in system.validate(loaded, settings, store)


def test_settings():
    assert NBodySettings(redshift=0.3).redshifts[0] == 0.3
    assert NBodySettings(redshift=0.5).redshifts == (0.0, 0.5, 1.0, 2.0)
    assert NBodySettings(redshift=1.5, redshifts=(0.0,)).redshifts == (1.5, 0.0)
    for bad in ({"boxsize": 3}, {"n": 9}, {"parameters": ()}, {"parameters": ("w0",)}):
        with pytest.raises(ValidationError):
            NBodySettings(**bad)


def test_finding_the_system_does_not_import_torch():
    import subprocess

    code = "import sys, emulators.nbody; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
