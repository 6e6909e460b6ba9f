"""What comes with the package: planes, weights, and the chain's stores made of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emulators.reionization import shipped, system
from emulators.reionization.emulator import ReionizationEmulator
from emulators.reionization.shipped import description
from emulators.reionization.statistics import distances, measure
from emulators.reionization.system import ReionizationSettings
from sbitools.commands.demo import demo_config
from sbitools.errors import ConfigError


@pytest.mark.parametrize(("kind", "shape"), [("train", (6, 64, 64)), ("test", (64, 64))])
def test_planes_are_what_the_simulator_makes(kind, shape, tmp_path):
    store = shipped.store(kind, tmp_path / kind, 8)
    assert store.output.shape == shape
    assert store.output.unit == "mK"
    assert store.parameters == shipped.simulator().parameters
    assert len(store.done) == 8
    assert description(kind)["simulator"] == shipped.simulator().config()
    x = store.read(store.done)
    assert float(x.min()) == 0
    assert 10 < float(x.max()) < 150


def test_a_shipped_plane_is_reproduced(tmp_path):
    pytest.importorskip("py21cmfast", reason="21cmFAST is not installed (an extra)")
    store = shipped.store("test", tmp_path / "test", 1)
    again = shipped.simulator().simulate(store.theta[:1], store.seeds[:1])
    # Half precision keeps 11 bits; another compiler may flip single cells at the edge of ionised.
    near = (again - store.read([0])).abs() < 0.05
    assert float(near.float().mean()) > 0.995


def test_the_shipped_emulator_makes_planes_like_held_out_ones(tmp_path):
    store = shipped.store("validation", tmp_path / "held-out", 32)
    emulator = shipped.emulator()
    truth = measure(store.read(store.done)[:, 0], 128.0)
    drawn = measure(emulator.simulate(store.theta[store.done], torch.arange(32)), 128.0)
    found = distances(drawn, truth)
    # Planes of one theta scatter by about 0.8 mK in the mean and 0.03 in the ionised share; 32
    # of them by a sixth of that, and six sigma of the difference are asked for.
    assert abs(found.mean) < 1.0
    assert abs(found.ionised) < 0.05
    assert np.abs(found.power).max() < 0.35
    assert np.corrcoef(drawn.mean, truth.mean)[0, 1] > 0.95
    # At other parameters it is not: of 32 unrelated pairs the correlation scatters by 0.18.
    other = emulator.simulate(store.theta[store.done].flip(0), torch.arange(32))
    assert np.corrcoef(measure(other, 128.0).mean, truth.mean)[0, 1] < 0.8


def test_more_than_there_are_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="1 to 48"):
        shipped.store("train", tmp_path / "train", 49)


def test_training_can_start_from_the_shipped_weights(tmp_path):
    store = shipped.store("train", tmp_path / "train", 8)
    emulator = ReionizationEmulator(shipped.simulator())
    history = emulator.fit(store, {"start": "shipped", "steps": 0}, run_dir=tmp_path / "none")
    assert history.stopped == "shipped weights"
    theta, seeds = emulator.parameters.design(2, 0), torch.tensor([1, 2])
    expected = shipped.emulator().simulate(theta, seeds)
    assert torch.equal(emulator.simulate(theta, seeds), expected)
    options = {"start": "shipped", "steps": 2, "batch_size": 4, "learning_rate": 1e-4}
    emulator.fit(store, options, run_dir=tmp_path / "more")
    moved = emulator.simulate(theta, seeds)
    assert not torch.equal(moved, expected)
    assert float((moved - expected).abs().mean()) < 5
    with pytest.raises(ConfigError, match="start"):
        emulator.fit(store, options | {"widths": (8, 8)}, run_dir=tmp_path / "other")
    with pytest.raises(ConfigError, match="steps"):
        emulator.fit(store, {"steps": 0}, run_dir=tmp_path / "zero")


def test_the_demo_takes_shipped_simulations(tmp_path):
    config = demo_config("reionization")
    settings = ReionizationSettings.model_validate(config.settings)
    path = tmp_path / "store"
    made = system.provide(settings, "reference/test", {"reference/test": 5}, path)
    assert made is not None
    assert len(made) == 5
    again = system.provide(settings, "reference/test", {"reference/test": 5}, path)
    assert again is not None
    assert again.digest() == made.digest()
    own = settings.model_copy(update={"shipped": False})
    assert system.provide(own, "reference/test", {"reference/test": 5}, tmp_path / "other") is None
    wrong = settings.model_copy(update={"box_size": 100.0})
    with pytest.raises(ConfigError, match="shipped"):
        system.provide(wrong, "reference/test", {"reference/test": 5}, tmp_path / "wrong")
