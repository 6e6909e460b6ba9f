"""Lines on a terminal that tell how far a work is; the next one overwrites them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.text import Text

__all__ = ["clock", "epoch_printer", "pass_by", "terminal"]


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def epoch_printer(epochs: int | None) -> Callable[[Mapping[str, float]], None]:
    """What prints a line per epoch of a training, in place on a terminal.

    Args:
        epochs: how many there are at most, if that is known.

    Returns:
        A function of the rows of a `TrainingHistory`.
    """
    console, total = terminal(), f"/{epochs}" if epochs else ""

    def show(row: Mapping[str, float]) -> None:
        text = Text(f"  epoch {int(row['epoch']) + 1}{total}")
        for name, key in (("loss", "train_loss"), ("validation", "validation_loss")):
            if math.isfinite(row.get(key, math.nan)):
                text.append(f"  {name} {row[key]:.4g}")
        text.append(f"  {clock(row.get('seconds', 0.0))}")
        pass_by(console, text)

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
