"""Recovery: how near posterior means are to the truth, and whether the stated errors say so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sbitools.calibration.check import Check, in_digits
from sbitools.calibration.drawing.draws import CalibrationDraws, as_draws
from sbitools.calibration.statistics.bootstrap import bootstrap_means, bounded
from sbitools.calibration.statistics.coordinates import prior_variance

__all__ = ["recovery"]

_BOOTSTRAP = 5
_TINY = 1e-150


def recovery(
    draws: CalibrationDraws | np.ndarray,
    theta: np.ndarray | None = None,
    *,
    names: Sequence[str] = (),
    group: np.ndarray | None = None,
    seed: int | None = None,
) -> Check:
    r"""R^2, NRMSE, bias, z-scores and shrinkage of every parameter, with bootstrap errors.

    With m the posterior mean and s its standard deviation, over tests:
    :math:`R^2 = 1 - \sum (m - \theta)^2 / \sum (\theta - \bar\theta)^2`, NRMSE is the root mean
    square of :math:`m - \theta` in units of the standard deviation of :math:`\theta`, bias the
    mean of :math:`m - \theta`, and :math:`z = (m - \theta) / s`, freed of what few draws add to it
    (`CalibrationDraws.z_scores`). An exact posterior has mean z 0 and mean z^2 1: mean z is the
    bias in posterior sigmas, and sd z the factor by which intervals should be wider. Shrinkage is
    :math:`1 - \langle s^2 \rangle / \mathrm{var}(\theta)` with the prior's variance, or that of
    theta without a prior: for an exact posterior it is what R^2 converges to; above R^2, the
    posterior claims more than it knows.

    Nothing is tested (`sbc` does that): p_value and passed are None. Statistic and effect: the
    smallest R^2 over parameters; band: its 95 % bootstrap interval.

    Args:
        draws: posterior draws, shape (N, L, P), or `CalibrationDraws`.
        theta: true parameters, shape (N, P).
        names: of the parameters.
        group: resampled as a whole.
        seed: of the bootstrap.

    Raises:
        ShapeError: if shapes disagree or a value is not finite.
    """
    d = as_draws(draws, theta, names=names, group=group, seed=seed)
    rows = _rows(d)
    worst = min(rows, key=lambda row: row["r2"])
    with np.errstate(over="ignore", invalid="ignore"):
        sd = bounded(d.draws.std(1, dtype=np.float64))
    return Check(
        name="recovery", kind="recovery", statistic=worst["r2"], p_value=None,
        effect=worst["r2"], band=(worst["r2_low"], worst["r2_high"]), passed=None,
        false_alarm=None, summary=f"R² of {worst['name']} {in_digits(worst['r2'])}", note="",
        details={
            "truth": d.theta, "mean": d.draws.mean(1, dtype=np.float64),
            "sd": sd, "z": -d.z_scores, "names": list(d.names),
            "labels": list(d.labels), "parameters": rows, "n_tests": d.n_tests,
        },
    )  # fmt: skip


def _rows(d: CalibrationDraws) -> list[dict[str, Any]]:
    error = d.draws.mean(1, dtype=np.float64) - d.theta
    z = -d.z_scores
    centred = d.theta - d.theta.mean(0)  # no digits are lost to a large offset
    with np.errstate(over="ignore", invalid="ignore"):  # draws may be anywhere
        variance = d.draws.var(1, ddof=1 if d.n_draws > 1 else 0, dtype=np.float64)
        terms = np.stack([error, error**2, centred, centred**2, z, z**2, variance], axis=2)
    terms = bounded(terms)
    # All parameters are resampled together: one set of random numbers.
    means = bootstrap_means(
        terms.reshape(d.n_tests, -1), np.asarray(d.group), d.rng(_BOOTSTRAP)
    ).reshape(-1, *terms.shape[1:])
    rows = []
    for i, name in enumerate(d.names):
        known = None if d.prior is None else prior_variance(d.prior, i)
        resampled = _figures(means[:, i], known)
        row: dict[str, Any] = {"name": name}
        for key, value in _figures(terms[:, i].mean(0, keepdims=True), known).items():
            row[key] = float(value[0])
            row[f"{key}_error"] = float(resampled[key].std())
        low, high = np.quantile(resampled["r2"], (0.025, 0.975))
        rows.append(row | {"r2_low": float(low), "r2_high": float(high)})
    return rows


def _figures(terms: np.ndarray, prior_variance: float | None) -> dict[str, np.ndarray]:
    """Figures of merit from means of (e, e^2, t, t^2, z, z^2, s^2), shape (n, 7)."""
    error, error2, truth, truth2, z, z2, posterior = terms.T
    # A bootstrap sample of equal truths has no variance; it must not divide by zero.
    variance = np.maximum(truth2 - truth**2, 1e-12 * error2 + _TINY)
    prior = np.maximum(variance, 1e-12 * posterior) if prior_variance is None else prior_variance
    return {
        "r2": 1 - error2 / variance,
        "nrmse": np.sqrt(error2 / variance),
        "bias": error,
        "mean_z": z,
        "sd_z": np.sqrt(np.maximum(z2 - z**2, 0)),
        "shrinkage": 1 - posterior / prior,
    }
