"""Expected coverage: how often credible regions of highest density hold the truth."""

from __future__ import annotations

import numpy as np

from sbitools.calibration.check import Check
from sbitools.calibration.drawing.draws import CalibrationDraws, as_draws
from sbitools.calibration.statistics.bands import ecdf_test, simultaneous_band
from sbitools.errors import ShapeError

from .gate import checked
from .ranks import ecdf_details

__all__ = ["LEVELS", "coverage"]

LEVELS = (0.5, 0.68, 0.9, 0.95)


@checked
def coverage(
    draws: CalibrationDraws, *, false_alarm: float = 0.01, seed: int | None = None
) -> Check:
    """Expected coverage of the regions of highest posterior density.

    The share of draws whose density exceeds that of the truth is the credibility of the smallest
    region that holds the truth. It is uniform for an exact posterior, and its ECDF at a level is
    the actual coverage of that level. Test as in `ranks.sbc`, on this one quantity.

    Effect: actual minus nominal coverage at 68 %. Below zero: over-confident, the regions are too
    small. Band: where it lies for an exact posterior (simultaneous over all levels).

    Args:
        draws: with log densities.
        false_alarm: of the check.
        seed: of broken ties and chosen members.

    Raises:
        ShapeError: if the log densities are missing.

    References:
        | A trust crisis in simulation-based inference? (Hermans et al. 2022, arXiv:2110.06581)
        | Truncated proposals for scalable and hassle-free simulation-based inference
          (Deistler, Goncalves & Macke 2022, arXiv:2210.04815), appendix 6.2
    """
    d = as_draws(draws, seed=seed)
    if d.hpd_ranks is None:
        raise ShapeError(
            "coverage", expected="log_prob_true and log_prob_draws", got="None",
            fix="draw with CalibrationDraws.from_posterior, or leave this check out",
        )  # fmt: skip
    test = ecdf_test(d.hpd_ranks[d.members], d.n_draws)
    details = ecdf_details(d, d.hpd_ranks, [test], false_alarm, ["density"])
    rows = coverage_rows(d.hpd_ranks, d, false_alarm)
    row = rows[LEVELS.index(0.68)]
    effect = row["actual"] - row["nominal"]
    passed = test.p_value >= false_alarm
    sign = "inside the band" if passed else ("over-confident" if effect < 0 else "under-confident")
    return Check(
        name="coverage", kind="coverage", statistic=test.gamma, p_value=test.p_value,
        effect=effect, band=(row["lower"] - row["nominal"], row["upper"] - row["nominal"]),
        passed=passed, false_alarm=false_alarm,
        summary=f"68 % regions hold the truth in {100 * row['actual']:.1f} % of tests ({sign})",
        note=d.note(),
        details=details | {
            "levels": rows, "labels": ["density"], "xlabel": "nominal coverage",
            "mean_deviation": float(0.5 - np.mean((d.hpd_ranks + 0.5) / (d.n_draws + 1))),
        },
    )  # fmt: skip


def coverage_rows(
    ranks: np.ndarray, d: CalibrationDraws, false_alarm: float
) -> list[dict[str, float]]:
    """Nominal and actual coverage with the band, at the levels that L draws come nearest to."""
    z, lower, upper = simultaneous_band(len(d.members), d.n_draws, false_alarm)
    rows = []
    for level in LEVELS:
        i = int(np.abs(z - level).argmin())
        k = round(z[i] * (d.n_draws + 1)) - 1
        values = (z[i], (ranks <= k).mean(), lower[i], upper[i])
        rows.append(
            dict(zip(("nominal", "actual", "lower", "upper"), map(float, values), strict=True))
        )
    return rows
