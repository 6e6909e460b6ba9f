"""Lines on a terminal that tell how far a work is; the next one overwrites them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rich.console import Console
from rich.text import Text

from .bars import clock, drawn, losses

__all__ = ["epoch_printer", "pass_by", "terminal"]


def epoch_printer(epochs: int | None) -> Callable[[Mapping[str, float]], None]:
    """What prints a line per epoch of a training, where no bar is seen that tells the same.

    Args:
        epochs: how many there are at most, if that is known.

    Returns:
        A function of the rows of a `TrainingHistory`.
    """
    console, total = terminal(), f"/{epochs}" if epochs else ""

    def show(row: Mapping[str, float]) -> None:
        if drawn():
            return
        parts = [f"epoch {int(row['epoch']) + 1}{total}", losses(row)]
        parts = [part for part in (*parts, clock(row.get("seconds", 0.0))) if part]
        pass_by(console, Text("  " + "  ".join(parts)))

    return show


def pass_by(console: Console, text: Text) -> None:
    """A line that the next one overwrites on a terminal, and an ordinary one elsewhere."""
    if console.is_terminal:
        text.truncate(console.width - 1, pad=True)
        console.print(text, end="\r")
    else:
        console.print(text, soft_wrap=True)


def terminal() -> Console:
    """Where lines are printed."""
    return Console(highlight=False)
