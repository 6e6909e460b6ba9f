"""The latent check: exact under the null, and each of its parts sees what it is there for."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.stats import binom

from sbitools.calibration import CalibrationResult, calibrate_draws, latent
from sbitools.calibration.plots.kinds import latent_quantiles
from sbitools.errors import ShapeError
from tests.oracles.gaussian import calibration_draws

N = 600


@pytest.fixture(scope="module")
def draws():
    return calibration_draws(N, 10, seed=1)


def with_latents(d, seed, change=lambda z, f: z):
    rng = np.random.default_rng(seed)
    z, features = rng.standard_normal((N, 2)), rng.standard_normal((N, 5))
    return dataclasses.replace(d, latent=change(z, features), summary=features, seed=seed)


def parts(check):
    return {row["name"]: row["p_value"] for row in check.details["parameters"]}


def test_false_alarm_rate(draws):
    p = np.array([latent(with_latents(draws, i)).p_value for i in range(200)])
    # Bonferroni over parts that depend on one another: at most 5 %, at least a fifth of it. The
    # upper end is left with probability 1e-4.
    assert 2 <= (p < 0.05).sum() <= binom.ppf(1 - 1e-4, 200, 0.05)


@pytest.mark.parametrize(
    ("change", "part"),
    [(lambda z, f: 1.25 * z, "radius"), (lambda z, f: z / 1.25, "radius"),
     (lambda z, f: z + np.array([0.3, 0]), "dimensions"),
     (lambda z, f: np.sign(z) * np.abs(z) ** 1.3, "dimensions"),
     (lambda z, f: z @ [[1, 0.4], [0, 0.917]], "covariance"),
     (lambda z, f: z + 0.3 * f[:, :2], "mean and summaries"),
     (lambda z, f: z * np.exp(0.3 * f[:, :1]), "width and summaries")],
)  # fmt: skip
def test_each_error_is_seen_by_its_part(draws, change, part):
    check = latent(with_latents(draws, 7, change))
    assert parts(check)[part] < 1e-4
    assert check.passed is False


def test_errors_that_average_out_over_x_are_seen_by_the_summaries_alone(draws):
    # The marginal distribution of z is exactly N(0, 1), yet x predicts it.
    check = latent(with_latents(draws, 3, lambda z, f: 0.8 * z + 0.6 * f[:, :2]))
    found = parts(check)
    assert found["mean and summaries"] < 1e-6
    assert min(found[k] for k in ("radius", "dimensions", "covariance")) > 1e-4


@pytest.mark.parametrize(
    ("change", "part"),
    [(lambda z, f: z + 0.3 * f[:, :2], "mean and summaries"),
     (lambda z, f: z * np.exp(0.3 * f[:, :1]), "width and summaries")],
)  # fmt: skip
def test_size_of_what_depends_on_x(draws, change, part):
    """0.3 sigma of bias and 30 % of width, each rms over x; and next to nothing without."""
    found, exact = (
        {row["name"]: row["effect"] for row in check.details["parameters"]}
        for check in (latent(with_latents(draws, 7, how)) for how in (change, lambda z, f: z))
    )
    # 1200 numbers know an rms of 0.3 to 0.03 (200 seeds: 0.30 and 0.31 ± 0.03); five of those.
    assert found[part] == pytest.approx(0.3, abs=0.15)
    # By chance ten coefficients explain sqrt(20) / 1200 of the variance more than expected: six.
    assert exact[part] < 0.15
    assert found["radius"] is None


def test_effect_is_the_share_by_which_errors_are_underestimated(draws):
    check = latent(with_latents(draws, 5, lambda z, f: 1.25 * z))
    # A standard deviation of 1200 numbers: error 2 %, four of them.
    assert check.effect == pytest.approx(0.25, abs=0.1)
    assert check.band[0] < 0 < check.band[1] < 0.1


def test_calibrate_uses_latents_and_keeps_them(draws, tmp_path):
    d = with_latents(draws, 2)
    result = calibrate_draws(d, with_power=False)
    assert "all 6 checks pass" in result.verdict
    again = CalibrationResult.from_json(result.to_json(tmp_path / "r.json"))
    assert again == result
    assert json.loads((tmp_path / "r.json").read_text())["joint"]
    wrong = calibrate_draws(with_latents(draws, 2, lambda z, f: 1.3 * z), with_power=False)
    assert wrong.check("latent").passed is False
    assert wrong.joint["emulated"] < 0.01


def test_plots_show_radius_and_quantiles(draws):
    check = latent(with_latents(draws, 2))
    ax = check.plot(label="emulated")
    assert "radius" in ax.get_xlabel()
    ax.figure.canvas.draw()
    assert len(latent_quantiles(check).lines) == 3


def test_what_latents_need_is_said(draws):
    with pytest.raises(ShapeError, match="latents of theta"):
        latent(draws)
    with pytest.raises(ShapeError, match="latent: expected shape"):
        dataclasses.replace(draws, latent=np.zeros((N, 3)))
    with pytest.raises(ShapeError, match="latent: expected finite"):
        dataclasses.replace(draws, latent=np.full((N, 2), np.nan))
    few = calibration_draws(4, 10)
    check = latent(dataclasses.replace(few, latent=np.zeros((4, 2)) + 0.3))
    assert "covariance" not in parts(check)
