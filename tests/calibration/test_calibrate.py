"""calibrate() from stores to verdict: right answers in words, exact files, nothing stalls."""

import dataclasses
import json
import time

import numpy as np
import pytest
import torch

from sbitools import SimulationStore, seeds
from sbitools.calibration import CalibrationDraws, CalibrationResult, calibrate, calibrate_draws
from sbitools.errors import ConfigError, PosteriorError, StoreError, TimeLimitError
from tests.oracles.gaussian import GaussianPosterior, LinearGaussian, calibration_draws

MODEL = LinearGaussian()


def make_store(path, n, seed, model=MODEL, bias=0.0, **options):
    theta = model.parameters.design(n, seed)
    simulation_seeds = torch.from_numpy(seeds.simulation_seeds(seed, range(n)))
    x = model.simulate(theta, simulation_seeds) + bias
    return SimulationStore.from_arrays(
        path, theta, x, model.parameters, model.output, seeds=simulation_seeds, **options
    )


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return {
        "test": make_store(folder / "test", 300, 11),
        "reference": make_store(folder / "reference", 200, 12),
        # A reference simulator whose field has an offset that the emulator lacks.
        "biased": make_store(folder / "biased", 200, 12, bias=0.7),
    }


def test_exact_posterior_is_self_consistent_and_transfers(stores):
    result = calibrate(
        GaussianPosterior(MODEL), stores["test"], reference=stores["reference"], n_draws=100,
        progress=False,
    )  # fmt: skip
    assert result.passed
    assert "Self-consistent: on 300 emulated tests all 5 checks pass" in result.verdict
    assert "Transfers: on 200 reference tests" in result.verdict
    assert [c.name for c in result.emulated] == [c.name for c in result.reference]
    assert result.counts["emulated"]["simulations done"] == 300
    assert set(result.info["stores"]) == {"emulated", "reference"}


@pytest.mark.parametrize("n_draws", [0, -5, 2.5, True, float("nan"), "10", None])
def test_no_verdict_without_draws(stores, n_draws):
    with pytest.raises(ConfigError, match="n_draws"):
        calibrate(GaussianPosterior(MODEL), stores["test"], n_draws=n_draws, progress=False)


@pytest.mark.parametrize(
    "wrong", [{"shift": 1e4}, {"width": 1e-9}, {"width": 1e-3}, {"width": 300.0}]
)
def test_grossly_wrong_posteriors_raise_no_warnings(wrong):
    # Warnings are errors in tests: SciPy's of probabilities beyond its range, NumPy's of squares.
    result = calibrate_draws(calibration_draws(100, 20, **wrong))
    assert not result.passed
    assert result.joint["emulated"] < 1e-4
    result.to_dict()


def test_draws_near_the_largest_number_keep_the_tables_finite():
    d = calibration_draws(100, 20)
    wild = np.array(d.draws)
    wild[:, 0] = 1e300
    result = calibrate_draws(dataclasses.replace(d, draws=wild))
    assert "worse than the prior" in result.verdict
    result.to_dict()


def test_offset_of_the_reference_is_found_and_named(stores):
    result = calibrate(
        GaussianPosterior(MODEL), stores["test"], reference=stores["biased"], n_draws=100,
        progress=True,
    )  # fmt: skip
    assert not result.passed
    assert result.verdict.startswith("Self-consistent")
    assert "Does not transfer" in result.verdict
    assert "sigma in theta_0" in result.verdict
    table = result.checks
    assert set(table["set"]) == {"emulated", "reference", "transfer"}
    assert not table[(table["set"] == "reference") & (table["name"] == "sbc")]["passed"].item()


def test_too_narrow_intervals_are_put_in_words():
    result = calibrate_draws(calibration_draws(1000, 200, width=0.8, seed=2))
    assert "Not self-consistent" in result.verdict
    assert "too narrow" in result.verdict
    assert "Transfer to a reference simulator was not tested" in result.verdict
    wide = calibrate_draws(calibration_draws(1000, 200, width=1.25, seed=2))
    assert "too wide" in wide.verdict


def test_json_round_trip_is_exact(tmp_path):
    sets = calibration_draws(60, 30, seed=1), calibration_draws(50, 20, seed=2)
    result = calibrate_draws(*sets, info={"seed": 3})
    path = result.to_json(tmp_path / "result.json")
    again = CalibrationResult.from_json(path)
    assert again == result
    assert again.verdict == result.verdict
    assert again.check("sbc").details["ecdf"].dtype == np.float64
    text = path.read_text()
    assert "NaN" not in text
    assert "Infinity" not in text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1}', '{"schema": 99}'])
def test_foreign_json_is_refused(tmp_path, text):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="calibration result"):
        CalibrationResult.from_json(path)


def test_foreign_dtype_in_json_is_refused(tmp_path):
    path = calibrate_draws(calibration_draws(20, 10)).to_json(tmp_path / "r.json")
    values = json.loads(path.read_text().replace('"float64"', '"object"'))
    with pytest.raises(ConfigError, match="dtype"):
        CalibrationResult.from_dict(values)


class Hopeless(GaussianPosterior):
    """Sampling never ends, raises, or gives NaN for chosen observations (the first is x[0])."""

    def __init__(self, model, bad, how):
        super().__init__(model)
        self.bad, self.how, self.calls = bad, how, 0

    def sample(self, x, n, seed=None, time_limit=None):
        self.calls += 1
        hit = torch.isin(x[:, 0], self.bad)
        if self.how == "hangs" and hit.any():
            time.sleep(time_limit)
            raise TimeLimitError("sampling", expected="an end", got="none", fix="more time")
        if self.how == "raises" and hit.any():
            raise PosteriorError("sampling", expected="finite draws", got="none", fix="look at x")
        draws = super().sample(x, n, seed)
        return torch.where(hit[:, None, None], torch.nan, draws) if self.how == "nan" else draws


@pytest.mark.parametrize("how", ["hangs", "raises", "nan"])
def test_hopeless_observations_neither_stall_nor_vanish(stores, how):
    store = stores["test"]
    bad = store.read(np.array([5, 70]))[:, 0]
    posterior, start = Hopeless(MODEL, bad, how), time.monotonic()
    draws = CalibrationDraws.from_posterior(
        posterior, store, 20, batch_size=32, time_limit=0.002, seed=1
    )
    assert time.monotonic() - start < 20
    assert draws.n_tests == 298
    assert sorted(e.index for e in draws.excluded) == [5, 70]
    assert all(e.reason for e in draws.excluded)
    bare = CalibrationDraws.from_posterior(
        posterior, store, 20, time_limit=0.002, log_prob=False, indices=[4, 5]
    )
    assert [e.index for e in bare.excluded] == [5]
    assert bare.log_prob_true is None
    result = calibrate_draws(draws)
    assert result.counts["emulated"]["excluded"] == 2
    assert "2 of 300 tests excluded" in result.verdict
    assert "2 tests were excluded" in result.check("sbc").note


def test_too_many_exclusions_are_no_pass(stores):
    bad = stores["test"].read(np.arange(40))[:, 0]
    draws = CalibrationDraws.from_posterior(Hopeless(MODEL, bad, "nan"), stores["test"], 20)
    assert calibrate_draws(draws).passed is False


def test_posterior_that_always_fails_is_an_error(stores):
    bad = stores["test"].read(np.arange(300))[:, 0]
    with pytest.raises(PosteriorError, match="300 failures"):
        CalibrationDraws.from_posterior(Hopeless(MODEL, bad, "raises"), stores["test"], 5)


def test_draws_are_seeded_and_streamed(stores):
    posterior = GaussianPosterior(MODEL)
    a, b, c = (
        CalibrationDraws.from_posterior(posterior, stores["test"], 10, seed=s, indices=[4, 2, 9])
        for s in (1, 1, 2)
    )
    assert np.array_equal(a.draws, b.draws)
    assert not np.array_equal(a.draws, c.draws)
    assert np.array_equal(a.theta, stores["test"].theta[[4, 2, 9]])


def test_groups_of_the_store_reach_the_checks(tmp_path):
    store = make_store(tmp_path / "grouped", 40, 3, group_size=4)
    draws = CalibrationDraws.from_posterior(GaussianPosterior(MODEL), store, 10)
    assert len(draws.members) == 10


def test_stores_that_do_not_fit_are_refused(stores, tmp_path):
    other = make_store(tmp_path / "other", 5, 3, LinearGaussian(n_data=4))
    with pytest.raises(StoreError, match="output of store"):
        calibrate(GaussianPosterior(MODEL), other, progress=False)
    other = make_store(tmp_path / "more", 5, 3, LinearGaussian(n_parameters=3))
    with pytest.raises(StoreError, match="parameters of store"):
        calibrate(GaussianPosterior(MODEL), other, progress=False)
    trained = GaussianPosterior(MODEL)
    trained.info = {"store": stores["test"].digest()}
    with pytest.raises(StoreError, match="training store"):
        calibrate(trained, stores["test"], progress=False)


def test_bad_options_are_refused(stores):
    posterior = GaussianPosterior(MODEL)
    with pytest.raises(ConfigError, match="unknown names"):
        calibrate(posterior, stores["test"], checks=["sbc", "magic"])
    with pytest.raises(ConfigError, match="false_alarm"):
        calibrate(posterior, stores["test"], false_alarm=0.0)
    result = calibrate(posterior, stores["test"], checks=["sbc"], n_draws=5, progress=False)
    with pytest.raises(ConfigError, match="check 'tarp'"):
        result.check("tarp")


def test_checks_can_be_chosen_and_share_the_false_alarm_rate():
    d = calibration_draws(50, 20)
    result = calibrate_draws(d, checks=["sbc", "tarp"], false_alarm=0.02)
    levels = [c.false_alarm for c in result.emulated]
    # Each check has more than Bonferroni's half and less than all of the joint rate; 50 tests and
    # 20 draws leave p-values that are steps of some 10 %, and 1000 repeats an error of 20 %.
    assert levels[0] == levels[1]
    assert 0.007 < levels[0] < 0.02
    bare = dataclasses.replace(d, log_prob_true=None, log_prob_draws=None)
    assert "coverage" not in [c.name for c in calibrate_draws(bare).emulated]


def test_a_single_test_and_draw_are_legal():
    result = calibrate_draws(calibration_draws(1, 1), calibration_draws(2, 1))
    assert result.to_dict()["passed"] in (True, False)
