"""The section on what the emulator was worth: posteriors with and without it."""

from __future__ import annotations

from typing import Any

from .blocks import Block, Paragraph, Section, Table

__all__ = ["worth_section"]


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
        "emulated ones. The best on simulations that none of them has seen was kept, the plainest "
        "of those less than a standard error apart: it is the one that is calibrated below.",
        blocks,
    )  # fmt: skip
