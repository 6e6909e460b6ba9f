"""The tables of checks behind the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .blocks import CheckLine, CheckTable, Table

if TYPE_CHECKING:
    from sbitools.calibration.check import Check

__all__ = ["MEANING", "check_table", "p_text", "transfer_table"]

MEANING = {
    "sbc": "In repeated tests the true value must fall anywhere among the posterior draws, "
    "equally often at every rank.",
    "coverage": "A region said to hold the truth with 68 % probability must do so in 68 % of "
    "tests, and so at every level.",
    "tarp": "The same for balls around random points: sees errors in how parameters are "
    "correlated.",
    "recovery": "How well posterior means follow the truth; not a test, a measure of what the "
    "field tells.",
    "contraction": "How much narrower posteriors are than the prior; and posteriors, averaged "
    "over tests, must give back the prior.",
    "transfer ranks": "Ranks must be distributed in the same way on both kinds of tests.",
    "transfer coverage": "Credible regions must hold the truth equally often on both.",
    "transfer tarp": "Distances to random points must be distributed in the same way on both.",
    "transfer bias": "Posterior means must be off by the same number of sigmas on both.",
    "transfer width": "Errors must be as large, in posterior sigmas, on both.",
    "transfer log_prob": "The posterior must give the truth the same density on both.",
}


def check_table(emulated: Sequence[Check], reference: Sequence[Check] | None) -> CheckTable:
    """Every check on emulated and on reference tests."""
    others = {check.name: check for check in reference or ()}
    rows = []
    for check in emulated:
        lines = [_line("emulated", check)]
        if check.name in others:
            lines.append(_line("reference", others[check.name]))
        rows.append((check.name, MEANING.get(check.name, ""), lines))
    return CheckTable(rows, f"{_EFFECTS} {_threshold(emulated)}")


_EFFECTS = (
    "Effect: for sbc and tarp, the largest difference between the cumulative distribution of "
    "ranks and a uniform one; for coverage, actual minus nominal coverage of 68 % regions; for "
    "recovery, the smallest R² of a parameter; for contraction, the smallest contraction. Band: "
    "for sbc, coverage and tarp, what chance alone makes of the effect; for recovery and "
    "contraction, its 95 % interval. p: how often chance makes a deviation this large if the "
    "posterior is exact; for contraction, of posteriors averaged over tests from the prior."
)


def _threshold(checks: Sequence[Check]) -> str:
    """Below which p a line fails, and how often a set of lines does so by chance."""
    levels = [check.false_alarm for check in checks if check.false_alarm is not None]
    if not levels:
        return ""
    return (
        f"A line fails if p is below {max(levels):.2g}, so that an exact posterior fails any line "
        f"of one kind of tests in {100 * sum(levels):.2g} % of runs."
    )


def _line(tests: str, check: Check) -> CheckLine:
    return CheckLine(tests, *_cells(check))


def transfer_table(differences: Sequence[Check]) -> Table:
    """Differences between emulated and reference tests."""
    rows = [
        (c.name.removeprefix("transfer "), MEANING.get(c.name, ""), *_cells(c))
        for c in differences
    ]
    levels = [check.false_alarm for check in differences if check.false_alarm is not None]
    return Table(
        ("difference in", "what it asks", "effect", "95 % band", "p", "result"), rows,
        caption="Reference minus emulated, of the parameter that differs most. Effect: for ranks "
        "and tarp, the largest difference of the two cumulative distributions; for coverage, that "
        "of 68 % regions; for bias, in posterior sigmas; for width, the relative change of errors "
        "in posterior sigmas; for log_prob, in nats. Bands hold for all parameters at once. A "
        "failed line says that the posterior behaves differently on fields of the reference, by "
        f"the amount under “effect”. A line fails if p is below {max(levels, default=0):.2g}, so "
        f"that without any difference one of them fails in {100 * sum(levels):.2g} % of runs.",
        numeric=frozenset({2, 3, 4}),
    )  # fmt: skip


def _cells(check: Check) -> list[str]:
    band = "-" if check.band is None else f"{check.band[0]:+.3f} to {check.band[1]:+.3f}"
    return [f"{check.effect:+.3f}", band, p_text(check.p_value), result_text(check.passed)]


def p_text(p_value: float | None) -> str:
    """A p-value with two digits, or a dash."""
    if p_value is None:
        return "-"
    return "< 0.0001" if p_value < 1e-4 else f"{p_value:.2g}"


def result_text(passed: bool | None) -> str:
    """pass, fail, or not tested."""
    return {True: "pass", False: "fail", None: "not tested"}[passed]
