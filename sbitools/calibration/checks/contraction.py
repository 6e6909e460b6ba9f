"""Posterior against prior: what was learnt, and whether posteriors average to the prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from sbitools.calibration.check import Check, in_digits
from sbitools.calibration.drawing.draws import CalibrationDraws, as_draws
from sbitools.calibration.statistics.bands import (
    EcdfTest,
    ecdf_test,
    evaluation_ranks,
    simultaneous_band,
)
from sbitools.calibration.statistics.bootstrap import bootstrap_means, bounded
from sbitools.calibration.statistics.coordinates import prior_probability, prior_variance
from sbitools.calibration.statistics.outliers import far_out

from .gate import checked

if TYPE_CHECKING:
    from sbitools.parameters import ParameterSpace

__all__ = ["contraction"]

_CHOICE, _BOOTSTRAP = 6, 7

# The prior's probability is continuous; it is tested in this many equal bins.
_BINS = 1000

# Share of the level that the test of outliers has.
_OUTLIERS = 0.1

# Draws of each test behind the average curve.
_AVERAGED = 100


@checked
def contraction(
    draws: CalibrationDraws | np.ndarray,
    theta: np.ndarray | None = None,
    *,
    prior: ParameterSpace | None = None,
    names: Sequence[str] = (),
    group: np.ndarray | None = None,
    false_alarm: float = 0.01,
    seed: int | None = None,
) -> Check:
    """Contraction of every parameter, and the data-averaged posterior against the prior.

    Contraction: 1 - (mean posterior variance) / (prior variance); 0 says that nothing was learnt,
    1 that the parameter is known exactly. The prior variance is exact if `prior` is given and has
    one; without, it is that of theta over tests.

    Tested is that exact posteriors average to the prior: one random draw of each test is a draw of
    the prior, so its cumulative prior probability is uniform (`bands.ecdf_test`, Bonferroni over
    parameters); and, with a tenth of the level, that no more draws lie far out in the prior than
    that (`outliers`). Without `prior` nothing is tested.

    Effect: the smallest contraction over parameters; band: its 95 % bootstrap interval.

    Args:
        draws: posterior draws, shape (N, L, P), or `CalibrationDraws`.
        theta: true parameters, shape (N, P).
        prior: of theta, if `draws` does not carry it.
        names: of the parameters.
        group: tests of one group share a volume; the p-value uses one random member of each.
        false_alarm: of the check as a whole.
        seed: of the draws chosen and of the bootstrap.

    Raises:
        ShapeError: if shapes disagree or a value is not finite.

    References:
        | Getting it right: joint distribution tests of posterior simulators (Geweke 2004)
        | Toward a principled Bayesian workflow in cognitive science
          (Schad, Betancourt & Vasishth 2021, arXiv:1904.12765), section 5.2 (contraction)
    """
    d = as_draws(draws, theta, names=names, group=group, prior=prior, seed=seed)
    rows = _rows(d)
    worst = min(rows, key=lambda row: row["contraction"])
    details: dict[str, Any] = {"parameters": rows, "names": list(d.names)}
    details |= {"labels": list(d.labels), "n_tests": d.n_tests}
    tests, level = _averages(d, (1 - _OUTLIERS) * false_alarm)
    p_value, far = None, None
    if tests:
        far = far_out(d)
        average = len(tests) * min(t.p_value for t in tests)
        outside = 1.0 if far is None else far.p_value / _OUTLIERS
        p_value = float(min(1.0, average / (1 - _OUTLIERS), outside))
        details |= _test_details(d, tests, level, rows)
        details["outliers"] = None if far is None else asdict(far)
    size = in_digits(worst["contraction"])
    summary = f"contraction of {worst['name']} {size} (1: known exactly)"
    if far is not None and far.p_value < _OUTLIERS * false_alarm:
        summary += f"; {far}"
    return Check(
        name="contraction", kind="contraction",
        statistic=min((t.gamma for t in tests), default=worst["contraction"]),
        p_value=p_value, effect=worst["contraction"], band=(worst["low"], worst["high"]),
        passed=None if p_value is None else p_value >= false_alarm,
        false_alarm=None if p_value is None else false_alarm, summary=summary,
        note=d.note() if tests else "prior not given: nothing tested", details=details,
    )  # fmt: skip


def _rows(d: CalibrationDraws) -> list[dict[str, Any]]:
    truth = d.theta - d.theta.mean(0)
    with np.errstate(over="ignore", invalid="ignore"):  # draws may be anywhere
        variance = d.draws.var(1, ddof=1 if d.n_draws > 1 else 0, dtype=np.float64)
    terms = bounded(np.stack([variance, truth, truth**2], axis=2))  # (N, P, 3)
    means = bootstrap_means(
        terms.reshape(d.n_tests, -1), np.asarray(d.group), d.rng(_BOOTSTRAP)
    ).reshape(-1, *terms.shape[1:])
    rows = []
    for i, name in enumerate(d.names):
        known = None if d.prior is None else prior_variance(d.prior, i)
        value = _contraction(terms[:, i].mean(0, keepdims=True), known)[0]
        resampled = _contraction(means[:, i], known)
        low, high = np.quantile(resampled, (0.025, 0.975))
        rows.append({
            "name": name, "contraction": float(value), "error": float(resampled.std()),
            "low": float(low), "high": float(high),
        })  # fmt: skip
    return rows


def _contraction(terms: np.ndarray, prior_variance: float | None) -> np.ndarray:
    variance, mean, square = terms.T
    if prior_variance is not None:
        return 1 - variance / prior_variance
    # A bootstrap sample of equal truths has no variance; it must not divide by zero.
    return 1 - variance / np.maximum(square - mean**2, 1e-12 * variance + 1e-150)


def _averages(d: CalibrationDraws, false_alarm: float) -> tuple[list[EcdfTest], float]:
    """Test of each parameter, on one draw of each independent test; and its level."""
    if d.prior is None:
        return [], false_alarm
    which = d.rng(_CHOICE).integers(0, d.n_draws, size=d.n_tests)
    chosen = d.draws[np.arange(d.n_tests), which][d.members]
    bins = _bins(prior_probability(d.prior, chosen))
    return [ecdf_test(column, _BINS - 1) for column in bins.T], false_alarm / bins.shape[1]


def _bins(probability: np.ndarray) -> np.ndarray:
    return np.minimum((probability * _BINS).astype(np.int64), _BINS - 1)


def _test_details(
    d: CalibrationDraws, tests: list[EcdfTest], level: float, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """Curves of the test, and of the average over many draws, which is smoother than its band."""
    z, lower, upper = simultaneous_band(len(d.members), _BINS - 1, level)
    some = d.draws[:, :_AVERAGED]
    everything = _bins(prior_probability(d.prior, some))  # type: ignore[arg-type]
    columns = everything.reshape(-1, everything.shape[-1]).T
    k = evaluation_ranks(_BINS - 1)
    shares = [np.cumsum(np.bincount(c, minlength=_BINS))[k] / len(c) for c in columns]
    for row, test, share in zip(rows, tests, shares, strict=True):
        row |= {"statistic": test.gamma, "p_value": test.p_value, "deviation": test.deviation}
        row["average_deviation"] = float((share - z)[np.abs(share - z).argmax()])
    return {
        "z": z, "lower": lower, "upper": upper, "ecdf": np.stack([t.ecdf for t in tests]),
        "average": np.stack(shares), "n_independent": len(d.members),
        "xlabel": "prior probability",
    }  # fmt: skip
