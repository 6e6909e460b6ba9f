"""The verdict in plain words, and the table of checks behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sbitools.calibration.verdict import verdict as judge

from .blocks import CheckLine, CheckTable, Table

if TYPE_CHECKING:
    from sbitools.calibration import CalibrationResult
    from sbitools.calibration.check import Check

__all__ = ["MEANING", "Verdict", "check_table", "transfer_table", "verdicts"]

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


@dataclass(frozen=True)
class Verdict:
    """One coloured box.

    Args:
        key: ``"self"`` or ``"transfer"``.
        passed: None if nothing was tested.
        title: one line.
        text: what follows from it, for a newcomer.
        evidence: the numbers, one sentence each.
        caution: nothing failed outright, but there is a reservation, which the text names.
    """

    key: str
    passed: bool | None
    title: str
    text: str
    evidence: list[str]
    caution: bool = False


def verdicts(result: CalibrationResult) -> list[Verdict]:
    """The verdicts of a calibration: self-consistency, then transfer to the reference."""
    found = [_self_consistency(result)]
    if result.reference is not None:
        found.append(_transfer(result, result.reference, result.transfer or []))
    return found


def _self_consistency(result: CalibrationResult) -> Verdict:
    failed, n = _failed(result.emulated), result.counts["emulated"]["tests"]
    # The calibration judges: besides failed checks, it minds tests that gave no draws.
    passed = judge(replace(result, reference=None, transfer=None)).passed
    if passed:
        text = (
            f"On {n} new fields of the emulator it was trained on, the posterior is calibrated: "
            "its probabilities mean what they say, within the bands below. This alone says "
            "nothing yet about the real simulator."
        )
    else:
        text = (
            f"On {n} new fields of the emulator it was trained on, the posterior is not "
            f"calibrated ({_reasons(failed)}). Train it longer or on more emulated fields before "
            "its intervals are used."
        )
    title = f"Self-consistency: {'passed' if passed else 'failed'}"
    learnt = _learnt(result.emulated)
    silent = passed and learnt is not None and learnt < _LITTLE
    if silent:
        title += ", but almost nothing was learnt"
        text = (
            f"On {n} new fields of the emulator the posterior is calibrated, but only because it "
            "repeats the prior: it has learnt almost nothing from the fields. Train it longer, on "
            "more emulated fields or on fields with less noise."
        )
    return Verdict("self", passed, title, text, _evidence(result.emulated), caution=silent)


def _transfer(
    result: CalibrationResult, checks: Sequence[Check], differences: Sequence[Check]
) -> Verdict:
    failed, changed = _failed(checks), _failed(differences)
    n = result.counts["reference"]["tests"]
    alone = replace(
        result, emulated=list(checks), reference=None, transfer=None,
                    counts={"emulated": result.counts["reference"]})  # fmt: skip
    calibrated = judge(alone).passed
    # A posterior that fails on emulated fields can pass here only for want of tests, or by luck.
    consistent = judge(replace(result, reference=None, transfer=None)).passed
    title = "Transfer to the reference simulator: "
    if calibrated and not consistent:
        title += "no failure seen, but not self-consistent"
        text = (
            f"On {n} fields of the expensive reference simulator no check fails. But on the "
            "emulator's own fields the posterior is not calibrated, so this is luck or too few "
            "tests."
        )
    elif not calibrated:
        title += "failed"
        text = (
            f"On {n} fields of the expensive reference simulator the posterior is not calibrated "
            f"({_reasons(failed)}). The sizes below say how far off it is. Its intervals need "
            "that correction, or the emulator needs more reference simulations."
        )
    elif changed:
        title += "calibrated, but not as on emulated fields"
        text = (
            f"On {n} fields of the expensive reference simulator the posterior is calibrated "
            f"within the bands, yet it behaves measurably differently ({_reasons(changed)}): the "
            "emulator is not a perfect copy. The sizes below say by how much."
        )
    else:
        title += "passed"
        text = (
            f"On {n} fields of the expensive reference simulator, which neither the emulator nor "
            "the posterior has seen, the posterior is calibrated within the bands below, and no "
            "difference to emulated fields is larger than chance allows."
        )
    evidence = _evidence([*checks, *differences])
    passed = calibrated and not changed and consistent
    return Verdict("transfer", passed, title, text, evidence, caution=calibrated and not passed)


def _failed(checks: Sequence[Check]) -> list[Check]:
    return [check for check in checks if check.passed is False]


# What a failed check found, for a reader who does not know its name.
_FOUND = {
    "sbc": "the truth's ranks among draws are not uniform (sbc)",
    "coverage": "credible regions hold the truth too rarely or too often (coverage)",
    "tarp": "balls around random points hold the truth too rarely or too often (tarp)",
    "contraction": "posteriors do not average to the prior (contraction)",
}


def _reasons(checks: Sequence[Check]) -> str:
    names = [check.name.removeprefix("transfer ") for check in checks]
    found = [_FOUND.get(check.name, name) for check, name in zip(checks, names, strict=True)]
    return "; ".join(found) if names else "too many tests gave no draws"


# A calibrated posterior whose variance is within 10 % of the prior's says nothing.
_LITTLE = 0.1


def _learnt(checks: Sequence[Check]) -> float | None:
    """Largest contraction of a parameter."""
    rows = [row for c in checks if c.name == "contraction" for row in c.details["parameters"]]
    return max((row["contraction"] for row in rows), default=None)


# What the boxes at the top show; everything else is in the tables.
_TELLING = ("sbc", "coverage", "transfer bias", "transfer width")


def _evidence(checks: Sequence[Check]) -> list[str]:
    return [_sentence(c) for c in checks if c.name in _TELLING or c.passed is False]


def _sentence(check: Check) -> str:
    return check.summary[:1].upper() + check.summary[1:]


def check_table(emulated: Sequence[Check], reference: Sequence[Check] | None) -> CheckTable:
    """Every check on emulated and on reference tests."""
    others = {check.name: check for check in reference or ()}
    rows = []
    for check in emulated:
        lines = [_line("emulated", check)]
        if check.name in others:
            lines.append(_line("reference", others[check.name]))
        rows.append((check.name, MEANING.get(check.name, ""), lines))
    return CheckTable(
        rows,
        "Effect: how large the deviation is. Band: for sbc, coverage and tarp, what chance alone "
        "makes it; for recovery and contraction, its 95 % interval. p: how often chance makes a "
        "deviation this large if the posterior is exact.",
    )


def _line(tests: str, check: Check) -> CheckLine:
    return CheckLine(tests, f"{check.statistic:.3g}", *_cells(check))


def transfer_table(differences: Sequence[Check]) -> Table:
    """Differences between emulated and reference tests."""
    rows = [
        (c.name.removeprefix("transfer "), MEANING.get(c.name, ""), *_cells(c))
        for c in differences
    ]
    return Table(
        ("difference in", "what it asks", "effect", "95 % band", "p", "result"), rows,
        caption="Reference minus emulated. A failed line says that the posterior behaves "
        "differently on fields of the reference, by the amount under “effect”.",
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
