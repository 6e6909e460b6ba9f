"""Draws far out in the prior: found, by an exact bound, and never passed over in the verdict."""

import numpy as np
import pytest

from sbitools import Parameter, ParameterSpace, priors
from sbitools.calibration import CalibrationDraws, calibrate_draws, contraction

LOG = ParameterSpace([Parameter("a", priors.LogNormal(0.0, 1.0))])


def draws(n=500, n_draws=200, seed=0, share=0.0, reach=20.0, scale=1.0, space=LOG):
    """An exact posterior of theta = exp(scale u), x = u + n / 2, but for a share of wild draws."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=n)
    x = u + 0.5 * rng.normal(size=n)
    z = 0.8 * x[:, None] + 0.2**0.5 * rng.normal(size=(n, n_draws))
    wild = rng.random(z.shape) < share
    z[wild] = rng.uniform(8, reach, wild.sum())
    return CalibrationDraws(np.exp(scale * u)[:, None], np.exp(scale * z)[..., None], prior=space,
                            names=("a",), seed=seed)  # fmt: skip


def test_fifteen_of_a_hundred_thousand_wild_draws_are_found_and_named():
    result = calibrate_draws(draws(share=1.5e-4))
    check = result.check("contraction")
    assert check.passed is False
    assert "draws of a lie beyond" in check.summary
    assert check.effect < -100
    assert "it is worse than the prior: contraction of a -" in result.verdict
    assert "R² of a -" in result.verdict
    assert not result.passed


def test_single_draws_of_a_million_are_found():
    d = draws(n=1000, n_draws=1000, seed=3)
    wild = np.array(d.draws)
    wild[7, 11] = np.exp(7.5)
    found = contraction(wild, d.theta, prior=LOG)
    assert found.p_value < 1e-3
    assert contraction(d).p_value > 1e-2


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0])
def test_exact_posteriors_of_heavy_tailed_priors_pass(scale):
    space = ParameterSpace([Parameter("a", priors.LogNormal(0.0, scale))])
    for seed in range(60):
        result = calibrate_draws(
            draws(200, 50, seed, scale=scale, space=space), with_power=False, false_alarm=1e-6,
            checks=("contraction", "recovery"),
        )  # fmt: skip
        assert "worse than the prior" not in result.verdict
        assert result.check("contraction").passed


def test_a_posterior_much_wider_than_the_prior_never_passes_even_without_a_prior():
    rng = np.random.default_rng(1)
    theta = rng.normal(size=(100, 1))
    d = CalibrationDraws(theta, theta[:, None] + 2 * rng.standard_t(1.2, size=(100, 200, 1)))
    result = calibrate_draws(d, checks=("contraction",))
    assert not result.passed
    assert "no check" not in result.verdict
    assert "worse than the prior" in result.verdict


def test_few_draws_do_not_widen_z_scores():
    rng = np.random.default_rng(2)
    for n_draws in (5, 8, 20, 100):
        theta = rng.normal(size=(40_000, 1))
        z = CalibrationDraws(theta, rng.normal(size=(40_000, n_draws, 1))).z_scores
        # A squared t of four degrees of freedom has an infinite variance: 5 % suffice there.
        assert np.sqrt((z**2).mean()) == pytest.approx(1.0, abs=0.05 if n_draws == 5 else 0.02)


def test_widths_are_not_stated_of_fewer_draws_than_can_tell():
    rng = np.random.default_rng(3)
    theta = rng.normal(size=(2000, 1))
    for n_draws, stated in ((3, False), (5, False), (40, True)):
        d = CalibrationDraws(theta, 3 + 0.5 * rng.normal(size=(2000, n_draws, 1)))
        assert ("too narrow" in calibrate_draws(d).verdict) is stated


def test_draws_at_the_edge_of_a_bounded_prior_are_not_far_out():
    """1e-14 of its width from the edge is as good as 1e-4: ranks see what is too much there."""
    rng = np.random.default_rng(4)
    space = ParameterSpace([Parameter("a", priors.Uniform(2.0, 3.0))])
    theta, z = rng.uniform(2, 3, (300, 1)), rng.uniform(2, 3, (300, 300, 1))
    z[rng.random(z.shape) < 3e-5] = 3.0 - 1e-14
    assert (z > 3.0 - 1e-12).any()
    check = contraction(z, theta, prior=space)
    assert check.details["outliers"] is None
    assert check.passed
