"""The numbers under a verdict: one sentence per check, each with its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sbitools.calibration.check import Check

__all__ = ["evidence", "resolution"]

# What the boxes at the top show; everything else is in the tables.
_TELLING = ("sbc", "coverage", "transfer bias", "transfer width")

# A check that passes with a p-value below this many times its level is worth a look.
_NEAR = 5

# Checks whose sentence is in hundredths, and what it calls them.
_HUNDREDTHS = {"transfer coverage": "points", "transfer width": "%"}

# Checks of coverage, the most telling first: their bands say what chance alone makes.
_CHANCE = ("coverage", "tarp", "sbc")

# The latents' band is one of chance as well, but not of a coverage.
_BY_CHANCE = (*_CHANCE, "latent", "conditional")


def evidence(checks: Sequence[Check]) -> list[str]:
    """Sentences of the most telling checks, of all that failed, and of those that nearly did."""
    return [
        _sentence(c) + (f"; p = {c.p_value:.2g}, fails below {c.false_alarm:.2g}" if near else "")
        for c, near in ((c, _nearly_failed(c)) for c in checks)
        if near or c.name in _TELLING or c.passed is False
    ]


def _nearly_failed(check: Check) -> bool:
    if not check.passed or check.p_value is None or check.false_alarm is None:
        return False
    return check.p_value < _NEAR * check.false_alarm


def _sentence(check: Check) -> str:
    if check.name == "contraction" and check.p_value is not None and "; " not in check.summary:
        return _average(check)
    return f"{check.summary[:1].upper()}{check.summary[1:]}{_uncertainty(check)}"


def _average(check: Check) -> str:
    """What a contraction check tests: the average posterior against the prior."""
    rows = check.details["parameters"]
    worst = min(rows, key=lambda row: row["p_value"])
    return (
        f"Averaged over tests, posteriors of {worst['name']} differ from the prior by up to "
        f"{worst['average_deviation']:+.3f} in cumulative probability (p = {check.p_value:.2g})"
    )


def _uncertainty(check: Check) -> str:
    if check.band is None:
        return ""
    low, high = check.band
    if check.name == "coverage":
        low, high = _coverage_interval(check)
        return f" (95 %: {100 * low:.0f} to {100 * high:.0f} %)"
    if check.name in _BY_CHANCE:
        return f" (chance alone: {low:+.3f} to {high:+.3f})"
    if check.name in _HUNDREDTHS:
        return f" (95 %: {100 * low:+.0f} to {100 * high:+.0f} {_HUNDREDTHS[check.name]})"
    return f" (95 %: {low:+.2f} to {high:+.2f})"


def _coverage_interval(check: Check) -> tuple[float, float]:
    """95 % interval of the actual coverage at 68 % (Wilson 1927, "Probable inference")."""
    n, z = check.details["n_independent"], 1.96
    row = min(check.details["levels"], key=lambda row: abs(row["nominal"] - 0.68))
    p = row["actual"]
    centre, scale = p + z**2 / (2 * n), 1 + z**2 / n
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return float((centre - half) / scale), float((centre + half) / scale)


def resolution(checks: Sequence[Check]) -> str:
    """What these tests are too few to see; empty if they test no coverage."""
    by_name = {check.name: check for check in checks}
    for name in _CHANCE:
        check = by_name.get(name)
        if check is not None and check.band is not None and "n_independent" in check.details:
            points = 100 * max(abs(end) for end in check.band)
            n = check.details["n_independent"]
            return f"with {n} tests a coverage error below {points:.0f} points would go unseen"
    return ""
