"""Sections about what misleads a posterior on the reference, and what a repair of it is worth."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .blocks import Block, Figure, Paragraph, Row, Section, Table
from .figures import canvas, embed, styled
from .tables import p_text, result_text

if TYPE_CHECKING:
    from sbitools.calibration.check import Check
    from sbitools.chain.run import Run
    from sbitools.repairs.judgement import Judgement

__all__ = ["attribution_section", "mending_sections", "repair_section"]

# Gains below are not worth a look, and are not blown up to one.
_SMALL = 0.02

_NAMES = {
    "fine_tune": "fine-tuned network", "recalibrate": "recalibrated marginals",
    "reweight": "reweighted draws",
}  # fmt: skip


def mending_sections(run: Run) -> list[Section]:
    """Attribution and repair, of a run whose configuration asks for a repair; else none."""
    from sbitools.calibration.check import Check
    from sbitools.chain.records import read_json
    from sbitools.repairs.judgement import Judgement

    if run.config.repair.method == "none":
        return []
    result = read_json(run.folder("repair") / "result.json")
    judged = [Judgement.from_dict(values) for values in result["tried"].values()]
    checks = [Check.from_dict(values) for values in result["attribution"]]
    return [attribution_section(checks), repair_section(judged, result["chosen"])]


def attribution_section(checks: list[Check]) -> Section:
    """Where the posterior's error on the reference comes from.

    Args:
        checks: of `sbitools.calibration.checks.attribution.attribute`.
    """
    figures = [
        Figure(_check_panel(check), check.name, _CAPTIONS[check.kind])
        for check in checks if check.kind in _CAPTIONS
    ]  # fmt: skip
    rows = [
        (c.name, c.summary, p_text(c.p_value), result_text(c.passed)) for c in checks
    ]  # fmt: skip
    levels = [c.false_alarm for c in checks if c.false_alarm is not None]
    table = Table(
        ("question", "answer", "p", "result"), rows,
        f"A line fails if p is below {max(levels, default=0.0):.2g}, so that with an exact "
        f"emulator one of them fails in at most {100 * sum(levels):.2g} % of runs.",
        frozenset({2}),
    )  # fmt: skip
    pairs = [figures[i : i + 2] for i in range(0, len(figures), 2)]
    blocks = [Row(two) if len(two) == 2 else replace(two[0], wide=False) for two in pairs]
    return Section(
        "attribution", "Attribution",
        "If the posterior is off on reference fields: is it the network, which is then off on "
        "emulated fields as well, or the emulator? And which statistic of emulated fields differs "
        "at equal parameters, and at which scale?", [table, *blocks],
    )  # fmt: skip


_CAPTIONS = {
    "spectrum": "Emulated minus reference at equal parameters, by bin, in units of the scatter "
    "between fields. The band holds for all bins at once.",
    "bias source": "Mean error in posterior sigmas: what is there on emulated tests already, and "
    "what comes on top on reference tests.",
    "explained": "How the bias changes from emulated to reference tests, and how much of that the "
    "difference in this statistic leads one to expect.",
}


def repair_section(judged: list[Judgement], chosen: str | None) -> Section:
    """What each repair gained on simulations that it did not see.

    Args:
        judged: one for each method that was tried.
        chosen: the method whose posterior was kept; None if the posterior stays as it was.
    """
    blocks: list[Block] = [Figure(
        _gain_panel(judged), "gain of each repair",
        "Log density of held-out reference truths, after minus before, with its 95 % interval. "
        "Right of zero: the repair helps.", wide=False,
    ), _gains(judged)]  # fmt: skip
    kept = next((j for j in judged if j.method == chosen), None)
    if kept is None:
        blocks.append(Paragraph("No repair helps beyond chance: the posterior stays as it was."))
    else:
        why = "" if kept.helps else ", because it was asked for: its gain is not beyond chance"
        blocks.append(Paragraph(
            f"Kept: {_NAMES.get(kept.method, kept.method)}, fitted to all {kept.n} simulations"
            f"{why}. Its checkpoint is in the folder of this stage. `sbitools sample` draws from "
            f"{'it' if kept.helps else 'the posterior as it was trained'}. Because it has seen "
            "all simulations, only new ones can test it again."
        ))  # fmt: skip
    shown = kept or max(judged, key=lambda j: j.gain)
    blocks += [_held_out_checks(shown), _levels(shown)]
    if "fit" in shown.details:
        blocks.append(_shape(shown.details["fit"]))
    return Section(
        "repair", "Repair",
        "Reference simulations can mend what the emulator got wrong. A repair is fitted to some "
        "of them and judged by the others, in turns, so that no simulation judges a repair that "
        "it helped to make.", blocks,
    )  # fmt: skip


def _gains(judged: list[Judgement]) -> Table:
    rows = [
        (_NAMES.get(j.method, j.method), f"{j.before:.3f}", f"{j.after:.3f}",
         f"{j.gain:+.3f} ± {_error(j.error)}", f"{j.band[0]:+.3f} to {j.band[1]:+.3f}",
         p_text(j.p_value), "yes" if j.helps else "not beyond chance")
        for j in judged
    ]  # fmt: skip
    n, folds = judged[0].n, judged[0].folds
    lost = max(j.excluded for j in judged)
    return Table(
        ("repair", "before", "after", "gain [nats]", "95 % interval", "p", "helps"), rows,
        f"Mean log density of the truth in nats, on {n} reference simulations in {folds} folds"
        f"{f', {lost} left out for want of draws' if lost else ''}. p: of no gain, "
        "times the number of repairs compared. A repair helps if p is below 5 %.",
        frozenset(range(1, 6)),
    )  # fmt: skip


def _error(value: float) -> str:
    return f"{value:.1g}" if value > 1e-6 else "0"


def _held_out_checks(judgement: Judgement) -> Table:
    rows = [
        (row["check"], row["set"], f"{row['effect']:+.3f}", p_text(row["p_value"]), row["summary"])
        for row in sorted(judgement.checks, key=lambda row: row["check"])
    ]
    return Table(
        ("check", "repair", "effect", "p", "in words"), rows,
        f"Checks on held-out draws, before and after: {_NAMES.get(judgement.method, '')}.",
        frozenset({2, 3}),
    )  # fmt: skip


def _levels(judgement: Judgement) -> Table:
    """Conformal levels: what to ask a posterior for, to get what one wants."""
    from sbitools.repairs.conformal import conformal_level

    rows = []
    for name, levels in (("before", judgement.levels_before), ("after", judgement.levels)):
        for wanted in (0.68, 0.95):
            found = conformal_level(levels, wanted)
            rows.append((f"{100 * wanted:.0f} %", name, f"{100 * found.credibility:.1f} %",
                         f"{100 * found.low:.1f} to {100 * found.high:.1f} %"))  # fmt: skip
    return Table(
        ("wanted coverage", "repair", "credibility to use", "coverage, 95 % interval"), rows,
        "Conformal levels: the credibility of the region of highest density that holds the truth "
        "as often as wanted. For an exact posterior both are the same.",
        frozenset({0, 2, 3}),
    )  # fmt: skip


_SHAPE = {
    "shift": "shift [sigma]", "log_width": "log width", "skew": "skew", "log_tail": "log tail",
}  # fmt: skip


def _shape(fit: list[dict[str, Any]]) -> Table:
    rows = [
        (row["name"], *(f"{row[key]:+.3f} ± {row[f'{key}_error']:.1g}" for key in _SHAPE))
        for row in fit
    ]
    return Table(
        ("parameter", *_SHAPE.values()), rows,
        "The recalibration of each marginal; all zero is no change. Positive shift: truths are "
        "above the posterior's mean. Positive log width: it was too narrow.",
        frozenset(range(1, 5)),
    )  # fmt: skip


@styled
def _gain_panel(judged: list[Judgement]) -> str:
    from sbitools.repairs.plots import draw_gains

    figure, axes = canvas(size=(6.4, 1.2 + 0.4 * len(judged)))
    ax = draw_gains(judged, axes[0, 0])
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, -_SMALL), max(high, _SMALL))
    return embed(figure)


@styled
def _check_panel(check: Check) -> str:
    from sbitools.calibration.plots import attribution as plots

    figure, axes = canvas(size=(4.9, 3.7))
    drawers = {"spectrum": plots.draw_spectrum, "bias source": plots.draw_bias_source,
               "explained": plots.draw_explained}  # fmt: skip
    ax = drawers[check.kind](check, axes[0, 0])
    if check.name == "bias of power":
        ax.set_xlabel("wavenumber k [1 / unit of the box]")
    if ax.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=3)
    return embed(figure)
