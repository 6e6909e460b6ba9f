"""Every emulator passes the suite, and the suite catches those that break a promise."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch

from emulators.emulator import Emulator
from emulators.nbody.emulator import NBodyEmulator
from emulators.nbody.simulator import NBodySimulator
from emulators.reionization.emulator import ReionizationEmulator
from emulators.scattering.emulator import ScatteringEmulator
from emulators.scattering.simulator import TodSimulator
from emulators.testing import check_emulator, check_resume
from sbitools.campaign import simulate
from sbitools.store import SimulationStore
from tests.emulators.nbody import tiny
from tests.emulators.reionization import tiny as toy_21cm


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


# A new emulator adds a row: name and a function of a path that returns a `Case`.
EMULATORS = {
    "nbody": nbody, "scattering": scattering, "generated": generated,
    "planes_21cm": planes_21cm, "cubes_21cm": cubes_21cm, "cones_21cm": cones_21cm,
}  # fmt: skip


@pytest.fixture(scope="module", params=EMULATORS)
def case(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    case = EMULATORS[request.param](folder / "store")
    case.emulator.fit(case.store, case.options, run_dir=folder / "fit")
    return case


def test_conforms(case, tmp_path):
    check_emulator(case.emulator, case.store, case.options, folder=tmp_path)


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
        def fit(self, store, config=None, *, run_dir, resume=False):
            seed = 6 if resume else 5
            return super().fit(store, config | {"seed": seed}, run_dir=run_dir)

    emulator = Forgetful(NBodySimulator(**tiny.TINY), (0.0, 1.0))
    emulator._build([4, 6], 6.0, "float32", 0)
    store = tiny.particles(tmp_path / "store", 6)
    with pytest.raises(AssertionError, match="resumed fit"):
        check_resume(emulator, store, tiny.OPTIONS, tmp_path)
