"""The 21cm reference: every parameter moves the data, nothing is written, errors help."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import sbitools
from emulators.reionization.reference import fast21cm
from emulators.reionization.reference.fast21cm import Limits
from emulators.reionization.simulator import (
    FIDUCIAL,
    PRIORS,
    ReionizationSimulator,
    planes,
)
from sbitools.errors import ConfigError, ParameterError, ShapeError
from sbitools.priors import Uniform

CUBE = {"quantity": "cube", "n": 16, "box_size": 48.0}
CONE = {"quantity": "lightcone", "n": 16, "box_size": 48.0, "n_los": 40}


@pytest.fixture(scope="module")
def installed():
    return pytest.importorskip("py21cmfast", reason="21cmFAST is not installed (an extra)")


def one(values, seed=3, **settings):
    simulator = ReionizationSimulator(parameters=tuple(values), **settings)
    theta = torch.tensor([list(values.values())], dtype=torch.float64)
    return simulator.simulate(theta, torch.tensor([seed]))[0]


# Steps from the fiducial value, and the smallest change of the mean signal in mK that is asked
# for: some 10 % of what these steps do. Rounding alone would be 1e-5 mK.
STEPS = {
    "m_wdm": (3.5, 1.0, 1.0), "Omega_m": (0.3158, 0.36, 1.0), "log10_Tvir": (4.7, 5.1, 0.5),
    "zeta": (30.0, 60.0, 0.3), "redshift": (9.0, 8.0, 0.3), "E0": (300.0, 1200.0, 0.3),
    "log10_LX": (40.0, 39.0, 1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_every_parameter_moves_the_data(installed, name):
    first, second, least = STEPS[name]
    heated = name in ("E0", "log10_LX")
    settings = CUBE | {"spin_temperature": heated, "fixed": {"redshift": 12.0} if heated else {}}
    change = one({name: second}, **settings) - one({name: first}, **settings)
    assert abs(float(change.mean())) > least
    assert float(change.std()) > 0


def test_six_parameters_move_a_light_cone_with_spin_temperature(installed):
    names = [n for n in PRIORS if n != "redshift"]
    settings = CONE | {"spin_temperature": True, "fixed": {"redshift": 14.0}}
    start = {n: STEPS[n][0] for n in names}
    base = one(start, **settings)
    for name in ("m_wdm", "log10_LX"):
        moved = one(start | {name: STEPS[name][1]}, **settings)
        assert float((moved - base).abs().mean()) > 0.5, name
    assert base.shape == (16, 16, 40)
    assert float(base.min()) < -5  # in absorption before the gas is heated


def test_a_heavy_particle_is_cold(installed):
    # 1 MeV: the cut-off is far below every halo, so only the route of the table is tested.
    cold = one({"zeta": 30.0}, **CUBE)
    heavy = one({"zeta": 30.0}, **CUBE, fixed={"m_wdm": 1000.0})
    assert float((cold - heavy).abs().mean()) < 0.02 * float(cold.std())


def test_a_seed_is_a_universe_whatever_the_batch(installed):
    simulator = ReionizationSimulator(**CUBE)
    theta, seeds = torch.tensor([[20.0, 4.7], [30.0, 4.9]]).double(), torch.tensor([5, 6])
    both = simulator.simulate(theta, seeds)
    assert torch.equal(both[1:], simulator.simulate(theta[1:], seeds[1:]))
    assert not torch.equal(both[:1], simulator.simulate(theta[:1], seeds[1:]))
    plane = simulator.like("slice").simulate(theta[:1], seeds[:1])
    assert torch.equal(plane[0], both[0, 0])
    many = simulator.like("slices").simulate(theta[:1], seeds[:1])[0]
    assert torch.equal(many, torch.from_numpy(planes(both[0].numpy())))


def test_nothing_is_written_to_home_or_the_working_directory(installed, tmp_path):
    code = (
        "import torch; from emulators.reionization.simulator import ReionizationSimulator as S;"
        "s = S('slice', 16, 48.0); s.simulate(s.parameters.design(1, 0), torch.tensor([1]))"
    )
    home, work, other = (tmp_path / name for name in ("home", "work", "other"))
    for folder in (home, work, other):
        folder.mkdir()
    env = os.environ | {"HOME": str(home), "MPLCONFIGDIR": str(other), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=work, env=env, check=True)
    assert not list(home.rglob("*"))
    assert not list(work.rglob("*"))


def test_what_contradicts_observation_is_rejected_and_counted(installed, tmp_path):
    settings = CONE | {"n_los": 8, "fixed": {"redshift": 6.0}, "parameters": ("zeta",)}
    limits = Limits(tau=0.089, redshift=5.0, x_hi=0.1)
    simulator = ReionizationSimulator(
        **settings, priors={"zeta": Uniform(1.0, 30.0)}, limits=limits
    )
    store = sbitools.simulate(
        simulator, 4, tmp_path / "cones", seed=1, workers=1, task_size=2, progress=False
    )
    counts = store.counts()
    assert counts["rejected"] > 0
    assert counts["done"] > 0
    assert counts["failed"] == 0
    kept = store.theta[store.done][:, 0]
    assert float(kept.min()) > 3  # a low efficiency ends reionization late


def test_the_cone_begins_where_it_says(installed):
    simulator = ReionizationSimulator(
        **CONE, parameters=("Omega_m",), fixed={"redshift": 8.0, "zeta": 10.0}
    )
    theta = torch.tensor([[0.25]], dtype=torch.float64)
    cone = simulator.simulate(theta, torch.tensor([4]))[0]
    cubes = [
        one({"Omega_m": 0.25}, 4, **CUBE, fixed={"redshift": z, "zeta": 10.0})
        for z in (8.0, float(simulator.redshifts(theta)[0, -1]))
    ]
    # 16^2 cells of one plane scatter around the cube's mean; ends differ by twice that.
    for end, cube in zip((cone[..., :8], cone[..., -8:]), cubes, strict=True):
        assert abs(float(end.mean() - cube.mean())) < 0.1 * float(cube.mean())


def test_redshifts_agree_with_astropy():
    from astropy.cosmology import FlatLambdaCDM

    simulator = ReionizationSimulator(
        "lightcone", 32, 128.0, ("zeta",), n_los=200, fixed={"redshift": 6.0, "Omega_m": 0.3}
    )
    found = simulator.redshifts(torch.tensor([[30.0]], dtype=torch.float64))[0].numpy()
    distance = FlatLambdaCDM(67.66, 0.3).comoving_distance(found).value
    assert np.allclose(np.diff(distance), 4.0, rtol=2e-3)  # linear between grid points
    assert found[0] == pytest.approx(6.0)


def test_21cmfast_missing_or_of_another_version(monkeypatch):
    simulator = ReionizationSimulator(**CUBE)
    theta, seeds = simulator.parameters.design(1, 0), torch.tensor([5])
    monkeypatch.setitem(sys.modules, "py21cmfast", None)
    with pytest.raises(ConfigError, match=r"apt-get install .*reionization"):
        simulator.simulate(theta, seeds)
    for version, ok in (("4.1.1", True), ("4.1.2", True), ("4.2.0", False), ("3.4.0", False)):
        fake = type(sys)("py21cmfast")
        fake.__version__ = version
        monkeypatch.setitem(sys.modules, "py21cmfast", fake)
        if ok:
            assert fast21cm.backend() is fake
            continue
        with pytest.raises(ConfigError, match=r"below 4\.2"):
            fast21cm.backend()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"quantity": "sphere"}, "quantity"), ({"n": 12}, "n: expected"),
        ({"box_size": 0.0}, "box_size"), ({"parameters": ("zeta", "zeta")}, "distinct"),
        ({"parameters": ("log10_LX",)}, "spin_temperature"), ({"n_los": 16}, "n_los"),
        ({"quantity": "lightcone"}, "n_los"), ({"limits": Limits()}, "limits"),
        ({"quantity": "lightcone", "n_los": 16, "parameters": ("redshift",)}, "light cone"),
        ({"priors": {"sigma": Uniform(0, 1)}}, "priors"), ({"fixed": {"sigma": 1.0}}, "fixed"),
        ({"refinement": 0}, "refinement"),
    ],
)  # fmt: skip
def test_wrong_settings(changes, match):
    with pytest.raises(ConfigError, match=match):
        ReionizationSimulator(**changes)


def test_wrong_theta_and_seeds():
    simulator = ReionizationSimulator(**CUBE)
    theta = simulator.parameters.design(2, 0)
    with pytest.raises(ParameterError, match="log10_Tvir"):
        simulator.simulate(theta + torch.tensor([0.0, 9.0]), torch.tensor([1, 2]))
    with pytest.raises(ShapeError, match="one per row"):
        simulator.simulate(theta, torch.tensor([1]))


def test_configuration_round_trip_and_identity():
    simulator = ReionizationSimulator(
        **CONE, parameters=("zeta", "m_wdm"), spin_temperature=True, limits=Limits(),
        priors={"zeta": Uniform(20.0, 60.0)},
    )  # fmt: skip
    again = ReionizationSimulator.from_config(simulator.config())
    assert again.version == simulator.version
    assert again.parameters == simulator.parameters
    assert again.output == simulator.output
    assert FIDUCIAL["m_wdm"] == float("inf")
    others = [
        ReionizationSimulator(**CONE),
        ReionizationSimulator(**CONE | {"n_los": 48}),
        ReionizationSimulator(**CONE, fixed={"zeta": 31.0}, parameters=("log10_Tvir",)),
    ]
    assert len({s.version for s in (simulator, *others)}) == 4
