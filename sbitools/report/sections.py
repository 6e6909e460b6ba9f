"""The sections of the report, each from artifacts of one or two stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sbitools.chain.choosing import compares
from sbitools.disk.files import read_json
from sbitools.display.corner import axis_bounds

from .artifacts import load_examples, load_statistics
from .blocks import Block, Figure, Paragraph, Row, Section, Table
from .bookkeeping import (
    campaign_section,
    cost_section,
    curve,
    provenance_section,
    training_section,
)  # fmt: skip
from .emulator_figures import emulator_blocks
from .measures import measure_sections
from .mending import mending_sections
from .observing import observation_section
from .posterior_figures import calibration_panel, corner, recovery_panel
from .tables import check_table, power_table, set_table, transfer_table
from .worth import worth_section

if TYPE_CHECKING:
    from sbitools.calibration.check import Check
    from sbitools.calibration.sets import CheckSets
    from sbitools.chain.run import Run

__all__ = ["build_sections", "calibration_sections"]

_PANELS = {
    "sbc": "Ranks. The cumulative distribution of the truth's rank among posterior draws, minus "
    "the diagonal. Inside the band: calibrated. A line above zero on the left and below on the "
    "right: intervals too narrow; the reverse: too wide. One-sided: bias.",
    "coverage": "Expected coverage. How often regions of a given credibility hold the truth. "
    "Below the diagonal: over-confident, intervals too small. Above: too cautious.",
    "tarp": "TARP. The same for balls around random points, in all parameters at once: it sees "
    "errors in correlations, which single parameters hide.",
    "conditional": "Ranks given x. Mean normal score of ranks, in sigmas, in the order of the "
    "number that it follows most: zero everywhere if bias and width do not depend on x.",
    "contraction": "Contraction. 1 if a field fixes the parameter, 0 if it says nothing.",
}


def build_sections(run: Run, result: CheckSets, facts: dict[str, Any]) -> list[Section]:
    """All sections, in reading order.

    Args:
        run: whose artifacts are read.
        result: of the calibration.
        facts: from `provenance.provenance`.
    """
    emulator = [] if run.emulation is None else [_emulator(run)]
    if compares(run):
        emulator.append(worth_section(read_json(run.folder("choice") / "result.json")))
    data = [] if run.config.observation is None else [observation_section(run)]
    return [
        *_remarks(run), _checks(result), *data, *emulator, _posteriors(run), _calibration(result),
        *measure_sections(result), _recovery(result), *mending_sections(run),
        training_section(run), campaign_section(run), cost_section(run), provenance_section(facts),
    ]  # fmt: skip


def _remarks(run: Run) -> list[Section]:
    """What the system has to say to every reader."""
    remarks = getattr(run.system, "remarks", None)
    blocks: list[Block] = [Paragraph(t) for t in remarks(run.settings)] if remarks else []
    lead = "What the system has to say before anything else."
    return [Section("remarks", "To be confirmed", lead, blocks)] if blocks else []


def calibration_sections(result: CheckSets) -> list[Section]:
    """The sections that need nothing but a calibration."""
    return [
        _checks(result), _calibration(result), *measure_sections(result), _recovery(result)
    ]  # fmt: skip


def _checks(result: CheckSets) -> Section:
    blocks: list[Block] = [set_table(result), check_table(result)]
    if result.transfer:
        blocks.append(transfer_table(result.transfer))
    power = power_table(result)
    blocks += [power] if power is not None else []
    notes = sorted({c.note for c in [*result.emulated, *(result.reference or [])] if c.note})
    blocks += [Paragraph(f"Note: {note}.", "note") for note in notes]
    if result.reference is None:
        lead = (
            "Every check was run on simulations of the reference that the posterior has not seen."
            if result.no_emulator
            else "Every check was run on new fields of the simulator the posterior was trained on."
        )
    else:
        lead = (
            "Every check was run twice with the same code: on new emulated fields, and on fields "
            "of the expensive reference simulator. The reference lines are the ones that count "
            "for real data."
        )
    return Section("checks", "Checks", lead, blocks)


def _emulator(run: Run) -> Section:
    statistics = load_statistics(run.folder("validation") / "statistics.npz")
    history = read_json(run.folder("emulator") / "history.json")
    emulation = run.emulation
    assert emulation is not None  # noqa: S101  (the run has an emulator)
    blocks: list[Block] = [Paragraph(f"Method: {emulation.name}; {emulation.why}.")]
    blocks += emulator_blocks(statistics)
    other = statistics.get("equal_theta") or "fields_caption" in statistics
    same = "at the same parameters" if other else "from the same initial conditions"
    blocks.append(curve(history, "emulator", "loss of the emulator"))
    return Section(
        "emulator", "Emulator",
        "The emulator learnt from a few expensive simulations. Here it is compared with reference "
        f"simulations it has not seen, {same}.", blocks,
    )  # fmt: skip


def _posteriors(run: Run) -> Section:
    examples = load_examples(run.folder("calibration") / "examples.npz")
    space = run.reference.parameters.inferred
    bounds = axis_bounds(examples.draws, space, examples.truth)
    figures = [
        Figure(
            corner(draws, truth, space.labels, bounds, f"reference test {index}"),
            f"corner plot of the posterior for reference test {index}",
            "", wide=True,
        )
        for index, draws, truth in zip(
            examples.indices, examples.draws, examples.truth, strict=True
        )
    ]  # fmt: skip
    return Section(
        "posteriors", "Posteriors",
        "Posteriors for fields of the reference simulator, with the true parameters in orange. "
        "Dark and light areas hold 68 % and 95 % of the probability; the truth should be inside "
        "the dark one about two times in three. On the diagonal, the shaded part runs from the 16 "
        "to the 84 % quantile. Axes are the same in all of them and never leave the prior.",
        [Row(figures)],
    )  # fmt: skip


def _calibration(result: CheckSets) -> Section:
    paired = result.reference is not None
    tests = "emulated and reference" if paired else result.own_tests
    lead = f"Blue: {result.own_tests} tests, which show whether training succeeded."
    if paired:
        lead += " Orange: reference tests, which show whether it holds for the real simulator."
    figures = [
        Figure(
            calibration_panel(check, _same(result, check.name), result.own_tests),
            f"{check.name} on {tests} tests", _panel(check.name, paired),
        )
        for check in result.emulated if check.name in _PANELS
    ]  # fmt: skip
    return Section(
        "calibration", "Calibration", f"{lead} Shaded bands are what chance allows.",
        [Row(figures[i : i + 2]) for i in range(0, len(figures), 2)],
    )  # fmt: skip


def _panel(name: str, paired: bool) -> str:
    if name == "contraction" and paired:
        return f"{_PANELS[name]} Emulated and reference fields should tell equally much."
    return _PANELS[name]


def _same(result: CheckSets, name: str) -> Check | None:
    return next((check for check in result.reference or () if check.name == name), None)


def _recovery(result: CheckSets) -> Section:
    blocks: list[Block] = []
    for check in sorted(result.emulated, key=lambda check: check.name != "recovery"):
        if check.name == "recovery":
            source = recovery_panel(check, _same(result, "recovery"), result.own_tests)
            blocks.append(Figure(
                source, "posterior mean against truth",
                "Parameter recovery. Posterior mean and standard deviation against the truth. "
                "Points scatter around the diagonal; flat clouds mean that the field says little "
                "about that parameter.",
            ))  # fmt: skip
        if check.name in ("recovery", "contraction"):
            blocks += _tables(check, _same(result, check.name), result.own_tests)
    return Section(
        "recovery", "Recovery",
        "What the fields tell about the parameters, and how far posteriors are from the prior.",
        blocks,
    )  # fmt: skip


_COLUMNS = {
    "recovery": (("r2", "R²"), ("nrmse", "NRMSE"), ("bias", "bias"), ("mean_z", "bias in sigma"),
                 ("sd_z", "error / stated error")),
    "contraction": (("contraction", "contraction"), ("p_value", "p (average = prior)")),
}  # fmt: skip


def _tables(emulated: Check, reference: Check | None, name: str) -> list[Block]:
    columns = _COLUMNS[emulated.name]
    rows = []
    for tests, check in ((name, emulated), ("reference", reference)):
        for row in check.details["parameters"] if check is not None else ():
            cells = [_number(row, key) for key, _ in columns]
            rows.append((row["name"], tests, *cells))
    captions = {
        "recovery": "R² is 1 for perfect recovery; NRMSE is the error in units of the prior's "
        "spread; an exact posterior has error / stated error 1. ± is one standard error.",
        "contraction": "Contraction is 1 if a field fixes the parameter, 0 if it says nothing. "
        "± is one standard error.",
    }
    headings = ("parameter", "tests", *(heading for _, heading in columns))
    numeric = frozenset(range(2, len(headings)))
    return [Table(headings, rows, captions[emulated.name], numeric)]


def _number(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if value is None:
        return "-"
    error = row.get("error" if key == "contraction" else f"{key}_error")
    if key == "p_value" and value < 1e-4:
        return "< 0.0001"
    return f"{value:.3g}" + ("" if error is None else f" ± {error:.1g}")
