"""Sections of what the chain does for a user's own simulations: worth, remarks, observation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sbitools.files import read_json

from .artifacts import load_draws
from .blocks import Block, Figure, Paragraph, Section, Table
from .posterior_figures import axis_bounds, corner

if TYPE_CHECKING:
    from sbitools.chain.run import Run

__all__ = ["method_block", "observation_section", "remark_blocks", "worth_section"]


def method_block(run: Run) -> Paragraph:
    """How the emulator was chosen."""
    emulation = run.emulation
    assert emulation is not None  # noqa: S101  (the run has an emulator)
    return Paragraph(f"Method: {emulation.name}; {emulation.why}.")


def remark_blocks(run: Run) -> list[Block]:
    """What the system has to say to every reader."""
    remarks = getattr(run.system, "remarks", None)
    return [] if remarks is None else [Paragraph(text) for text in remarks(run.settings)]


def worth_section(result: dict[str, Any]) -> Section:
    """The posteriors with and without the emulator, and which one was kept."""
    rows = [
        (
            s["name"], f"{s['mean']:.3f} ± {s['error']:.2g}",
            "-" if s["name"] == result["chosen"]
            else f"{-s['behind']:+.3f} ± {s['behind_error']:.2g}",
            "kept" if s["name"] == result["chosen"] else "",
        )
        for s in result.get("scores", [])
    ]  # fmt: skip
    blocks: list[Block] = []
    if rows:
        blocks.append(Table(
            ("trained on", "log density of the truth [nats]", "against the one kept", ""), rows,
            f"Means over {result['n']} held-out reference simulations, ± one standard error; "
            "differences are paired. The choice itself, cross-fitted: "
            f"{result['cross_fitted']:.3f} nats.", frozenset({1, 2}),
        ))  # fmt: skip
        blocks.append(Paragraph(result["summary"][:1].upper() + result["summary"][1:] + "."))
    blocks += [
        Paragraph(f"Trained on {name}: failed ({text}).", "note")
        for name, text in result["failed"].items()
    ]
    return Section(
        "worth", "With and without the emulator",
        "Posteriors were also trained on the reference simulations alone, and on them after "
        "emulated ones. The best on simulations that none of them has seen was kept: it is the "
        "one that is calibrated below.", blocks,
    )  # fmt: skip


def observation_section(run: Run) -> Section:
    """The posterior of the data."""
    folder = run.folder("observation")
    result, draws = read_json(folder / "result.json"), load_draws(folder / "draws.npz")
    space = run.reference.parameters.inferred
    rows = [
        (
            p.name, f"{r['mean']:.4g}", f"{r['sd']:.3g}", f"{r['low68']:.4g} to {r['high68']:.4g}",
            f"{r['low95']:.4g} to {r['high95']:.4g}", p.unit,
        )
        for p in space for r in [result["parameters"][p.name]]
    ]  # fmt: skip
    blocks: list[Block] = [
        Figure(
            corner(draws, None, space.labels, axis_bounds(draws, space), result["name"]),
            "corner plot of the posterior of the observation", "", wide=False,
        ),
        Table(("parameter", "mean", "sd", "68 %", "95 %", "unit"), rows,
              f"{result['n_draws']} draws, which are beside this report's folder in "
              "observation/draws.csv.", frozenset({1, 2, 3, 4})),
    ]  # fmt: skip
    if result["repair"]:
        blocks.append(Paragraph(f"Repair: {result['repair']}.", "note"))
    return Section(
        "observation", "Your observation",
        "The posterior of the field that the configuration names. It is worth what the checks "
        "above and below say of this posterior on the reference simulator.", blocks,
    )  # fmt: skip
