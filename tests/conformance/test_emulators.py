"""Every emulator passes the suite, and the suite catches those that break a promise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch

from emulators.emulator import Emulator
from emulators.methods.diffusion.emulator import DiffusionEmulator
from emulators.methods.vector.emulator import VectorEmulator
from emulators.nbody.emulator import NBodyEmulator
from emulators.nbody.simulator import NBodySimulator
from emulators.reionization.emulator import ReionizationEmulator
from emulators.survey.emulator import ScatteringEmulator
from emulators.survey.simulator import TodSimulator
from emulators.testing import check_emulator, check_resume
from sbitools.campaign import simulate
from sbitools.errors import ConfigError, ShapeError, StoreError, TrainingError
from sbitools.simulator import FieldSpec
from sbitools.store import SimulationStore
from tests.emulators.methods.diffusion import small
from tests.emulators.methods.vector import toys
from tests.emulators.nbody import tiny
from tests.emulators.reionization import tiny as toy_21cm
from tests.emulators.test_intake import NO_SEEDS


class Case(NamedTuple):
    """An emulator that is not fitted, a small store, and the options of a short fit."""

    emulator: Emulator
    store: SimulationStore
    options: dict


def nbody(path):
    emulator = NBodyEmulator(NBodySimulator(**tiny.TINY), (0.0, 1.0))
    return Case(emulator, tiny.particles(path, 6), tiny.OPTIONS)


def scattering(path):
    reference = TodSimulator(4, parameters=["gain_rms", "scan_angle"], n_rings=64, samples=64)
    store = simulate(reference, 24, path, seed=1, workers=1, progress=False)
    return Case(ScatteringEmulator.of(reference), store, {"steps": 6, "generator_steps": 5})


def generated(path):
    reference = TodSimulator(4, parameters=["gain_rms"], n_rings=64, samples=64)
    store = simulate(reference, 12, path, seed=1, workers=1, progress=False)
    options = {"maps": "generated", "generator_steps": 10}
    return Case(ScatteringEmulator.of(reference), store, options)


def _reionization(path, quantity):
    reference = toy_21cm.simulator(quantity)
    store = toy_21cm.store(path, reference, 12)
    return Case(ReionizationEmulator(reference), store, toy_21cm.OPTIONS)


def planes_21cm(path):
    return _reionization(path, "slice")


def cubes_21cm(path):
    return _reionization(path, "cube")


def cones_21cm(path):
    return _reionization(path, "lightcone")


def any_planes(path):
    x = small.bubbles(small.SPACE.design(24, 0), small.PLANE.shape, 1)
    store = small.store(path, x, small.SPACE.design(24, 0), small.PLANE)
    return Case(DiffusionEmulator(small.SPACE, small.PLANE), store, small.OPTIONS)


def any_series(path):
    theta = small.SPACE.design(24, 0)
    output = FieldSpec("series", ("channel", "t"), (2, 22), "float64", axes=("channel", "open"))
    x = [small.gaussian(theta, (22,), 1), 1e9 * np.exp(small.gaussian(theta, (22,), 2))]
    store = small.store(path, np.stack(x, axis=1), theta, output)
    return Case(DiffusionEmulator(small.SPACE, output), store, small.OPTIONS)


def vectors(path):
    store = toys.store(path, 64, space=toys.PLAIN)
    return Case(VectorEmulator(store.parameters, store.output), store, toys.SHORT)


# A new emulator adds a row: name and a function of a path that returns a `Case`.
EMULATORS = {
    "nbody": nbody, "scattering": scattering, "generated": generated,
    "any_planes": any_planes, "any_series": any_series, "planes_21cm": planes_21cm,
    "cubes_21cm": cubes_21cm, "cones_21cm": cones_21cm, "vectors": vectors,
}  # fmt: skip


@pytest.fixture(scope="module", params=EMULATORS)
def case(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    case = EMULATORS[request.param](folder / "store")
    case.emulator.fit(case.store, case.options, run_dir=folder / "fit")
    return case


def test_conforms(case, tmp_path):
    check_emulator(case.emulator, case.store, case.options, folder=tmp_path)


def test_theta_and_seeds_of_any_kind_give_the_same_fields(case):
    emulator = case.emulator
    theta, seeds = emulator.parameters.design(2, 0), torch.tensor([5, 6])
    fields = emulator.simulate(theta, seeds)
    for given in (theta.numpy(), theta.tolist(), theta.clone().requires_grad_()):
        assert torch.equal(emulator.simulate(given, [5, 6]), fields)
    assert emulator.simulate(theta[:0], seeds[:0]).shape == (0, *emulator.output.shape)
    for bad in NO_SEEDS.values():
        with pytest.raises(ShapeError, match=r"^seeds: expected int64 of shape"):
            emulator.simulate(theta, bad)


def test_the_sessions_default_dtype_changes_nothing(case, tmp_path):
    emulator = case.emulator
    theta, seeds = emulator.parameters.design(1, 0), torch.tensor([5])
    fields, path = emulator.simulate(theta, seeds), emulator.save(tmp_path / "fitted")
    torch.set_default_dtype(torch.float64)
    try:
        again = type(emulator).load(path)
        assert again.version == emulator.version
        assert torch.equal(again.simulate(theta, seeds), fields)
        empty = again.simulate(theta[:0], seeds[:0])
    finally:
        torch.set_default_dtype(torch.float32)
    assert fields.dtype == empty.dtype == emulator.output.torch_dtype


def test_latents_are_float32_or_refused(case):
    theta = case.emulator.parameters.design(2, 0)
    latent = case.emulator.latent(theta, torch.tensor([5, 6]))
    fields = case.emulator.decode(theta, latent)
    for given in (latent.double(), latent.numpy()):
        assert torch.equal(case.emulator.decode(theta, given), fields)
    for bad in (latent[:1], latent.long(), latent[..., :-1]):
        with pytest.raises(ShapeError, match="latent"):
            case.emulator.decode(theta, bad)


def test_what_a_fit_cannot_use_is_refused_before_it_begins(case, tmp_path):
    (tmp_path / "file").write_text("mine")
    fit, folder = case.emulator.fit, tmp_path / "run"
    with pytest.raises(StoreError, match=r"SimulationStore\.open"):
        fit(case.store.path, case.options, run_dir=folder)
    with pytest.raises(ConfigError, match="run_dir"):
        fit(case.store, case.options, run_dir=None)
    with pytest.raises(TrainingError, match="got a file"):
        fit(case.store, case.options, run_dir=tmp_path / "file")
    with pytest.raises(ConfigError, match="a table of options"):
        fit(case.store, "fast", run_dir=folder)
    assert (tmp_path / "file").read_text() == "mine"
    assert not folder.exists()


def test_a_device_that_is_not_there(case, tmp_path):
    path = case.emulator.save(tmp_path / "fitted")
    for device in ("cuda:99", "abacus", 3):
        with pytest.raises(ConfigError, match="device"):
            type(case.emulator).load(path, device=device)


def test_an_emulator_without_parameters_conforms(tmp_path):
    emulator = NBodyEmulator(NBodySimulator(**tiny.TINY, parameters=()), (0.0, 1.0))
    emulator._build([4, 6], 6.0, "float32", 0)
    check_emulator(emulator, folder=tmp_path)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nbody")
    case = nbody(folder / "store")
    case.emulator.fit(case.store, case.options, run_dir=folder / "fit")
    return case.emulator


def _broken(fitted, **methods):
    """The fitted emulator with some methods replaced."""
    kind = type("Broken", (NBodyEmulator,), methods)
    other = kind(fitted.simulator, fitted.redshifts)
    other.network, other._architecture = fitted.network, fitted._architecture
    return other


@pytest.mark.parametrize(
    ("promise", "methods"),
    [
        ("other seeds", {"latent": lambda self, t, s: torch.ones(len(t), 8, 8, 8)}),
        ("whatever the batch", {"decode": lambda self, t, z: (
            NBodyEmulator.decode(self, t, z) + len(t) / 10)}),
        ("effect of sigma_8", {"decode": lambda self, t, z: NBodyEmulator.decode(
            self, torch.stack([t[:, 0], torch.full_like(t[:, 1], 0.8)], 1), z)}),
        ("RNG", {"decode": lambda self, t, z: (
            NBodyEmulator.decode(self, t, z) + 0 * torch.rand(()))}),
        ("finite", {"decode": lambda self, t, z: z * float("nan")}),
        ("column too many", {"simulate": lambda self, t, s: NBodyEmulator.simulate(
            self, t[:, :2], s)}),
        ("gradient", {"decode": lambda self, t, z: (
            NBodyEmulator.decode(self, t, z.detach()) + 0 * z)}),
    ],
)  # fmt: skip
def test_the_suite_catches(fitted, tmp_path, promise, methods):
    with pytest.raises(AssertionError, match=promise), torch.random.fork_rng(devices=[]):
        check_emulator(_broken(fitted, **methods), folder=tmp_path)


def test_the_suite_catches_a_fit_that_forgets(tmp_path):
    class Forgetful(NBodyEmulator):
        def fit(self, store, config=None, *, run_dir, resume=True):
            seed = 6 if resume else 5
            return super().fit(store, config | {"seed": seed}, run_dir=run_dir / f"{seed}")

    emulator = Forgetful(NBodySimulator(**tiny.TINY), (0.0, 1.0))
    emulator._build([4, 6], 6.0, "float32", 0)
    store = tiny.particles(tmp_path / "store", 6)
    with pytest.raises(AssertionError, match="resumed fit"):
        check_resume(emulator, store, tiny.OPTIONS, tmp_path)
