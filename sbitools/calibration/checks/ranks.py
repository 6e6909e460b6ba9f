"""Simulation-based calibration: the rank of the truth among its posterior draws is uniform."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sbitools.calibration.check import Check
from sbitools.calibration.drawing.draws import CalibrationDraws, as_draws
from sbitools.calibration.statistics.bands import EcdfTest, ecdf_test, simultaneous_band
from sbitools.errors import ShapeError

from .gate import checked

__all__ = ["sbc", "uniformity", "with_quantities"]


@checked
def sbc(
    draws: CalibrationDraws | np.ndarray,
    theta: np.ndarray | None = None,
    *,
    quantities: Mapping[str, Callable[[np.ndarray], np.ndarray]] | None = None,
    log_prob: bool = False,
    names: Sequence[str] = (),
    group: np.ndarray | None = None,
    false_alarm: float = 0.01,
    seed: int | None = None,
) -> Check:
    """Simulation-based calibration of every parameter, and of any further quantity.

    Statistic: the smallest pointwise probability of the ranks' ECDF over evaluation points and
    quantities (see `bands`). p-value: exact for each quantity at any number of draws, times the
    number of quantities (Bonferroni), so an exact posterior fails with probability `false_alarm`
    at most. Effect: the largest ECDF deviation, with its sign; band: what it may be by chance at
    the same place.

    Args:
        draws: posterior draws, shape (N, L, P), or `CalibrationDraws`.
        theta: true parameters, shape (N, P).
        quantities: further test quantities: name -> function of theta (..., P) -> (...). Those
            that look at x too are computed where x is: see `sampling.draw`.
        log_prob: also rank the log density of the posterior (what `coverage` tests).
        names: of the parameters.
        group: tests of one group share a volume; p-values use one random member of each.
        false_alarm: of the check as a whole.
        seed: of broken ties and chosen members.

    Raises:
        ShapeError: if shapes disagree, a value is not finite, or densities are missing.

    References:
        | Validating Bayesian inference algorithms with simulation-based calibration
          (Talts et al. 2018, arXiv:1804.06788)
        | Simulation-based calibration checking for Bayesian computation: the choice of test
          quantities shapes sensitivity (Modrák et al. 2023, arXiv:2211.02383)
        | Graphical test for discrete uniformity (Säilynoja et al. 2022, arXiv:2103.10522)
    """
    d = with_quantities(
        as_draws(draws, theta, names=names, group=group, seed=seed), quantities or {}, log_prob
    )
    ranks, names = np.concatenate([d.ranks, d.quantity_ranks], 1), [*d.names, *d.quantities]
    tests, level = uniformity(d, ranks, false_alarm)
    worst = max(range(len(tests)), key=lambda i: abs(tests[i].deviation))
    p_value = min(1.0, len(tests) * min(t.p_value for t in tests))
    details = ecdf_details(d, ranks, tests, level, names)
    return Check(
        name="sbc", kind="ecdf", statistic=min(t.gamma for t in tests), p_value=p_value,
        effect=tests[worst].deviation, band=band_at(details, tests[worst]),
        passed=p_value >= false_alarm, false_alarm=false_alarm,
        summary=f"largest ECDF deviation {tests[worst].deviation:+.3f} (rank of {names[worst]})",
        note=d.note(),
        details=details | {"labels": [*d.labels, *d.quantities], "xlabel": "rank / draws"},
    )  # fmt: skip


def with_quantities(
    d: CalibrationDraws,
    functions: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    log_prob: bool = False,
) -> CalibrationDraws:
    """The draws with further test quantities: functions of theta, and the log density.

    Raises:
        ShapeError: if a function gives another shape, or densities are missing.
    """
    pairs: dict[str, tuple[np.ndarray, np.ndarray]] = {
        name: (np.asarray(f(d.theta)), np.asarray(f(d.draws))) for name, f in functions.items()
    }
    if log_prob:
        if d.log_prob_true is None or d.log_prob_draws is None:
            raise ShapeError(
                "rank of the log density", expected="log_prob_true and log_prob_draws", got="None",
                fix="draw with CalibrationDraws.from_posterior, or leave it out",
            )  # fmt: skip
        lowest = np.finfo(np.float64).min  # of no density; equal ones are ties
        both = (d.log_prob_true, d.log_prob_draws)
        pairs["log_prob"] = tuple(np.maximum(v, lowest) for v in both)  # type: ignore[assignment]
    return replace(d, quantities=d.quantities | pairs) if pairs else d


def uniformity(
    d: CalibrationDraws, ranks: np.ndarray, false_alarm: float
) -> tuple[list[EcdfTest], float]:
    """Tests of the columns of `ranks` (N, K), and the level each has in a joint test."""
    columns = ranks.reshape(d.n_tests, -1)[d.members].T
    return [ecdf_test(c, d.n_draws) for c in columns], false_alarm / len(columns)


def ecdf_details(
    d: CalibrationDraws,
    ranks: np.ndarray,
    tests: list[EcdfTest],
    level: float,
    names: Sequence[str],
) -> dict[str, Any]:
    """What the plot of an ECDF check needs."""
    z, lower, upper = simultaneous_band(len(d.members), d.n_draws, level)
    rows = [
        {"name": name, "statistic": t.gamma, "p_value": t.p_value, "effect": t.deviation}
        for name, t in zip(names, tests, strict=True)
    ]
    return {
        "z": z, "lower": lower, "upper": upper, "ecdf": np.stack([t.ecdf for t in tests]),
        "ranks": ranks.reshape(d.n_tests, -1), "n_draws": d.n_draws, "n_tests": d.n_tests,
        "n_independent": len(d.members), "names": list(names), "parameters": rows,
    }  # fmt: skip


def band_at(details: dict[str, Any], test: EcdfTest) -> tuple[float, float]:
    """Band of the ECDF difference where the deviation of `test` is largest."""
    where = int(np.abs(test.ecdf - test.z).argmax())
    z = details["z"][where]
    return float(details["lower"][where] - z), float(details["upper"][where] - z)
