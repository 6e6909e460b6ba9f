"""Simulation-based calibration: the rank of the truth among its posterior draws is uniform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .bands import EcdfTest, ecdf_test, simultaneous_band
from .check import Check
from .draws import CalibrationDraws, as_draws

__all__ = ["sbc", "uniformity"]


def sbc(
    draws: CalibrationDraws | np.ndarray,
    theta: np.ndarray | None = None,
    *,
    names: Sequence[str] = (),
    group: np.ndarray | None = None,
    false_alarm: float = 0.01,
    seed: int | None = None,
) -> Check:
    """Simulation-based calibration of every parameter.

    Statistic: the smallest pointwise probability of the ranks' ECDF over evaluation points and
    parameters (see `bands`). p-value: exact for each parameter at any number of draws, times the
    number of parameters (Bonferroni), so an exact posterior fails with probability `false_alarm`
    at most. Effect: the largest ECDF deviation, with its sign; band: what it may be by chance at
    the same place.

    Args:
        draws: posterior draws, shape (N, L, P), or `CalibrationDraws`.
        theta: true parameters, shape (N, P).
        names: of the parameters.
        group: tests of one group share a volume; p-values use one random member of each.
        false_alarm: of the check as a whole.
        seed: of broken ties and chosen members.

    Raises:
        ShapeError: if shapes disagree or a value is not finite.

    References:
        | Validating Bayesian inference algorithms with simulation-based calibration
          (Talts et al. 2018, arXiv:1804.06788)
        | Graphical test for discrete uniformity (Säilynoja et al. 2022, arXiv:2103.10522)
    """
    d = as_draws(draws, theta, names=names, group=group, seed=seed)
    tests, level = uniformity(d, d.ranks, false_alarm)
    worst = max(range(len(tests)), key=lambda i: abs(tests[i].deviation))
    p_value = min(1.0, len(tests) * min(t.p_value for t in tests))
    details = ecdf_details(d, d.ranks, tests, level, d.names)
    return Check(
        name="sbc", kind="ecdf", statistic=min(t.gamma for t in tests), p_value=p_value,
        effect=tests[worst].deviation, band=band_at(details, tests[worst]),
        passed=p_value >= false_alarm, false_alarm=false_alarm,
        summary=f"largest ECDF deviation {tests[worst].deviation:+.3f} (rank of {d.names[worst]})",
        note=d.note(), details=details | {"labels": list(d.labels), "xlabel": "rank / draws"},
    )  # fmt: skip


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
