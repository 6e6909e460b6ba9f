"""The verdict in words: what passed, and how large what failed is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .check import Check
    from .result import CalibrationResult

__all__ = ["Verdict", "verdict"]

# Checks speak for the tests they used. If more than this share of tests had to be left out, they
# do not speak for the posterior.
_MAX_EXCLUDED = 0.05

# An effect is named if it is this many of its standard errors from none.
_NOTABLE = 3.0


class Verdict(NamedTuple):
    """Did it pass, and why."""

    passed: bool
    text: str


def verdict(result: CalibrationResult) -> Verdict:
    """Verdict on the emulated tests and, if there are any, on the transfer to the reference."""
    own = _judge(result, "emulated", result.emulated)
    head = "Self-consistent" if own.passed else "Not self-consistent"
    text = f"{head}: {own.text}."
    if result.reference is None:
        return Verdict(own.passed, f"{text} Transfer to a reference simulator was not tested.")
    there = _judge(result, "reference", result.reference)
    changed = [c for c in result.transfer or [] if c.passed is False]
    passes = there.passed and not changed
    head = "Transfers" if passes else "Does not transfer"
    extra = ""
    if changed:
        extra = f"; it differs from the emulated tests in {_join(_short(c) for c in changed)}"
        if there.passed:
            extra += f" ({'; '.join(c.summary for c in changed)})"
    return Verdict(own.passed and passes, f"{text} {head}: {there.text}{extra}.")


def _judge(result: CalibrationResult, kind: str, checks: list[Check]) -> Verdict:
    counts = result.counts[kind]
    tested = [c for c in checks if c.passed is not None]
    failed = [c.name for c in tested if c.passed is False]
    what = f"on {counts['tests']} {kind} tests "
    if failed:
        what += f"{_join(failed)} {'fails' if len(failed) == 1 else 'fail'}"
    else:
        what += f"all {len(tested)} checks pass"
    what += f" (joint false-alarm rate {100 * result.false_alarm:g} %)"
    excluded, total = counts["excluded"], counts["tests"] + counts["excluded"]
    if excluded:
        what += f", {excluded} of {total} tests excluded because the posterior gave no draws"
    few = excluded <= _MAX_EXCLUDED * total
    effects = _effects(checks, notable=bool(failed))
    return Verdict(not failed and few, "; ".join([what, *effects]))


def _effects(checks: list[Check], notable: bool) -> list[str]:
    """Effect sizes: coverage always, bias and width of the parameters where they stand out."""
    by_name = {c.name: c for c in checks}
    parts = [by_name["coverage"].summary.rsplit(" (", 1)[0]] if "coverage" in by_name else []
    if not notable:
        return parts
    rows = by_name["recovery"].details["parameters"] if "recovery" in by_name else []
    words = [w for row in rows for w in _words(row)]
    if words:
        return [*parts, ", ".join(words)]
    failed = [c.summary for c in checks if c.passed is False and c.name != "coverage"]
    return parts + failed


def _words(row: dict[str, Any]) -> list[str]:
    """Bias and width of one parameter in plain words."""
    words, name = [], row["name"]
    if abs(row["sd_z"] - 1) > _NOTABLE * row["sd_z_error"] and row["sd_z"] > 0:
        # A z-score is stated in too small a unit by this factor if intervals are too narrow.
        missing = 1 / row["sd_z"] - 1
        kind = "too narrow" if missing < 0 else "too wide"
        words.append(f"intervals of {name} {100 * abs(missing):.0f} % {kind}")
    if abs(row["mean_z"]) > _NOTABLE * row["mean_z_error"]:
        words.append(f"bias {row['mean_z']:+.2f} sigma in {name}")
    return words


def _short(check: Check) -> str:
    return check.name.removeprefix("transfer ").replace("log_prob", "log density")


def _join(words: Iterable[str]) -> str:
    names = list(words)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
