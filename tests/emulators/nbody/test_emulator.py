"""The N-body emulator: data, losses, options, fitting, errors."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch

import sbitools
from emulators.methods.displacement.losses import density_errors, mean_square
from emulators.methods.displacement.painting import density_contrast
from emulators.nbody.data import ParticleBatches, transform
from emulators.nbody.emulator import NBodyEmulator
from emulators.nbody.options import EmulatorOptions
from emulators.nbody.simulator import NBodySimulator
from emulators.options import fast_bfloat16, parse_options
from sbitools.errors import ConfigError, ParameterError, ShapeError, StoreError, TrainingError
from sbitools.seeds import normal
from sbitools.training.parallel import mean_loss

from .tiny import OPTIONS, TINY, particles


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return particles(tmp_path_factory.mktemp("nbody") / "store", 6)


@pytest.fixture(scope="module")
def fitted(store, tmp_path_factory):
    emulator = NBodyEmulator(NBodySimulator(**TINY), (0.0, 1.0))
    emulator.fit(store, OPTIONS, run_dir=tmp_path_factory.mktemp("fit"))
    return emulator


def test_training_lowers_the_loss(store, tmp_path):
    emulator = NBodyEmulator(NBodySimulator(**TINY), (0.0, 1.0))
    history = emulator.fit(store, OPTIONS | {"epochs": 3, "passes": 6}, run_dir=tmp_path)
    losses = [row["validation_loss"] for row in history.epochs]
    assert losses[-1] < losses[0]


def test_same_universe_as_the_simulator(fitted, store):
    psi = fitted.initial_displacement(store.theta, fitted.latent(store.theta, store.seeds))
    assert torch.equal(psi, store.read(range(len(store)), what="source"))


def test_fields_do_not_depend_on_torch_threads():
    emulator = NBodyEmulator(NBodySimulator(n=32, box_size=100.0))
    emulator._build([4, 6], 6.0, "bfloat16", 0)
    theta, seeds = torch.tensor([[0.3, 0.8]]), torch.tensor([5])
    one = emulator.simulate(theta, seeds)
    torch.set_num_threads(2)
    try:
        two = emulator.simulate(theta, seeds)
    finally:
        torch.set_num_threads(1)
    # Without bfloat16 hardware convolutions run in float32, and for some widths their last bit
    # depends on the threads: 1e-6 of a contrast of 1 was seen. Workers have one thread each.
    torch.testing.assert_close(two, one, rtol=0, atol=0 if fast_bfloat16() else 1e-5)


def test_sigma_8_enters_by_the_displacement_only(fitted):
    psi = normal([1], (3, 8, 8, 8))
    low, high = torch.tensor([[0.3, 0.7]]), torch.tensor([[0.3, 0.9]])
    assert torch.equal(fitted.displacement(low, psi)[0], fitted.displacement(high, psi)[0])
    assert not torch.equal(
        fitted.displacement(low, psi)[0], fitted.displacement(torch.tensor([[0.2, 0.7]]), psi)[0]
    )


def test_redshift_and_velocity(fitted):
    psi, theta = normal([1], (3, 8, 8, 8)), torch.tensor([[0.3, 0.8]])
    now, rate = fitted.displacement(theta, psi, velocity=True)
    early, none = fitted.displacement(theta, psi, redshift=1.0)
    assert none is None
    assert rate.shape == now.shape
    assert early.std() < now.std()


def test_runs_on_a_larger_box(fitted):
    large = fitted.resized(16)
    assert large.simulator.box_size == 2 * fitted.simulator.box_size
    theta, seeds = torch.tensor([[0.3, 0.8]]), torch.tensor([5])
    assert large.simulate(theta, seeds).shape == (1, 16, 16, 16)


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
def test_symmetries_commute_with_painting(axes):
    """The density of the transformed particles is the transformed density."""
    field = normal([0], (6, 4, 4, 4))[0] * 3
    for flips in itertools.product((False, True), repeat=3):
        turned = transform(field[None], axes, flips, 17)[0]
        density = density_contrast(turned[None, :3], 10.0)[0]
        expected = density_contrast(field[None, :3], 10.0)[0].roll((1, 0, 1), (0, 1, 2))
        expected = expected.permute(axes)
        # A mirrored lattice starts at cell 0 as before: positions -q are cells n - 1 - q, one off.
        for axis, flip in enumerate(flips):
            if flip:
                expected = expected.flip(axis)
        assert torch.allclose(density, expected, atol=1e-5)


def test_symmetries_keep_velocity_beside_displacement():
    field = normal([0], (6, 4, 4, 4))
    turned = transform(field, (2, 0, 1), (True, False, True), 5)
    assert torch.equal(turned[:, 3:], transform(field[:, 3:], (2, 0, 1), (True, False, True), 5))
    assert not torch.equal(turned[:, :3], turned[:, 3:])


def test_batches_resume_where_they_stopped(store):
    def batches(start):
        growth = np.ones((len(store), 2))
        data = ParticleBatches(
            store, store.theta[:, 0].numpy(), growth, [0.5, 0.5],
            batch_size=2, passes=3, validation_fraction=0.2, seed=1,
        )  # fmt: skip
        assert not set(data.training) & set(data.held_out)
        assert data.steps == 7
        return list(data.train(2, start))

    whole, rest = batches(0), batches(3)
    assert len(whole) == 7
    for a, b in zip(whole[3:], rest, strict=True):
        assert all(torch.equal(u, v) for u, v in zip(a, b, strict=True))


def test_density_loss_gradient():
    a = (2 * normal([0], (3, 4, 4, 4), torch.float64)).requires_grad_()
    b = 2 * normal([1], (3, 4, 4, 4), torch.float64)

    def direct(x):
        from emulators.methods.displacement.painting import _deposit_torch

        return (_deposit_torch(x, 10.0, 4) - density_contrast(b, 10.0)).square().mean()

    square, power, phase = density_errors(a, b, 10.0)
    assert torch.allclose(square, direct(a), rtol=1e-12)
    (compiled,) = torch.autograd.grad(square.sum(), a, retain_graph=True)
    (automatic,) = torch.autograd.grad(direct(a), a)
    assert torch.allclose(compiled, automatic, atol=1e-12)
    assert float(power.detach()) > 0
    same = density_errors(b, b, 10.0)
    assert torch.equal(same[1], torch.zeros(1).double())
    assert float(same[2]) < -13 < -1 < float(phase.detach())  # log of 1e-6, and of order one
    (gradient,) = torch.autograd.grad(phase.sum(), a)
    assert bool(gradient.any())
    assert torch.equal(mean_square(b, b), torch.zeros(1).double())


@pytest.mark.parametrize("workers", [1, 3])
def test_gradients_of_boxes_side_by_side(workers):
    """The mean's gradient, whatever the number of threads; unused leaves get none."""
    a, b, unused = (normal([i], (4,), torch.float64)[0].requires_grad_() for i in range(3))

    def loss(i):
        return ((i + 1) * a * b.sin()).sum()

    value = mean_loss(loss, 3, [a, b, unused], workers)
    expected = torch.stack([loss(i) for i in range(3)]).mean()
    assert torch.allclose(value, expected)
    got = torch.autograd.grad(2 * value, (a, b, unused), allow_unused=True)
    for g, e in zip(got, torch.autograd.grad(2 * expected, (a, b)), strict=False):
        assert torch.allclose(g, e)
    assert got[2] is None
    with torch.no_grad():
        assert not mean_loss(loss, 3, [a, b], workers).requires_grad


def test_fit_does_not_depend_on_workers(store, tmp_path):
    weights = []
    for workers in (1, 2):
        emulator = NBodyEmulator(NBodySimulator(**TINY), (0.0, 1.0))
        options = OPTIONS | {"epochs": 1, "workers": workers}
        emulator.fit(store, options, run_dir=tmp_path / str(workers))
        weights.append(emulator.module().state_dict())
    assert all(torch.equal(v, weights[1][k]) for k, v in weights[0].items())


def test_options():
    assert parse_options(EmulatorOptions, {"epochs": 3}).epochs == 3
    assert EmulatorOptions().resolved().precision in ("float32", "bfloat16")
    for bad in ({"epoch": 3}, {"velocity_share": 2}, {"channels": []}):
        with pytest.raises(ConfigError, match="emulator option"):
            parse_options(EmulatorOptions, bad)


def test_bad_input(store, fitted, tmp_path):
    simulator = NBodySimulator(**TINY)
    with pytest.raises(TrainingError, match="fitted"):
        NBodyEmulator(simulator).simulate(torch.tensor([[0.3, 0.8]]), torch.tensor([1]))
    with pytest.raises(StoreError, match="training_simulator"):
        NBodyEmulator(simulator, (0.0,)).fit(store, OPTIONS, run_dir=tmp_path)
    with pytest.raises(ConfigError, match="redshift"):
        NBodyEmulator(simulator, (0.5,))
    with pytest.raises(ConfigError, match="density"):
        NBodyEmulator(NBodySimulator(**TINY, quantity="particles"))
    with pytest.raises(ShapeError, match="latent"):
        fitted.decode(torch.tensor([[0.3, 0.8]]), torch.zeros(1, 4, 4, 4))


def test_particles_of_another_simulator_are_refused(store, tmp_path):
    """All of them have the shapes, the names and the units of the right ones."""
    emulator = NBodyEmulator(NBodySimulator(**TINY), (0.0, 1.0))
    emulator.fit(
        plan(emulator.particle_simulator(), store, tmp_path / "same"), OPTIONS | {"epochs": 1},
        run_dir=tmp_path / "fit",
    )  # fmt: skip
    others = {
        "box_size": 26.0, "steps": 5, "fixed": {"h": 0.7}, "redshifts": (0.0, 0.5),
        "mesh_factor": 3,
    }  # fmt: skip
    for name, value in others.items():
        other = plan(emulator.particle_simulator(**{name: value}), store, tmp_path / name)
        with pytest.raises(StoreError, match="version"):
            emulator.fit(other, OPTIONS, run_dir=tmp_path / "no")


def plan(simulator, store, path):
    """A campaign of `simulator` that ran elsewhere; its fields do not matter here."""
    made = sbitools.campaign.plan(simulator, len(store), path, seed=3)
    rows = range(len(store))
    made.add_many(0, store.read(rows).numpy(), store.read(rows, what="source").numpy())
    return made


def test_redshifts_outside_the_trained_ones_are_refused(fitted):
    psi, theta = normal([1], (3, 8, 8, 8)), torch.tensor([[0.3, 0.8]])
    for redshift in (1.1, -0.1, float("nan")):
        with pytest.raises(ParameterError, match=r"redshift: expected a value in \[0, 1\]"):
            fitted.displacement(theta, psi, redshift)


def test_another_fit_is_another_simulator(fitted, tmp_path):
    """A store must not mix the fields of two fits."""
    sbitools.simulate(fitted, 2, tmp_path / "s", seed=1, workers=1, progress=False)
    other = copy.deepcopy(fitted)
    assert other.version == fitted.version
    next(other.module().parameters()).data += 1e-3
    assert other.version != fitted.version
    with pytest.raises(StoreError, match="code_version"):
        sbitools.simulate(other, 4, tmp_path / "s", seed=1, workers=1, progress=False)
