"""Latent check: what the flow makes of the truth must be standard normal, and know nothing of x.

For an exact posterior z = flow(theta | x) of true pairs is N(0, 1) in every dimension, independent
of x. No draws are needed, so nothing is lost to their finite number, and the ways in which z fails
say what is wrong: its radius (too narrow or wide), single dimensions (shape), covariance (missed
correlations), and what it shares with the summaries of x (a bias or a width that depends on x,
which checks that average over x cannot see).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sbitools.calibration.check import Check
from sbitools.calibration.drawing.draws import CalibrationDraws, as_draws
from sbitools.calibration.statistics.bands import EcdfTest, ecdf_test, simultaneous_band
from sbitools.errors import ShapeError

from .gate import checked

__all__ = ["WIDTH_SLOPE", "basis", "latent", "latent_covariance", "latent_rows"]

# Probabilities are continuous; they are tested in this many equal bins.
_BINS = 1000

# Summaries enter as their leading principal components, this many at most, so that a test with
# fewer tests than summaries is possible.
_COMPONENTS = 16
_FLOOR = 1e-12

# The normal score of |z| falls by this when z is stretched by a factor e, to first order: the mean
# of |z| 2 phi(z) / phi(score) over N(0, 1), with phi the density of N(0, 1).
WIDTH_SLOPE = 1.1772


@checked
def latent(
    draws: CalibrationDraws, *, false_alarm: float = 0.01, seed: int | None = None
) -> Check:
    r"""Latents of the truth against N(0, 1), and against the summaries of x.

    Five tests, each exact or nearly so, share the level by Bonferroni's rule:

    - radius: :math:`|z|^2` is :math:`\chi^2_P` (ECDF test of `bands`);
    - dimensions: each :math:`z_i` is N(0, 1) (the same, Bonferroni over dimensions);
    - covariance: likelihood ratio against the identity, with Bartlett's correction;
    - mean and summaries: F test of a linear regression of z on the summaries;
    - width and summaries: the same of :math:`|z|`, made normal by its own distribution.

    Effect: root mean square of z minus 1: above zero, errors are underestimated by this share.
    Band: where it lies for an exact posterior with probability 1 - `false_alarm`.

    Args:
        draws: with `latent`, and with `summary` for the last two tests.
        false_alarm: of the check as a whole.
        seed: of chosen members of groups.

    Raises:
        ShapeError: if there are no latents.

    References:
        | Optimal, fast, and robust inference of reionization-era cosmology with the 21cmPIE-INN
          (Schosser, Heneka & Plehn 2024, arXiv:2401.04174), section 3 (latent distribution)
        | Aspects of Multivariate Statistical Theory (Muirhead 1982), theorem 8.4.7 (covariance)
    """
    d = as_draws(draws, seed=seed)
    if d.latent is None:
        raise ShapeError(
            "latent", expected="latents of theta, shape (tests, parameters)", got="None",
            fix="draw from a posterior of one flow, or leave this check out",
        )  # fmt: skip
    z = d.latent[d.members]
    curves = _curves(z)
    rows = latent_rows(z, None if d.summary is None else d.summary[d.members], curves)
    p_value = min(1.0, len(rows) * min(row["p_value"] for row in rows))
    worst = min(rows, key=lambda row: row["p_value"])
    effect, band = _spread(z, false_alarm)
    return Check(
        name="latent", kind="latent", statistic=worst["statistic"], p_value=p_value,
        effect=effect, band=band, passed=p_value >= false_alarm, false_alarm=false_alarm,
        summary=f"latents spread {1 + effect:.3f} times as wide as N(0, 1); "
        f"smallest p from {_in_words(worst)}",
        note=d.note(), details=_details(d, z, curves, rows, false_alarm),
    )  # fmt: skip


def latent_rows(
    z: np.ndarray, summary: np.ndarray | None = None, curves: list[EcdfTest] | None = None
) -> list[dict[str, Any]]:
    """Name, p-value, statistic, effect and its error for each test of latents (n, P).

    The effect of the two tests with summaries (n, F) is the root mean square, over x, of the bias
    in posterior sigmas and of the relative error of the width, in both without what chance adds.
    It is None for the others; the standard error is None at zero.
    """
    first, *others = curves or _curves(z)
    rows = [
        _row("radius", first.p_value, first.gamma),
        _row("dimensions", min(1.0, len(others) * min(t.p_value for t in others)),
             min(t.gamma for t in others)),
    ]  # fmt: skip
    return rows + latent_covariance(z) + _summaries(z, summary)


def _row(
    name: str, p_value: float, statistic: float, effect: float | None = None,
    error: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    return {"name": name, "p_value": float(max(_FLOOR, p_value)), "statistic": float(statistic),
            "effect": effect, "error": error}  # fmt: skip


def _in_words(row: dict[str, Any]) -> str:
    """What the test with the smallest p-value is, and how large what it sees."""
    size = {
        "mean and summaries": "a bias of {:.2f} sigma rms that depends on x",
        "width and summaries": "a width wrong by {:.0%} rms, depending on x",
    }.get(row["name"])
    return row["name"] + (f", {size.format(row['effect'])}" if size else "")


def _curves(z: np.ndarray) -> list[EcdfTest]:
    """ECDF tests of the radius and of every dimension."""
    from scipy.special import chdtr, ndtr

    probability = np.column_stack([chdtr(z.shape[1], (z**2).sum(1)), ndtr(z)])
    bins = np.minimum((probability * _BINS).astype(np.int64), _BINS - 1)
    return [ecdf_test(column, _BINS - 1) for column in bins.T]


def latent_covariance(z: np.ndarray) -> list[dict[str, Any]]:
    """Likelihood-ratio test of the identity; none with hardly more tests than dimensions."""
    from scipy.special import chdtrc

    n, p = len(z) - 1, z.shape[1]
    if n < 3 * p:
        return []
    eigenvalues = np.linalg.eigvalsh(np.cov(z, rowvar=False).reshape(p, p))
    ratio = n * (eigenvalues - np.log(np.maximum(eigenvalues, 1e-300)) - 1).sum()
    ratio *= 1 - (2 * p + 1 - 2 / (p + 1)) / (6 * n)
    return [_row("covariance", float(chdtrc(p * (p + 1) / 2, ratio)), float(ratio))]


def _summaries(z: np.ndarray, summary: np.ndarray | None) -> list[dict[str, Any]]:
    """F tests of z and of |z| on the summaries."""
    from scipy.special import ndtr, ndtri

    columns = None if summary is None else basis(summary)
    if columns is None:
        return []
    width = ndtri(np.clip(2 * ndtr(-np.abs(z)), 1e-15, 1 - 1e-15))
    return [
        _row("mean and summaries", *_regression(z, columns, 1.0)),
        _row("width and summaries", *_regression(width, columns, WIDTH_SLOPE)),
    ]


def basis(summary: np.ndarray) -> np.ndarray | None:
    """Orthonormal leading components of standardised summaries, (n, q); None if there are none."""
    spread = summary.std(0)
    keep = spread > 1e-12 * np.abs(summary).max(0, initial=0.0)
    n_components = min(_COMPONENTS, int(keep.sum()), len(summary) // 10)
    if n_components < 1:
        return None
    columns = (summary[:, keep] - summary[:, keep].mean(0)) / spread[keep]
    left, size, _ = np.linalg.svd(columns, full_matrices=False)
    return left[:, :n_components][:, size[:n_components] > 1e-6 * size[0]]


def _regression(
    values: np.ndarray, basis: np.ndarray, slope: float
) -> tuple[float, float, float, float | None]:
    """Regression of the columns of values (n, P), alike normal, on the basis.

    Returns:
        p-value, F, and the rms of what the basis predicts over `slope`, without what chance adds
        to it, with its standard error.
    """
    from scipy.special import fdtrc

    centred = values - values.mean(0)
    explained = float(((basis.T @ centred) ** 2).sum())
    (n, p), q = values.shape, basis.shape[1]
    rest = max(float((centred**2).sum()) - explained, 1e-300)
    freedom = p * q, p * (n - 1 - q)
    noise = rest / freedom[1]
    f = explained / freedom[0] / noise
    predicted = max(0.0, explained - freedom[0] * noise)
    effect, error = (predicted / (n * p)) ** 0.5 / slope, None
    if effect:  # the variance of a noncentral chi-square, through the square root
        scatter = (noise * (2 * freedom[0] * noise + 4 * predicted)) ** 0.5
        error = scatter / (n * p) / (2 * effect * slope**2)
    return float(fdtrc(*freedom, f)), f, effect, error


def _spread(z: np.ndarray, false_alarm: float) -> tuple[float, tuple[float, float]]:
    """Root mean square of all latents minus 1, and its band."""
    from scipy.special import chdtri

    ends = [np.sqrt(chdtri(z.size, tail) / z.size) - 1
            for tail in (1 - false_alarm / 2, false_alarm / 2)]  # fmt: skip
    return float(np.sqrt((z**2).mean()) - 1), (float(ends[0]), float(ends[1]))


def _details(
    d: CalibrationDraws, z: np.ndarray, curves: list[EcdfTest], rows: list[dict[str, Any]],
    false_alarm: float,
) -> dict[str, Any]:  # fmt: skip
    level = false_alarm / len(rows)
    grid, lower, upper = simultaneous_band(len(z), _BINS - 1, level)
    return {
        "parameters": rows, "names": [row["name"] for row in rows], "latent": z,
        "covariance": np.cov(z, rowvar=False).reshape(z.shape[1], -1) if len(z) > 1 else z.T @ z,
        "mean": z.mean(0), "labels": ["radius", *d.labels], "z": grid, "lower": lower,
        "upper": upper, "ecdf": np.stack([t.ecdf for t in curves]), "n_tests": d.n_tests,
        "n_independent": len(z), "xlabel": "latent probability",
    }  # fmt: skip
