"""Attribution finds the biased bin, the source of a bias, what explains it; and nothing else."""

import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from sbitools import SimulationStore
from sbitools.calibration.check import Check
from sbitools.calibration.checks.attribution import (
    attribute,
    bias_source,
    explained_bias,
    feature_shift,
    statistic_bias,
)
from sbitools.calibration.drawing.observed_tests import ObservedTests, look
from sbitools.calibration.plots import attribution as plots
from sbitools.calibration.statistics.regression import source_difference
from sbitools.errors import ShapeError
from tests.oracles.gaussian import GaussianPosterior, LinearGaussian

BINS, SCATTER = 6, 0.1
RESPONSE = np.array([0.0, 0.0, 0.0, 3.0, 0.0, 0.0])  # posterior sigmas per unit of log P


def make_tests(n, seed, offset=0.0, feature=0.0, estimator=0.0, theta_shift=0.0):
    """A set whose log spectrum is a quadratic function of theta plus scatter, off in bin 3."""
    rng = np.random.default_rng(seed)
    theta = rng.uniform(-1, 1, (n, 2)) + theta_shift
    k = np.arange(BINS)
    noise = SCATTER * rng.normal(size=(n, BINS))
    law = theta[:, :1] * k / 3 + theta[:, 1:] + 0.3 * theta[:, :1] ** 2
    log_power = law + noise + offset * (k == 3)
    features = np.stack([theta.sum(1) + 0.2 * rng.normal(size=n) + feature, theta[:, 0] ** 2], 1)
    features = np.concatenate([features, rng.normal(size=(n, 3))], 1)
    # The posterior takes an excess in bin 3 for an excess of theta_0.
    errors = rng.normal(size=(n, 2)) * 0.9 + estimator
    errors[:, 0] += noise @ RESPONSE
    return ObservedTests(
        theta, errors, features, {"power": np.exp(log_power)}, np.arange(n), ("a", "b")
    )


def test_the_biased_bin_is_found():
    # 0.05 is half of the scatter: z = 0.5 / sqrt(1/600 + 1/400) = 7.7.
    check = statistic_bias(make_tests(600, 1, offset=0.05), make_tests(400, 2), "power")
    assert check.passed is False
    assert int(np.argmax([abs(r["z"]) for r in check.details["parameters"]])) == 3
    assert check.effect == pytest.approx(0.5, abs=0.2)
    low, high = check.band
    assert low < 0.5 < high
    assert all(abs(r["z"]) < 4 for i, r in enumerate(check.details["parameters"]) if i != 3)


def test_an_exact_emulator_passes_though_theta_are_others():
    # Other theta would be a difference of hundreds of sigmas if theta were not regressed out.
    first, second = make_tests(600, 3), make_tests(400, 4, theta_shift=0.2)
    checks = attribute(first, second, false_alarm=0.01)
    assert all(c.passed is not False for c in checks)


def test_the_p_value_of_a_statistic_is_uniform():
    # 40 repeats at 20 %: 8 expected; more than 18 has probability 2e-4, 0 has 1e-4.
    hits = sum(
        statistic_bias(make_tests(60, 2 * s), make_tests(50, 2 * s + 1), "power").p_value < 0.2
        for s in range(40)
    )
    assert 1 <= hits <= 18


@pytest.mark.parametrize("heavy", [False, True])
def test_few_tests_keep_the_false_alarm_rate_of_a_statistic(heavy):
    """60 and 30 tests: 8 % at 5 % when the bootstrap took errors from the fit's own residuals."""

    def alarm(seed):
        rng = np.random.default_rng(seed)
        theta = rng.normal(size=(90, 2))
        noise = rng.standard_t(5, (90, 5)) if heavy else rng.normal(size=(90, 5))
        values = theta @ np.ones((2, 5)) + 0.3 * (theta**2).sum(1, keepdims=True) + noise
        cut, every = lambda a: (a[:60], a[60:]), np.arange(90)
        d = source_difference(cut(theta), cut(values), cut(every), rng, n_resamples=199)
        return d.p_value <= 0.05

    # 20 of 400 expected; more than 45 has probability 1e-7.
    assert 2 <= sum(alarm(s) for s in range(400)) <= 45


def test_a_shift_of_features_is_found_and_chance_is_not():
    base = make_tests(300, 5)
    # 0.15 is 0.75 of the feature's scatter at given theta: AUC 0.70.
    found = feature_shift(base, make_tests(300, 6, feature=0.15))
    assert found.passed is False
    assert found.effect == pytest.approx(0.2, abs=0.08)
    assert feature_shift(base, make_tests(300, 6)).p_value > 0.01


def test_the_source_of_a_bias_is_named():
    estimator = bias_source(make_tests(500, 7, estimator=0.3), make_tests(500, 8, estimator=0.3))
    assert estimator.passed is True
    assert {r["source"] for r in estimator.details["parameters"]} == {"estimator"}
    emulator = bias_source(make_tests(500, 9, offset=0.0), make_tests(500, 10, estimator=0.4))
    assert emulator.passed is False
    assert {r["source"] for r in emulator.details["parameters"]} == {"emulator"}
    assert emulator.effect == pytest.approx(0.4, abs=0.2)


def test_the_biased_statistic_explains_the_bias():
    # On the reference bin 3 is lower by 0.1: errors of a, 3 sigma per unit, change by -0.3.
    reference = make_tests(800, 12)
    reference.errors[:, 0] -= 0.3
    check = explained_bias(make_tests(800, 11, offset=0.1), reference, "power")
    first, second = check.details["parameters"]
    # Errors: 0.05 of a mean over 800, 0.03 of the response.
    assert first["observed"] == pytest.approx(-0.3, abs=0.2)
    assert first["effect"] == pytest.approx(-0.3, abs=0.15)
    assert np.argmax(np.abs(first["bins"])) == 3
    assert abs(second["effect"]) < 0.12


def test_results_are_json_and_have_plots():
    checks = attribute(
        make_tests(120, 13), make_tests(100, 14), {"power": np.linspace(0.1, 0.6, BINS)}
    )
    drawers = {"spectrum": plots.draw_spectrum, "explained": plots.draw_explained,
               "bias source": plots.draw_bias_source}  # fmt: skip
    for check in checks:
        assert Check.from_dict(json.loads(json.dumps(check.to_dict()))) == check
        if check.kind in drawers:
            axes = drawers[check.kind](check, Figure().subplots(), "set")
            assert axes.get_title() == check.name
    assert {c.kind for c in checks} == {*drawers, "difference"}


def test_wrong_input_is_refused():
    good = make_tests(50, 15)
    with pytest.raises(ShapeError, match="errors"):
        ObservedTests(good.theta, good.errors[:-1], good.features, {}, good.group, good.names)
    with pytest.raises(ShapeError, match="power"):
        statistic_bias(good, ObservedTests(
            good.theta, good.errors, good.features, {"power": good.statistics["power"][:, :3]},
            good.group, good.names), "power")  # fmt: skip


class SeeingPosterior(GaussianPosterior):
    """The exact posterior, with the data as its features."""

    def features(self, x):
        return x


def test_stores_are_looked_at_in_batches(tmp_path):
    model = LinearGaussian(n_data=3)
    sets = []
    for name, seed, offset in (("emulated", 1, 0.0), ("reference", 2, 0.8)):
        theta, x = model.joint(150, seed)
        store = SimulationStore.from_arrays(
            tmp_path / name, theta, x + offset, model.parameters, model.output
        )
        posterior = SeeingPosterior(model)
        sets.append(look(posterior, store, {"data": lambda x: x.numpy()}, batch_size=64))
    np.testing.assert_array_equal(sets[0].statistics["data"], sets[0].features)
    # Mean errors of an exact posterior: 0 with error 1/sqrt(150) = 0.08.
    assert np.abs(sets[0].errors.mean(0)).max() < 0.35
    checks = {c.name: c for c in attribute(*sets)}
    # 0.8 sigma of noise in every datum: z = 7.
    assert checks["bias of data"].passed is False
    assert checks["bias source"].passed is False
    row = checks["bias explained by data"].details["parameters"][0]
    assert row["effect"] == pytest.approx(row["observed"], abs=0.4)
