"""Mutual information against the closed form of correlated Gaussians."""

import dataclasses

import numpy as np
import pytest
import torch

from sbitools import Parameter, ParameterSpace, priors
from sbitools.calibration import information, information_lost
from sbitools.calibration.statistics.coordinates import expected_log_prob, normal_score
from sbitools.errors import ShapeError
from tests.oracles.gaussian import LinearGaussian, calibration_draws

NATS = 0.05  # what is required, with 10,000 tests


def model(p):
    return LinearGaussian(n_parameters=p, n_data=p + 3, sigma=0.7)


def exact(p):
    """Joint and marginal information of theta and x in nats."""
    covariance = model(p).covariance
    return -0.5 * np.linalg.slogdet(covariance)[1], -0.5 * np.log(np.diag(covariance))


@pytest.mark.parametrize("p", [1, 2, 5, 10])
def test_joint_information_of_correlated_gaussians(p):
    check = information(calibration_draws(10_000, 5, seed=4, model=model(p)))
    assert check.effect == pytest.approx(exact(p)[0], abs=NATS)
    error = check.details["joint"]["error"]
    # log q of P normal dimensions has variance P / 2, less what theta alone explains.
    assert error <= 1.1 * np.sqrt(p / 2 / 10_000)
    assert check.details["claimed"] == pytest.approx(exact(p)[0], abs=NATS)
    assert "lower bound" in check.summary


def test_where_little_is_known_the_error_is_small():
    # log q follows log p, whose expectation is known: most of the scatter is taken out.
    vague = LinearGaussian(n_parameters=2, n_data=2, sigma=3.0)
    check = information(calibration_draws(2000, 2, seed=1, model=vague), per_parameter=False)
    assert check.effect == pytest.approx(-0.5 * np.linalg.slogdet(vague.covariance)[1], abs=NATS)
    assert check.details["joint"]["error"] < 0.6 * np.sqrt(1 / 2000)


def test_information_per_parameter():
    check = information(calibration_draws(3000, 1000, seed=5, model=model(2)))
    for row, value in zip(check.details["parameters"], exact(2)[1], strict=True):
        # 10,000 tests would have 0.55 of this error; the kernel lowers the bound by 0.01.
        assert row["effect"] == pytest.approx(value, abs=NATS)
        assert row["band"][0] < row["effect"] < row["band"][1]


def test_bootstrap_errors_are_honest():
    found = [
        information(calibration_draws(500, 2, seed=i, model=model(2)), per_parameter=False)
        for i in range(200)
    ]
    scatter = np.std([c.effect for c in found])
    stated = np.mean([c.details["joint"]["error"] for c in found])
    # The scatter of 200 is known to 5 %; four errors.
    assert stated == pytest.approx(scatter, rel=0.2)


@pytest.mark.parametrize("wrong", [{"width": 0.7}, {"width": 1.4}, {"shift": 0.7}])
def test_a_wrong_posterior_lowers_the_bound(wrong):
    right = information(calibration_draws(4000, 200, seed=1))
    check = information(calibration_draws(4000, 200, seed=1, **wrong))
    assert check.effect < right.effect - 0.1
    if wrong.get("width") == 0.7:
        assert check.details["claimed"] > check.details["joint"]["band"][1] + 0.3


def test_information_lost_by_a_summary():
    full, p = model(2), 2
    theta, x = full.joint(4000, 3)
    half = LinearGaussianOfFirst(full)
    field = calibration_draws(4000, 200, seed=3, model=full)
    assert np.array_equal(field.theta, theta)
    mean, covariance = half.posterior(x[:, :1])
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((4000, 200, p)) @ np.linalg.cholesky(covariance).T
    draws = mean[:, None] + noise
    density = [half.log_prob(v, mean, covariance) for v in (theta, draws)]
    summary = dataclasses.replace(
        field, draws=draws, log_prob_true=density[0], log_prob_draws=density[1]
    )
    check = information_lost(field, summary)
    expected = 0.5 * (np.linalg.slogdet(covariance)[1] - np.linalg.slogdet(full.covariance)[1])
    assert check.effect == pytest.approx(expected, abs=NATS)
    assert check.p_value < 1e-6
    # Paired: the error is smaller than that of the two bounds apart.
    apart = [information(d).details["joint"]["error"] for d in (field, summary)]
    assert check.details["joint"]["error"] < 0.9 * np.hypot(*apart)
    for row, (a, b) in zip(
        check.details["parameters"],
        zip(np.diag(full.covariance), np.diag(covariance), strict=True), strict=True,
    ):  # fmt: skip
        assert row["effect"] == pytest.approx(0.5 * np.log(b / a), abs=NATS)


class LinearGaussianOfFirst:
    """The exact posterior given the first number of x alone."""

    def __init__(self, full):
        self.row, self.sigma = full.matrix[:1], full.sigma

    def posterior(self, x):
        precision = np.eye(2) + self.row.T @ self.row / self.sigma**2
        covariance = np.linalg.inv(precision)
        return x @ self.row @ covariance / self.sigma**2, covariance

    @staticmethod
    def log_prob(theta, mean, covariance):
        d = theta - (mean if theta.ndim == 2 else mean[:, None])
        chi2 = np.einsum("...i,ij,...j", d, np.linalg.inv(covariance), d)
        return -0.5 * (chi2 + np.linalg.slogdet(2 * np.pi * covariance)[1])


@pytest.mark.parametrize(
    ("law", "entropy"),
    [(priors.Uniform(-1, 3), np.log(4)), (priors.Normal(5, 2), 0.5 * np.log(2 * np.pi * np.e * 4)),
     (torch.distributions.Gamma(2.0, 4.0), 1.5772 - np.log(4.0)),
     (priors.LogUniform(0.1, 10.0), np.log(np.log(100)))],
)  # fmt: skip
def test_entropies_of_priors(law, entropy):
    space = ParameterSpace([Parameter("a", law)])
    # 1e-3: the wrapped prior's tails are tabulated.
    assert -expected_log_prob(space) == pytest.approx(entropy, abs=1e-3)
    scores = normal_score(space, space.design(4000, 1).numpy()[:, 0], 0)
    assert scores.std() == pytest.approx(1, abs=0.05)  # four errors


def test_what_information_needs_is_said():
    d = calibration_draws(100, 60)
    for missing in ({"prior": None}, {"log_prob_true": None}, {"normalised": False}):
        with pytest.raises(ShapeError, match="normalised log densities"):
            information(dataclasses.replace(d, **missing))
    with pytest.raises(ShapeError, match="same tests"):
        information_lost(d, calibration_draws(100, 60, seed=9))
    lost = np.where(np.arange(100) < 3, -np.inf, d.log_prob_true)
    check = information(dataclasses.replace(d, log_prob_true=lost))
    assert "3 truths have no density" in check.note
    assert np.isfinite(check.effect)
    assert check.plot().get_xlabel().endswith("(nats)")
