"""Ranks given x: exact at any number of draws, and sees what averages over x cannot."""

import numpy as np
import pytest
from scipy.stats import binom, kstest

from sbitools.calibration import CalibrationDraws, calibrate_draws, conditional
from tests.oracles.gaussian import calibration_draws


def rippled(n, n_draws, seed, bias=0.0, width=0.0, n_parameters=1):
    """x = theta + n / 2, an exact posterior but for a bias and a width that follow its mean m."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(n, n_parameters))
    x = theta + 0.5 * rng.normal(size=theta.shape)
    mean, sd = 0.8 * x, 0.2**0.5
    ripple = np.cos(6 * mean)
    centre, scale = mean + bias * ripple * sd, sd * np.exp(width * ripple)
    draws = centre[:, None] + scale[:, None] * rng.normal(size=(n, n_draws, n_parameters))
    return CalibrationDraws(theta, draws, summary=x, seed=seed)


@pytest.mark.parametrize("n_draws", [1, 3, 50])
def test_exact_posteriors_have_uniform_p_values_at_any_number_of_draws(n_draws):
    p = [conditional(rippled(60, n_draws, s, n_parameters=2)).p_value for s in range(300)]
    # Bonferroni's rule wastes a little: no more than the rate, in 1e-6 of such tests.
    for rate in (0.01, 0.05, 0.2):
        assert np.sum(np.array(p) < rate) <= binom.isf(1e-6, 300, rate)


def test_scores_of_ranks_are_normal_and_know_nothing_of_the_draws():
    from sbitools.calibration.checks.conditional import _rank_scores

    d = rippled(4000, 4, 1)
    s, total = _rank_scores(d)[:, 0], d.draws.sum(1)[:, 0] + d.theta[:, 0]
    assert kstest(s, "norm").pvalue > 1e-6
    assert abs(np.corrcoef(s, total)[0, 1]) < 5 / 4000**0.5
    # Of the draws alone it is not: with four of them, this is why the truth is in the sum.
    assert np.corrcoef(s, d.draws.mean(1)[:, 0] - 0.8 * d.summary[:, 0])[0, 1] < -0.2


def share(n, repeats, level=0.01 / 6, **wrong):
    found = (conditional(rippled(n, 100, 100 + s, **wrong)).p_value for s in range(repeats))
    return np.mean(np.array(list(found)) < level)


def test_a_bias_that_averages_out_is_found():
    # At its share of a joint level of 1 %. Of sets of 200, knowing the function would find 24 %.
    assert share(1000, 30, bias=0.3) > 0.6
    assert share(200, 60, level=0.05, bias=0.3) > 0.1
    assert share(1000, 20, bias=0.6) == 1.0
    assert share(1000, 20, width=0.4) > 0.8
    check = conditional(rippled(1000, 100, 3, bias=0.6))
    assert "a bias of 0." in check.summary
    assert check.effect == pytest.approx(0.6 / 2**0.5, rel=0.2)  # rms of a cosine


@pytest.mark.slow
def test_the_default_set_finds_it_in_nearly_all_sets_of_1000():
    def fails(seed):
        d = rippled(1000, 100, seed, bias=0.3, n_parameters=2)
        checks = ["sbc", "tarp", "conditional"]
        return [c.name for c in calibrate_draws(d, checks=checks, with_power=False).emulated
                if c.passed is False]  # fmt: skip

    found = [fails(s) for s in range(40)]
    assert np.mean(["conditional" in f for f in found]) > 0.8
    assert np.mean(["sbc" in f for f in found]) < 0.5


def test_correlated_parameters_share_a_level():
    p = [conditional(calibration_draws(100, 20, seed=s)).p_value for s in range(200)]
    assert np.sum(np.array(p) < 0.1) <= binom.isf(1e-6, 200, 0.1)


def test_it_is_in_the_default_set_and_can_be_drawn():
    result = calibrate_draws(rippled(200, 50, 1, bias=1.0))
    check = result.check("conditional")
    assert check.passed is False
    assert "conditional" in result.verdict
    assert check.plot().get_title() == "conditional"
    assert type(check).from_dict(check.to_dict()) == check
    names = [c.name for c in calibrate_draws(rippled(15, 50, 1)).emulated]
    assert "conditional" not in names
