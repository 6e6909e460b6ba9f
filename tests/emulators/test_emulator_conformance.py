"""Every emulator passes the suite, and the suite catches those that break a promise."""

from __future__ import annotations

import pytest
import torch

from emulators.nbody.emulator import NBodyEmulator
from emulators.nbody.simulator import NBodySimulator
from emulators.testing import check_emulator, check_resume

from .nbody.tiny import OPTIONS, TINY, particles


def make():
    return NBodyEmulator(NBodySimulator(**TINY), (0.0, 1.0))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return particles(tmp_path_factory.mktemp("nbody") / "store", 6)


@pytest.fixture(scope="module")
def fitted(store, tmp_path_factory):
    emulator = make()
    emulator.fit(store, OPTIONS, run_dir=tmp_path_factory.mktemp("fit"))
    return emulator


def test_nbody(fitted, tmp_path):
    check_emulator(fitted, tmp_path)


def test_nbody_fit_resumes(store, tmp_path):
    check_resume(make, store, OPTIONS, tmp_path, reads=11)


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
        check_emulator(_broken(fitted, **methods), tmp_path)


def test_the_suite_catches_a_fit_that_forgets(store, tmp_path):
    class Forgetful(NBodyEmulator):
        def fit(self, store, config=None, *, run_dir, resume=False):
            seed = 6 if resume else 5
            return super().fit(store, config | {"seed": seed}, run_dir=run_dir)

    def make_forgetful():
        return Forgetful(NBodySimulator(**TINY), (0.0, 1.0))

    with pytest.raises(AssertionError, match="resumed fit"):
        check_resume(
            lambda: Forgetful(NBodySimulator(**TINY), (0.0, 1.0)),
            store,
            OPTIONS,
            tmp_path,
            reads=11,
        )
