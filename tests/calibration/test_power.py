"""Stated power is the power; sets of tests that are too small, seen or foreign are refused."""

import numpy as np
import pytest
import torch

from sbitools import SimulationStore, seeds
from sbitools.calibration import (
    CalibrationDraws,
    calibrate,
    calibrate_draws,
    coverage,
    needed_tests,
    power,
    sbc,
)
from sbitools.calibration.calibrate import CHECKS
from sbitools.calibration.power import Alternative
from sbitools.calibration.statistics.joint import DEFAULT, equal_level
from sbitools.errors import ConfigError, ShapeError, StoreError
from tests.oracles.gaussian import GaussianPosterior, LinearGaussian, calibration_draws

MODEL = LinearGaussian()
LEVELS = {"sbc": 0.01, "coverage": 0.01, "tarp": 0.01, "contraction": 0.01}


def make_store(path, n, seed, **options):
    theta = MODEL.parameters.design(n, seed)
    numbers = torch.from_numpy(seeds.simulation_seeds(seed, range(n)))
    x = MODEL.simulate(theta, numbers)
    options = {"seeds": numbers} | options
    return SimulationStore.from_arrays(path, theta, x, MODEL.parameters, MODEL.output, **options)


def test_stated_power_is_that_of_the_checks():
    stated = power(100, 200, {"sbc": 0.0035, "coverage": 0.0035})
    found = np.zeros(2)
    for i in range(60):
        d = calibration_draws(100, 200, seed=i, width=0.8)
        found += [check(d).p_value < 0.0035 for check in (sbc, coverage)]
    for name, share in zip(("sbc", "coverage"), found / 60, strict=True):
        # Two shares of 60: error 0.09 at most.
        assert stated[name]["1.25 times too narrow"] == pytest.approx(share, abs=0.2)
    # Ranks at the ends weigh more: too narrow is seen (23 %) before too wide (7 %).
    sbc_power = stated["sbc"]
    assert sbc_power["1.25 times too narrow"] > 2 * sbc_power["1.25 times too wide"]


def test_power_grows_with_tests_and_is_one_where_it_must_be():
    few, many = power(60, 100, LEVELS), power(1000, 100, LEVELS)
    for name in ("sbc", "coverage", "tarp", "any"):
        assert few[name]["1.25 times too narrow"] < many[name]["1.25 times too narrow"]
    assert set(many) == {*LEVELS, "any"}
    assert min(many["any"].values()) >= 0.95
    assert few["any"]["shifted by 0.2 sigma"] < 0.5


def test_needed_tests_are_enough():
    n = needed_tests(power=0.9, n_draws=100)
    assert 300 < n < 900
    level = equal_level(0.01)
    assert min(power(n, 100, dict.fromkeys(LEVELS, level))["any"].values()) > 0.75
    # Every check that shares the level is counted: fewer of them need fewer tests.
    assert equal_level(0.01) == pytest.approx(0.01 / len(DEFAULT), rel=0.01)
    assert tuple(n for n in CHECKS if n not in ("recovery", "information")) == DEFAULT
    gross = needed_tests((Alternative(0.5, 0.0),), n_draws=100)
    assert gross < n / 5
    with pytest.raises(ConfigError, match="false_alarm < power"):
        needed_tests(power=0.001)
    with pytest.raises(ConfigError, match="shift"):
        needed_tests((Alternative(1.0, 0.0),), n_draws=20)


def test_power_is_stated_beside_every_check_and_in_words():
    few = calibrate_draws(calibration_draws(40, 50, seed=1))
    assert few.check("sbc").details["power"]["1.25 times too narrow"] < 0.5
    assert "so few tests catch a posterior" in few.verdict
    assert "power, shifted by 0.2 sigma" in few.checks.columns
    many = calibrate_draws(calibration_draws(1500, 50, seed=1))
    assert "so few tests" not in many.verdict


def test_too_few_tests_are_refused_with_the_number_needed(tmp_path):
    store = make_store(tmp_path / "few", 30, 3)
    posterior = GaussianPosterior(MODEL)
    with pytest.raises(
        StoreError, match=r"some \d{3,} independent tests.*95 % probability; got 30"
    ):
        calibrate(posterior, store, required_power=0.95, n_draws=100, progress=False)


def test_simulations_seen_in_training_are_refused_by_their_seeds(tmp_path):
    store = make_store(tmp_path / "a", 20, 3)
    posterior = GaussianPosterior(MODEL)
    posterior.training_seeds = torch.sort(store.seeds[5:8]).values
    with pytest.raises(StoreError, match="3 of 20 that have the seeds"):
        calibrate(posterior, store, n_draws=5, progress=False)
    other = make_store(tmp_path / "b", 20, 4)
    calibrate(posterior, other, n_draws=5, checks=["sbc"], progress=False)
    # Seeds that an import made up from the index say nothing.
    imported = make_store(tmp_path / "c", 20, 4, seeds=None)
    posterior.training_seeds = imported.seeds
    calibrate(posterior, imported, n_draws=5, checks=["sbc"], progress=False)


class Narrow(GaussianPosterior):
    """A posterior whose prior does not reach as far as the tests."""

    def __init__(self):
        super().__init__(MODEL)
        space = MODEL.parameters
        self.parameters = type("Space", (), {
            "names": space.names, "labels": space.labels, "to_dict": space.to_dict,
            "__len__": lambda s: len(space),
            "log_prob": lambda s, t: torch.where(
                (t.abs() < 1).all(-1), torch.tensor(0.0), torch.tensor(-torch.inf)),
        })()  # fmt: skip


def test_theta_outside_the_prior_are_refused(tmp_path):
    store = make_store(tmp_path / "a", 20, 3)
    with pytest.raises(StoreError, match="inside the prior"):
        calibrate(Narrow(), store, n_draws=5, progress=False)


def test_columns_that_never_vary_are_refused():
    d = calibration_draws(20, 10)
    same = d.theta.copy()
    same[:, 1] = 3.0
    with pytest.raises(ShapeError, match=r"theta of b: .*3 in each of 20 tests"):
        CalibrationDraws(same, d.draws, names=("a", "b"))
    collapsed = d.draws.copy()
    collapsed[..., 0] = 2.0
    with pytest.raises(ShapeError, match=r"draws of theta_0.*2 in every draw"):
        CalibrationDraws(d.theta, collapsed)


class WithLatents(GaussianPosterior):
    """The exact posterior with the latents and features that a flow has."""

    def latent(self, theta, x, seed=0):
        root = np.linalg.cholesky(self.model.covariance)
        off = np.asarray(theta) - self.model.mean(np.asarray(x))
        return torch.from_numpy(np.linalg.solve(root, off.T).T)

    def features(self, x):
        return x[:, :3] * torch.where(x[:, :1] > 1e6, torch.nan, 1.0)


def test_latents_features_and_quantities_are_collected(tmp_path):
    store = make_store(tmp_path / "a", 120, 3)
    quantities = {
        "sum": lambda theta: theta.sum(-1),
        "fit": lambda t, x: t[..., 0] - x[:, None, 0],
    }
    d = CalibrationDraws.from_posterior(WithLatents(MODEL), store, 20, quantities=quantities)
    assert d.latent.shape == (120, 2)
    assert d.summary.shape == (120, 3)
    x = np.asarray(store.read(np.arange(120)))
    assert d.quantities["fit"][1] == pytest.approx(d.draws[..., 0] - x[:, None, 0])
    assert d.quantities["fit"][0] == pytest.approx(d.theta[:, 0] - x[:, 0])
    result = calibrate_draws(d, with_power=False)
    assert result.passed
    assert result.check("sbc").details["names"] == ["theta_0", "theta_1", "sum", "fit"]
    assert result.check("information").effect > 0.5


def test_an_observation_without_finite_features_is_excluded_before_it_is_drawn_for(tmp_path):
    store = make_store(tmp_path / "a", 40, 3)

    class Broken(WithLatents):
        calls = 0

        def features(self, x):
            hit = torch.isin(x[:, 0], store.read(np.array([7]))[:, 0])
            return torch.where(hit[:, None], torch.nan, x)

        def sample(self, x, n, seed=None, time_limit=None):
            self.calls += n * len(x)
            return super().sample(x, n, seed)

    posterior = Broken(MODEL)
    d = CalibrationDraws.from_posterior(posterior, store, 50, batch_size=16)
    assert [e.index for e in d.excluded] == [7]
    assert d.n_tests == 39
    assert posterior.calls < 1.1 * 39 * 50  # its neighbours were drawn once
