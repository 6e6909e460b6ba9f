"""What enters a reference simulator or the making of an emulator.

What enters fitted emulators is tested for all of them in tests/conformance.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emulators.emulator import check_latent
from emulators.nbody import NBodyEmulator, NBodySimulator
from emulators.reionization.emulator import ReionizationEmulator
from emulators.survey.emulator import ScatteringEmulator
from emulators.survey.simulator import TodSimulator
from sbitools.errors import ConfigError, SbitoolsError, ShapeError
from sbitools.seeds import check_seeds, normal
from tests.emulators.nbody import tiny

NO_SEEDS = {
    "fractions": [0.5, 1.5], "whole floats": [1.0, 2.0], "truth values": [True, False],
    "negative": [-1, 2], "too large": [2**63, 1], "too few": [1], "a column": [[1], [2]],
    "a number": 7, "text": ["1", "2"], "none": None,
}  # fmt: skip


@pytest.mark.parametrize("name", NO_SEEDS)
def test_what_are_no_seeds_is_refused_by_every_simulator(name):
    for simulator in (NBodySimulator(**tiny.TINY), TodSimulator(4, n_rings=64, samples=64)):
        theta = simulator.parameters.design(2, 0)
        with pytest.raises(SbitoolsError, match=r"^seeds: expected int64 of shape"):
            simulator.simulate(theta, NO_SEEDS[name])


@pytest.mark.parametrize(
    "given", [[3, 2**63 - 1], (np.int32(3), 4), np.array([3, 4], np.uint16), torch.tensor([3, 4])]
)
def test_whole_numbers_of_any_kind_are_seeds(given):
    seeds = check_seeds(given, 2)
    assert seeds.dtype == torch.int64
    assert seeds.tolist() == [int(s) for s in given]
    assert torch.equal(normal(given, (3,)), normal(seeds, (3,)))


def test_what_is_no_latent():
    for bad in ("noise", None, [1, 2], np.zeros(3), torch.zeros(2, dtype=torch.int64)):
        with pytest.raises(ShapeError, match="latent"):
            check_latent(bad, (2,))
    assert check_latent([0.5, 1.0], (2,)).dtype == torch.float32


def test_a_fit_does_not_depend_on_the_default_dtype(tmp_path):
    store, versions = tiny.particles(tmp_path / "store", 4), []
    for dtype in (torch.float32, torch.float64):
        emulator, run_dir = (
            NBodyEmulator(NBodySimulator(**tiny.TINY), (0.0, 1.0)),
            tmp_path / str(dtype),
        )
        torch.set_default_dtype(dtype)
        try:
            emulator.fit(store, tiny.OPTIONS | {"epochs": 1}, run_dir=run_dir)
        finally:
            torch.set_default_dtype(torch.float32)
        versions.append(emulator.version)
    assert versions[0] == versions[1]


@pytest.mark.parametrize("make", [NBodyEmulator, ReionizationEmulator, ScatteringEmulator.of])
def test_an_emulator_stands_for_a_simulator(make):
    with pytest.raises(ConfigError, match="Simulator"):
        make("nbody")


@pytest.mark.parametrize("bad", [0.0, "0", [float("nan")], [-1.0], [], [1.0]])
def test_redshifts_of_an_emulator(bad):
    with pytest.raises(ConfigError, match="NBodyEmulator"):
        NBodyEmulator(NBodySimulator(**tiny.TINY), bad)
