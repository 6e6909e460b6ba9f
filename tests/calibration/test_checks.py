"""Each check: passes the exact posterior, catches wrong ones, with the right sign.

The exact posterior is that of a linear-Gaussian problem. With fixed seeds, p >= 1e-6 for the
exact one has a false-alarm rate of 1e-6.
"""

import dataclasses

import numpy as np
import pytest
import torch

from sbitools import ParameterSpace, priors
from sbitools.calibration import CalibrationDraws, contraction, coverage, recovery, sbc, tarp
from sbitools.calibration.statistics.coordinates import prior_variance
from sbitools.calibration.verdict import repeats_prior
from sbitools.errors import ShapeError
from sbitools.parameters import Parameter
from tests.oracles.gaussian import LinearGaussian, calibration_draws

TESTED = (sbc, coverage, tarp, contraction)
# The level of one check of four at a joint false-alarm rate of 1 %.
LEVEL = 0.0025


@pytest.fixture(scope="module")
def draws():
    cases = {
        "exact": {}, "narrow": {"width": 0.8}, "wide": {"width": 1.25}, "shifted": {"shift": 0.2}
    }  # fmt: skip
    return {name: calibration_draws(seed=3, **case) for name, case in cases.items()}


@pytest.mark.parametrize("check", TESTED)
def test_exact_posterior_passes(draws, check):
    result = check(draws["exact"])
    assert result.passed
    assert result.p_value >= 1e-6
    if check is not contraction:  # its effect is not a deviation
        assert result.band[0] <= result.effect <= result.band[1]


@pytest.mark.parametrize(
    ("check", "case"),
    [(sbc, "narrow"), (sbc, "wide"), (sbc, "shifted"), (coverage, "narrow"), (coverage, "wide"),
     (tarp, "narrow"), (tarp, "wide")],
)  # fmt: skip
def test_wrong_posterior_is_caught_with_1000_tests(draws, check, case):
    assert check(draws[case], false_alarm=LEVEL).passed is False


def test_contraction_catches_posteriors_that_do_not_average_to_the_prior(draws):
    gross = calibration_draws(seed=3, width=2.0)
    assert contraction(gross).p_value < 1e-6
    assert contraction(calibration_draws(seed=3, shift=1.0)).p_value < 1e-6


def test_signs_of_effects(draws):
    assert coverage(draws["narrow"]).effect < -0.1
    assert coverage(draws["wide"]).effect > 0.1
    assert coverage(draws["narrow"]).details["mean_deviation"] < 0
    assert "over-confident" in coverage(draws["narrow"]).summary
    assert "under-confident" in coverage(draws["wide"]).summary
    assert tarp(draws["narrow"]).details["atc"] < 0 < tarp(draws["wide"]).details["atc"]
    assert sbc(draws["shifted"]).effect > 0.05  # draws too high: low ranks are too frequent


def test_z_scores_measure_bias_and_width(draws):
    # 0.12: five errors of a mean over 1000 tests, and of a standard deviation.
    for case, mean, sd in [("exact", 0, 1), ("narrow", 0, 1.25), ("wide", 0, 0.8),
                           ("shifted", 0.2, 1)]:  # fmt: skip
        for row in recovery(draws[case]).details["parameters"]:
            assert row["mean_z"] == pytest.approx(mean, abs=0.16)
            assert row["sd_z"] == pytest.approx(sd, abs=0.12)


def test_recovery_and_contraction_reach_their_theoretical_values():
    model = LinearGaussian()
    d = calibration_draws(4000, 50, seed=1)
    expected = 1 - np.diag(model.covariance)  # R^2 and contraction of a unit normal prior
    for i in range(2):
        row = recovery(d).details["parameters"][i]
        # Posterior means of 50 draws add 2 % of the posterior variance; errors 1.3 %, 5 sigma.
        assert row["r2"] == pytest.approx(expected[i] - 0.006, abs=5 * row["r2_error"])
        assert row["nrmse"] == pytest.approx(np.sqrt(1 - row["r2"]), abs=1e-9)
        row = contraction(d).details["parameters"][i]
        assert row["contraction"] == pytest.approx(expected[i], abs=5 * row["error"])
        assert row["error"] < 0.02


def test_informational_checks_have_no_p_value(draws):
    check = recovery(draws["exact"])
    assert check.p_value is None
    assert check.passed is None


def test_checks_take_plain_arrays(draws):
    d = draws["exact"]
    assert sbc(d.draws, d.theta).p_value == pytest.approx(sbc(d, seed=0).p_value)
    assert tarp(d.draws, d.theta).p_value > 1e-6
    assert recovery(d.draws, d.theta, names=["a", "b"]).details["names"] == ["a", "b"]
    assert contraction(d.draws, d.theta).p_value is None


@pytest.mark.parametrize("references", ["prior", "posterior", "given"])
def test_tarp_references(draws, references):
    # References may depend on x: here, on the posterior mean.
    d = draws["exact"]
    given = d.draws.mean(1) + 0.5 if references == "given" else references
    assert tarp(d, references=given).p_value > 1e-6
    wrong = draws["narrow"]
    given = wrong.draws.mean(1) + 0.5 if references == "given" else references
    assert tarp(wrong, references=given).p_value < LEVEL


def test_tarp_sees_a_wrong_correlation_that_marginal_ranks_miss():
    model = LinearGaussian(n_parameters=2, n_data=2)
    theta, x = model.joint(2000, 0)
    draws = model.draws(x, 200, 0)
    mean = model.mean(x)[:, None]
    flipped = mean + (draws - mean) * np.array([1.0, -1.0])
    assert sbc(flipped, theta).p_value > 1e-6  # marginals are exact
    assert abs(model.covariance[0, 1]) > 0.1
    assert tarp(flipped, theta, references=model.mean(x) + 2.0).p_value < 1e-6


@pytest.mark.parametrize("n_draws", [1, 5, 19])
def test_ranks_are_exact_with_few_draws(n_draws):
    d = calibration_draws(3000, n_draws, seed=2)
    for check in (sbc, coverage, tarp):
        assert check(d).p_value > 1e-6


def test_ties_are_broken_at_random_and_by_the_seed():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 3, size=(2000, 21, 1)).astype(float)  # exchangeable, mostly ties
    draws, theta = values[:, :20], values[:, 20]
    assert sbc(draws, theta).p_value > 1e-6
    assert (sbc(draws, theta, seed=1) == sbc(draws, theta, seed=1)) is True
    assert sbc(draws, theta, seed=1) != sbc(draws, theta, seed=2)
    without = (draws < theta[:, None]).sum(1)
    assert np.abs(without.mean() - 10) > 2  # plain ranks are far from uniform


def test_truth_outside_the_posterior_support_has_the_lowest_density(draws):
    d = draws["exact"]
    lost = dataclasses.replace(d, log_prob_true=np.full(d.n_tests, -np.inf))
    assert coverage(lost).effect == pytest.approx(-0.68, abs=0.01)  # 1 / (draws + 1)


def test_groups_give_honest_p_values_where_plain_ones_are_wrong():
    few = calibration_draws(60, 100, seed=4)
    copies = np.repeat(np.arange(60), 20)
    fields = {k: getattr(few, k)[copies]
              for k in ("theta", "draws", "log_prob_true", "log_prob_draws")}  # fmt: skip
    grouped = CalibrationDraws(**fields, group=copies, prior=few.prior)
    naive = CalibrationDraws(**fields, prior=few.prior)
    assert len(grouped.members) == 60
    assert sbc(grouped).p_value > 1e-3
    assert sbc(naive).p_value < 1e-6
    assert "60 groups" in sbc(grouped).note
    # Copies add no information: the bootstrap by group says so.
    errors = [recovery(x).details["parameters"][0]["r2_error"] for x in (grouped, naive)]
    assert errors[0] > 3 * errors[1]


def test_p_values_of_designs_are_marked():
    d = calibration_draws(50, 20, independent=False)
    check = sbc(d)
    assert check.p_value is not None
    assert "not independent draws of the prior" in check.note


def test_contraction_works_with_a_prior_that_is_not_normal_in_u():
    space = ParameterSpace([Parameter("k", torch.distributions.Gamma(2.0, 1.0)),
                            Parameter("a", priors.LogUniform(0.1, 10.0))])  # fmt: skip
    theta = space.design(2000, 1).numpy()
    draws = space.design(2000 * 10, 2).numpy().reshape(2000, 10, 2)  # nothing is learnt
    check = contraction(draws, theta, prior=space)
    assert check.p_value > 1e-6
    # The variance ratio of a heavy-tailed prior is uncertain by 5 %: four errors.
    assert check.effect == pytest.approx(0, abs=0.2)
    assert contraction(draws * [1.3, 1.0], theta, prior=space).p_value < 1e-6


@pytest.mark.parametrize(
    ("law", "variance"),
    [(priors.Uniform(-1, 3), 16 / 12), (priors.Normal(5, 2), 4.0),
     (priors.LogUniform(0.1, 10.0), 99.99 / 2 / np.log(100) - (9.9 / np.log(100)) ** 2),
     (torch.distributions.Gamma(2.0, 4.0), 2 / 16), (torch.distributions.Cauchy(0.0, 1.0), None)],
)  # fmt: skip
def test_prior_variances_are_exact(law, variance):
    found = prior_variance(ParameterSpace([Parameter("a", law)]), 0)
    assert found == (None if variance is None else pytest.approx(variance, rel=1e-6))


def test_contraction_knows_its_prior_even_with_few_tests():
    # The variance of six truths is uncertain by 60 %; that of the prior is not.
    few = calibration_draws(6, 200, seed=5)
    expected = 1 - np.diag(LinearGaussian().covariance)
    for row, value in zip(contraction(few).details["parameters"], expected, strict=True):
        # 1200 draws give the posterior variance to 4 %, five errors of it.
        assert row["contraction"] == pytest.approx(value, abs=0.2 * (1 - value))


@pytest.mark.parametrize("n", [6, 30, 300])
def test_posteriors_that_repeat_the_prior_are_told_from_others(n):
    d = calibration_draws(n, 200, seed=6)
    rng = np.random.default_rng(0)
    nothing = dataclasses.replace(d, draws=rng.standard_normal(d.draws.shape))
    assert repeats_prior([recovery(nothing), contraction(nothing)])
    assert repeats_prior([contraction(nothing)])
    assert not repeats_prior([recovery(d), contraction(d)])
    assert not repeats_prior([sbc(d)])


def test_bad_input_is_named(draws):
    d = draws["exact"]
    with pytest.raises(ShapeError, match="shape \\(tests, draws, parameters\\)"):
        sbc(d.draws[0], d.theta)
    with pytest.raises(ShapeError, match="theta: expected shape"):
        sbc(d.draws, d.theta[:5])
    with pytest.raises(ShapeError, match="pass theta"):
        sbc(d.draws)
    with pytest.raises(ShapeError, match="finite"):
        sbc(np.where(d.draws > 1, np.nan, d.draws), d.theta)
    with pytest.raises(ShapeError, match="NaN"):
        CalibrationDraws(d.theta, d.draws, np.full(d.n_tests, np.nan))
    with pytest.raises(ShapeError, match="log_prob"):
        coverage(CalibrationDraws(d.theta, d.draws))
    with pytest.raises(ShapeError, match="references"):
        tarp(d, references=np.zeros((3, 2)))
    with pytest.raises(ShapeError, match="references"):
        tarp(d, references="nowhere")
