"""The diffusion emulator: data, fitting, sampling, errors; the statistics that judge it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emulators.methods.diffusion import n_calls
from emulators.reionization import data
from emulators.reionization.data import FieldBatches
from emulators.reionization.emulator import ReionizationEmulator
from emulators.reionization.simulator import ReionizationSimulator
from emulators.reionization.statistics import distances, measure
from emulators.reionization.transform import FieldTransform
from emulators.reionization.validation import compare, cylindrical
from sbitools.errors import ConfigError, ShapeError, StoreError, TrainingError
from sbitools.seeds import normal

from . import tiny


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tiny.store(tmp_path_factory.mktemp("planes") / "store", tiny.simulator(), 24)


@pytest.fixture(scope="module")
def fitted(store, tmp_path_factory):
    emulator = ReionizationEmulator(tiny.simulator())
    emulator.fit(store, tiny.OPTIONS, run_dir=tmp_path_factory.mktemp("fit"))
    return emulator


def batches(store, position=None, channels=lambda x: x[:, None], **changes):
    condition = torch.linspace(-1, 1, len(store))[:, None]
    settings = {"window": 8, "batch_size": 6, "steps": 3, "validation_fraction": 0.2, "seed": 1}
    return FieldBatches(
        store, channels, condition, position, **settings | changes
    )  # fmt: skip


def test_batches_are_planes_of_the_store_moved_by_symmetries(store):
    made = batches(store)
    rows = {float(c): i for i, c in enumerate(torch.linspace(-1, 1, len(store)))}
    for x, condition in made.train(0):
        assert x.shape == (6, 1, 16, 16)
        for field, value in zip(x[:, 0], condition[:, 0], strict=True):
            row = rows[float(value)]
            assert row in made.training
            planes = store.read([row])[0]
            same = [torch.equal(field.flatten().sort().values, p.flatten().sort().values)
                    for p in planes]  # fmt: skip
            assert sum(same) == 1


def test_batches_depend_on_seed_epoch_and_step_alone(store):
    first, again = list(batches(store).train(2)), list(batches(store).train(2, start=1))
    assert torch.equal(first[1][0], again[0][0])
    assert not torch.equal(first[0][0], first[1][0])
    assert not torch.equal(first[0][0], next(iter(batches(store).train(3)))[0])
    assert not torch.equal(first[0][0], next(iter(batches(store, seed=2).train(2)))[0])


@pytest.mark.parametrize("quantity", ["slice", "cube", "lightcone"])
def test_batches_are_the_same_when_memory_is_short(quantity, tmp_path, monkeypatch):
    reference = tiny.simulator(quantity, **({"n_los": 64} if quantity == "lightcone" else {}))
    simulations = tiny.store(tmp_path / "store", reference, 6)
    cone = quantity == "lightcone"
    few = simulations.read(range(6))
    few = few.flatten(0, 1) if quantity == "slice" else few
    channels = FieldTransform.fit(few, open_end=cone).forward
    place = reference.position(simulations.theta) if cone else None
    found = []
    for limit in (1 << 30, 0):
        monkeypatch.setattr(data, "_KEPT", limit)
        found.append(list(batches(simulations, place, channels=channels).train(0)))
        assert found[-1][0][0].shape[1] == 2
    for kept, again in zip(*found, strict=True):
        # Depth beyond 16 cells is within 2e-7 of its limit.
        torch.testing.assert_close(kept[0], again[0], rtol=0, atol=1e-5)
        assert all(torch.equal(a, b) for a, b in zip(kept[1:], again[1:], strict=True))


def test_held_out_simulations_are_never_trained_on(store):
    made = batches(store)
    assert not set(made.training) & set(made.held_out)
    seen = torch.cat([c for _, c in made.validation()])
    values = torch.linspace(-1, 1, len(store))[made.held_out]
    assert set(seen[:, 0].tolist()) == set(values.tolist())


def test_stretches_of_a_cone_know_where_they_are(tmp_path):
    reference = tiny.simulator("lightcone")
    cones = tiny.store(tmp_path / "cones", reference, 8)
    place = reference.position(cones.theta)
    for x, condition, position in batches(cones, place).train(0):
        assert x.shape == (6, 1, 16, 16, 8)
        assert position.shape == (6, 8)
        for field, value, where in zip(x[:, 0], condition[:, 0], position, strict=True):
            row = int(torch.argmin((torch.linspace(-1, 1, 8) - value).abs()))
            start = int(torch.argmin((place[row] - where[0]).abs()))
            cut = cones.read([row])[0][..., start : start + 8]
            # Along the line of sight nothing is mirrored or moved: planes keep their order.
            assert torch.allclose(field.mean((0, 1)), cut.mean((0, 1)), rtol=1e-5)


@pytest.mark.slow
def test_learns_the_mean_signal_and_how_it_depends_on_parameters(tmp_path):
    reference = tiny.simulator()
    emulator = ReionizationEmulator(reference)
    options = tiny.OPTIONS | {
        "steps": 300, "batch_size": 16, "learning_rate": 3e-3, "widths": (16, 24),
        "checkpoint_seconds": 60.0, "ema_decay": 0.98, "sampler_steps": 12,
    }  # fmt: skip
    emulator.fit(tiny.store(tmp_path / "store", reference, 64), options, run_dir=tmp_path / "fit")
    truth = tiny.store(tmp_path / "truth", reference, 64, seed=8)
    drawn = emulator.simulate(truth.theta, torch.arange(64))
    found, expected = (
        (x == 0).float().mean((-1, -2)) for x in (drawn, truth.read(range(64))[:, 0])
    )
    # Shares of 256 correlated cells scatter by 0.1; of 64 fields the mean by 0.02.
    assert float(found.mean()) == pytest.approx(float(expected.mean()), abs=0.08)
    assert np.corrcoef(found, expected)[0, 1] > 0.6


def test_other_samplers_and_steps(fitted):
    theta, seeds = fitted.parameters.design(2, 0), torch.tensor([1, 2])
    fields = [fitted.sampling(sampler=s, sampler_steps=40).simulate(theta, seeds)
              for s in ("dpm3", "dpm2", "heun")]  # fmt: skip
    # The same equation, solved well: cells at the edge of being ionised may flip.
    for other in fields[1:]:
        assert float(((fields[0] - other).abs() > 0.5).float().mean()) < 0.02
    assert n_calls("heun", 40) == 80
    with pytest.raises(ConfigError, match="sampler"):
        fitted.sampling(sampler="euler")


def test_flow_matching_is_an_option(store, tmp_path):
    emulator = ReionizationEmulator(tiny.simulator())
    emulator.fit(store, tiny.OPTIONS | {"noise_schedule": "flow"}, run_dir=tmp_path)
    again = ReionizationEmulator.load(emulator.save(tmp_path / "checkpoint"))
    theta, seeds = emulator.parameters.design(2, 0), torch.tensor([1, 2])
    assert torch.equal(emulator.simulate(theta, seeds), again.simulate(theta, seeds))
    assert again.options.noise_schedule == "flow"


def test_pieces_of_a_batch_do_not_matter(store, tmp_path):
    states = []
    for pieces in (1, 2):
        emulator = ReionizationEmulator(tiny.simulator())
        options = tiny.OPTIONS | {"pieces": pieces, "steps": 3}
        emulator.fit(store, options, run_dir=tmp_path / str(pieces))
        states.append(emulator.module().state_dict())
    for name, value in states[0].items():
        # Sums in another order; three steps of Adam turn rounding of small gradients into 1e-3
        # of a step of 1e-3.
        assert torch.allclose(value, states[1][name], atol=1e-4), name


def test_foreign_stores_are_refused(store, tmp_path):
    emulator = ReionizationEmulator(tiny.simulator("cube"))
    with pytest.raises(StoreError, match="training_simulator"):
        emulator.fit(store, tiny.OPTIONS, run_dir=tmp_path)
    other = ReionizationEmulator(tiny.simulator(parameters=("log10_Tvir", "zeta")))
    with pytest.raises(StoreError, match="log10_Tvir"):
        other.fit(store, tiny.OPTIONS, run_dir=tmp_path)


def test_fields_that_do_not_fit_the_levels(store, tmp_path):
    with pytest.raises(ShapeError, match="multiples of 32"):
        ReionizationEmulator(tiny.simulator()).fit(
            store, tiny.OPTIONS | {"widths": (4, 4, 4, 4, 4)}, run_dir=tmp_path
        )


def test_wrong_options_latents_and_use_before_a_fit(fitted, store, tmp_path):
    with pytest.raises(ConfigError, match="emulator option windows"):
        ReionizationEmulator(tiny.simulator()).fit(store, {"windows": 3}, run_dir=tmp_path)
    with pytest.raises(ShapeError, match="latent"):
        fitted.decode(fitted.parameters.design(2, 0), torch.zeros(2, 1, 8, 8))
    with pytest.raises(TrainingError, match="fitted"):
        ReionizationEmulator(tiny.simulator()).simulate(store.theta[:1], torch.tensor([1]))


def test_training_does_not_go_on_with_other_channels(store, tmp_path, monkeypatch):
    options = tiny.OPTIONS | {"steps": 2}
    ReionizationEmulator(tiny.simulator()).fit(store, options, run_dir=tmp_path / "fit")
    monkeypatch.setattr("emulators.reionization.emulator.CODE", 0)
    with pytest.raises(TrainingError, match="channels"):
        ReionizationEmulator(tiny.simulator()).fit(
            store, options, run_dir=tmp_path / "fit", resume=True
        )


def test_distances_see_what_differs():
    x = 200 + 20 * normal(torch.arange(32), (32, 32))
    same = measure(x[:16], 64.0)
    assert np.abs(distances(same, same).power).max() == 0
    found = distances(measure(1.1 * x[:16], 64.0), same)
    assert found.mean == pytest.approx(20.0, rel=1e-2)
    assert found.power == pytest.approx(2 * np.log(1.1), rel=1e-4)
    assert found.scattering[:4] == pytest.approx(np.log(1.1), rel=0.02)
    assert found.values == pytest.approx(20.0, rel=1e-2)
    holes = x[:16].clone()
    holes[:, :8] = 0
    found = distances(measure(holes, 64.0), same)
    assert found.ionised == pytest.approx(0.25)
    assert found.neutral < 2 < 45 < found.values  # a quarter of 200 mK, and other cells as before
    nothing = distances(measure(0 * x[:16], 64.0), same)  # ionised everywhere: no warning either
    assert nothing.ionised == 1
    assert not np.isfinite([nothing.neutral, *nothing.power, *nothing.scatter]).any()


@pytest.mark.parametrize("quantity", ["cube", "lightcone"])
def test_cubes_and_cones_are_compared_too(quantity, tmp_path):
    reference = tiny.simulator(quantity)
    held_out = tiny.store(tmp_path / "store", reference, 6)
    emulator = ReionizationEmulator(reference)
    emulator.fit(held_out, tiny.OPTIONS | {"steps": 2}, run_dir=tmp_path / "fit")
    found = compare(emulator, held_out)
    assert found["fields"]["reference"].shape == (16, 16)
    assert np.isfinite(found["errors"]["mean [mK]"]["emulator"])
    # Planes at every eighth of 24 cells; an untrained emulator knows mean and width of neutral
    # cells from its transform, and nothing of the ionised ones.
    values = found["errors"]["values [mK]"]
    assert values["emulator"] > max(0.3, 2 * values["reference, other planes"])
    cylindrical = found["errors"].get("cylindrical P(k)")
    assert (cylindrical is not None) == (quantity == "lightcone")
    if cylindrical:
        assert cylindrical["emulator"] > 2 * cylindrical["reference, other planes"] > 0


@pytest.mark.parametrize("n_los", [8, 24, 64, 80, 100, 112])
def test_cylindrical_spectra_of_cones_of_any_length(n_los):
    cones = 20 + normal(torch.arange(3), (8, 8, n_los))
    emulator = ReionizationEmulator(ReionizationSimulator("lightcone", 8, 32.0, n_los=n_los))
    same = cylindrical(emulator, cones, cones)["cylindrical P(k)"]
    assert same["emulator"] == 0
    twice = cylindrical(emulator, cones, 2 * cones)["cylindrical P(k)"]
    assert twice["emulator"] == pytest.approx(np.log(4), abs=1e-4)
    assert 0 < same["reference, other planes"] < 1


def test_the_report_gets_plain_values(fitted, store):
    found = compare(fitted, store, n_fields=6)
    assert found["curves"]["power over reference"]["emulator"].shape == found["k"].shape
    assert set(found["fields"]) == {"reference", "emulator, seed 1", "emulator, seed 2"}
    assert found["fields"]["reference"].shape == (16, 16)
    assert found["n"] == 6
    for values in found["errors"].values():
        assert set(values) == {"emulator", "reference, other planes"}
        assert all(np.isfinite(v) for v in values.values())
    with pytest.raises(StoreError, match="4 or more"):
        compare(fitted, store, n_fields=3)
