"""The tables of checks behind the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .blocks import CheckLine, CheckTable, Table

if TYPE_CHECKING:
    from sbitools.calibration.check import Check
    from sbitools.calibration.sets import CheckSets

__all__ = ["MEANING", "check_table", "p_text", "power_table", "set_table", "transfer_table"]

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
    "latent": "Where the network puts the truth in its latent space must be a standard normal, "
    "unrelated to the field's summaries.",
    "conditional": "Bias and width must not follow, in any smooth way, what the field says.",
    "information": "What a field tells about the parameters, at least, in nats; not a test. A "
    "wrong posterior lowers this bound and never raises it.",
    "transfer ranks": "Ranks must be distributed in the same way on both kinds of tests.",
    "transfer coverage": "Credible regions must hold the truth equally often on both.",
    "transfer tarp": "Distances to random points must be distributed in the same way on both.",
    "transfer bias": "Posterior means must be off by the same number of sigmas on both.",
    "transfer width": "Errors must be as large, in posterior sigmas, on both.",
    "transfer log_prob": "The posterior must give the truth the same density on both.",
}


def check_table(result: CheckSets) -> CheckTable:
    """Every check on emulated and on reference tests."""
    others = {check.name: check for check in result.reference or ()}
    rows = []
    for check in result.emulated:
        lines = [_line(result.own_tests, check)]
        if check.name in others:
            lines.append(_line("reference", others[check.name]))
        rows.append((check.name, MEANING.get(check.name, ""), lines))
    tested = [check for checks in (result.emulated, others.values()) for check in checks]
    return CheckTable(rows, f"{_EFFECTS} {_threshold(tested, result.false_alarm)}")


_EFFECTS = (
    "Effect: for sbc and tarp, the largest difference between the cumulative distribution of "
    "ranks and a uniform one; for coverage, actual minus nominal coverage of 68 % regions; for "
    "recovery, the smallest R² of a parameter; for contraction, the smallest contraction; for "
    "latent, by which share latents spread wider than they should; for information, nats. Band: "
    "for sbc, coverage, tarp and latent, what chance alone makes of the effect; for recovery, "
    "contraction and information, its 95 % interval. p: how often chance makes a deviation this "
    "large if the posterior is exact; for contraction, of posteriors averaged over tests from the "
    "prior. Power: how often the line would catch a wrong posterior, from the least to the most "
    "visible of those named in the table above."
)


def _threshold(checks: Sequence[Check], false_alarm: float) -> str:
    """Below which p a line fails, and how often a set of lines does so by chance."""
    levels = [check.false_alarm for check in checks if check.false_alarm is not None]
    if not levels:
        return ""
    return (
        f"A line fails if p is below its level (at most {max(levels):.2g}), chosen from the joint "
        "null so that an exact posterior fails any line of one kind of tests in "
        f"{100 * false_alarm:g} % of runs."
    )


def set_table(result: CheckSets) -> Table:
    """Each set of checks as one test: its joint p-value, false-alarm rate and power."""
    rows = []
    wrong = _alternatives(c for checks in result.sets().values() for c in checks)
    for kind, checks in result.sets().items():
        tested = [check for check in checks if check.passed is not None]
        found = next((c.details["power of the set"] for c in tested if "power" in c.details), {})
        n = result.counts.get(kind, {})
        failed = any(check.passed is False for check in tested)
        rows.append((
            _name(result, kind), str(n.get("independent", n.get("tests", "-"))), str(len(tested)),
            p_text(result.joint.get(kind)), f"{100 * result.false_alarm:g} %",
            *(_share(found.get(name)) for name in wrong),
            result_text(not failed if tested else None),
        ))  # fmt: skip
    return Table(
        ("set", "independent tests", "checks", "joint p", "false-alarm rate",
         *(f"power: {name}" for name in wrong), "result"), rows,
        "All checks of a set taken together. Joint p: how often chance makes the most extreme of "
        "them as extreme if the posterior is exact. False-alarm rate: how often an exact one "
        "would fail the set. Power: how often the set catches a posterior that is wrong by the "
        "amount named, with as many tests as there are here. A pass means no more than that.",
        frozenset(range(1, 5 + len(wrong))),
    )  # fmt: skip


def power_table(result: CheckSets) -> Table | None:
    """Power of every check against each wrong posterior; None where it was not computed."""
    rows = [
        (check.name, _name(result, kind), _level(check),
         *(_share(v) for v in check.details["power"].values()))
        for kind, checks in result.sets().items() for check in checks if "power" in check.details
    ]  # fmt: skip
    if not rows:
        return None
    wrong = _alternatives(check for checks in result.sets().values() for check in checks)
    return Table(
        ("check", "set", "level", *wrong), rows,
        "Power of each check alone: the probability to fail, at its level and with as many tests "
        "as there are, if the posterior is wrong in this way in every parameter. Simulated for "
        "normal posteriors, to 7 %.",
        frozenset(range(2, 3 + len(wrong))),
    )  # fmt: skip


def _name(result: CheckSets, kind: str) -> str:
    return result.own_tests if kind == "emulated" else kind


def _alternatives(checks: Iterable[Check]) -> list[str]:
    """The wrong posteriors against which the power is known."""
    return list(next((c.details["power"] for c in checks if "power" in c.details), {}))


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def _level(check: Check) -> str:
    return "-" if check.false_alarm is None or check.passed is None else f"{check.false_alarm:.2g}"


def _line(tests: str, check: Check) -> CheckLine:
    effect, band, p_value, result = _cells(check)
    found: dict[str, Any] = check.details.get("power", {})
    low, high = (round(100 * end(found.values(), default=0)) for end in (min, max))
    power = f"{low} – {high} %" if found else "-"
    return CheckLine(tests, effect, band, p_value, _level(check), power, result)


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
