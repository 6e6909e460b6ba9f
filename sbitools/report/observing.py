"""The section on the posterior of the observation that the configuration names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sbitools.disk.files import read_json
from sbitools.display.corner import axis_bounds

from .artifacts import load_draws
from .blocks import Block, Figure, Paragraph, Section, Table
from .posterior_figures import corner

if TYPE_CHECKING:
    from sbitools.chain.run import Run

__all__ = ["observation_section"]


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
