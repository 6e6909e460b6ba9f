"""The verdict in words: what passed, and how large what failed is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from .check import Check, in_digits
from .sets import CheckSets

__all__ = ["NOTHING_TO_TRANSFER", "Verdict", "repeats_prior", "verdict"]

# Checks speak for the tests they used. If more than this share of tests had to be left out, they
# do not speak for the posterior.
_MAX_EXCLUDED = 0.05

# A posterior whose means explain less than this share of the parameters' variance says nothing.
_LITTLE = 0.1

NOTHING_TO_TRANSFER = (
    "The posterior repeats the prior on reference fields too; passing says nothing about the "
    "emulator."
)
"""Said of a posterior that passes on reference fields because it has learnt nothing."""

# Power below this is said to be too little.
_ENOUGH = 0.8

# A posterior of more than twice the prior's variance, or means that err by as much, is worse than
# the prior: no check of ranks may speak for it.
_WORST = -1.0
_FEWEST_TESTS = 10  # of which R² says anything

# An effect is named if it is this many of its standard errors from none.
_NOTABLE = 3.0

# With fewer draws a squared z-score of an exact posterior has no variance, its mean no error.
_FEWEST_DRAWS = 6


class Verdict(NamedTuple):
    """Did it pass, and why.

    `calibrated` looks at calibration alone: it is True too if the posterior passes because it
    repeats the prior, which is no pass.
    """

    passed: bool
    text: str
    calibrated: bool


def verdict(result: CheckSets) -> Verdict:
    """Verdict on the emulated tests and, if there are any, on the transfer to the reference."""
    own = _judge(result, "emulated", result.emulated)
    head = "Self-consistent" if own.passed else "Not self-consistent"
    if result.no_emulator:
        head = "Calibrated" if own.passed else "Not calibrated"
    text = f"{head}: {own.text}."
    silent = own.passed and repeats_prior(result.emulated)
    if silent:
        text += " But it repeats the prior: almost nothing was learnt."
    if result.reference is None:
        if not result.no_emulator:
            text += " Transfer to a reference simulator was not tested."
        return Verdict(own.passed and not silent, text, own.passed)
    there = _judge(result, "reference", result.reference)
    if own.passed and there.passed and repeats_prior(result.reference):
        return Verdict(False, f"{text} Nothing to transfer: {NOTHING_TO_TRANSFER}", True)
    changed = [c for c in result.transfer or [] if c.passed is False]
    passes = there.passed and not changed
    head = "Transfers" if passes else "Does not transfer"
    extra = ""
    if changed:
        extra = f"; it differs from the emulated tests in {_join(_short(c) for c in changed)}"
        if there.passed:
            extra += f" ({'; '.join(c.summary for c in changed)})"
    calibrated = own.passed and passes
    return Verdict(calibrated and not silent, f"{text} {head}: {there.text}{extra}.", calibrated)


def repeats_prior(checks: Iterable[Check]) -> bool:
    """True if posteriors tell almost nothing about any parameter, within the tests' own errors.

    Judged by the upper end of the band of the largest R²: means that stay at the prior's have
    R² <= 0 in every sample of tests, so a few of them suffice to say so. Contraction must not
    contradict it. Without R², by the upper end of contraction; False if there is neither.
    """
    rows = {c.name: c.details["parameters"] for c in checks}
    if "recovery" in rows:
        key = "low"
        if max(row["r2_high"] for row in rows["recovery"]) >= _LITTLE:
            return False
    elif "contraction" in rows:
        key = "high"
    else:
        return False
    return max((row[key] for row in rows.get("contraction", ())), default=0.0) < _LITTLE


def _judge(result: CheckSets, kind: str, checks: list[Check]) -> Verdict:
    counts = result.counts[kind]
    tested = [c for c in checks if c.passed is not None]
    failed = [c.name for c in tested if c.passed is False]
    what = f"on {counts['tests']} {result.own_tests if kind == 'emulated' else kind} tests "
    if failed:
        what += f"{_join(failed)} {'fails' if len(failed) == 1 else 'fail'}"
    else:
        what += f"all {len(tested)} checks pass"
    joint = f", joint p {_p(result.joint[kind])}" if kind in result.joint else ""
    what += f" (joint false-alarm rate {100 * result.false_alarm:g} %{joint})"
    excluded, total = counts["excluded"], counts["tests"] + counts["excluded"]
    if excluded:
        what += f", {excluded} of {total} tests excluded because the posterior gave no draws"
    if not failed:
        what += _weak(tested)
    many = counts["tests"] >= _FEWEST_TESTS
    worse = _worse_than_prior(checks, counts["draws"]) if many else []
    good = not failed and not worse and excluded <= _MAX_EXCLUDED * total
    if worse and not failed:
        what += f", but it is worse than the prior: {', '.join(worse)}"
    elif worse:
        what += f"; it is worse than the prior: {', '.join(worse)}"
    effects = _effects(checks, notable=bool(failed), widths=counts["draws"] >= _FEWEST_DRAWS)
    return Verdict(good, "; ".join([what, *effects]), good)


def _worse_than_prior(checks: Iterable[Check], n_draws: int) -> list[str]:
    """Contraction and R² far below zero, with their whole band: an exact posterior has neither.

    The mean of few draws errs by their number: R² of an exact posterior is above -1 / draws.
    """
    rows = {c.name: c.details["parameters"] for c in checks}
    found = [
        f"contraction of {r['name']} {in_digits(r['contraction'])}"
        for r in rows.get("contraction", ())
        if r["contraction"] < _WORST and r["high"] < 0
    ]  # fmt: skip
    return found + [
        f"R² of {r['name']} {in_digits(r['r2'])}" for r in rows.get("recovery", ())
        if r["r2"] < _WORST - 2 / n_draws and r["r2_high"] < 0
    ]  # fmt: skip


def _weak(tested: Iterable[Check]) -> str:
    """What these tests are too few to catch, of the wrong posteriors whose power is known."""
    found = next((c.details["power of the set"] for c in tested if "power" in c.details), {})
    missed = {wrong: share for wrong, share in found.items() if share < _ENOUGH}
    if not missed:
        return ""
    wrong = min(missed, key=lambda name: missed[name])
    return f"; so few tests catch a posterior {wrong} in only {100 * missed[wrong]:.0f} % of cases"


def _effects(checks: list[Check], notable: bool, widths: bool) -> list[str]:
    """Effect sizes: coverage always, bias and width of the parameters where they stand out."""
    by_name = {c.name: c for c in checks}
    parts = [by_name["coverage"].summary.rsplit(" (", 1)[0]] if "coverage" in by_name else []
    if not notable:
        return parts
    rows = by_name["recovery"].details["parameters"] if "recovery" in by_name else []
    words = [w for row in rows for w in _words(row, widths)]
    if words:
        return [*parts, ", ".join(words)]
    failed = [c.summary for c in checks if c.passed is False and c.name != "coverage"]
    return parts + failed


def _words(row: dict[str, Any], widths: bool) -> list[str]:
    """Bias and, if draws are enough to tell, width of one parameter in plain words."""
    words, name = [], row["name"]
    if widths and abs(row["sd_z"] - 1) > _NOTABLE * row["sd_z_error"] and row["sd_z"] > 0:
        # A z-score is stated in too small a unit by this factor if intervals are too narrow.
        missing = 1 / row["sd_z"] - 1
        kind = "too narrow" if missing < 0 else "too wide"
        words.append(f"intervals of {name} {100 * abs(missing):.0f} % {kind}")
    if abs(row["mean_z"]) > _NOTABLE * row["mean_z_error"]:
        words.append(f"bias {row['mean_z']:+.2f} sigma in {name}")
    return words


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"= {value:.2g}"


def _short(check: Check) -> str:
    return check.name.removeprefix("transfer ").replace("log_prob", "log density")


def _join(words: Iterable[str]) -> str:
    names = list(words)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
