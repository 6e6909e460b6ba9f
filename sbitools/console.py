"""What the commands print: one line per stage, and the verdict at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.text import Text

from .files import read_json

if TYPE_CHECKING:
    from .chain import Run, Stage
    from .chain.records import StageRecord

__all__ = ["announce", "clock", "conclude", "epoch_printer"]

_NAME, _TITLE = 21, 27


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def announce(
    stage: Stage, event: Literal["start", "skip", "done"], record: StageRecord | None
) -> None:
    """One line per stage: its name, what it did, how long, how much memory."""
    console = _console()
    line = f"{stage.name:<{_NAME}} {stage.title:<{_TITLE}}"
    if event == "start":
        _passing(console, Text(f"{line} ...", style="cyan"))
        return
    if record is None:
        return
    if event == "skip":
        console.print(Text(f"{line} up to date", style="dim"))
        return
    text = Text(f"{line} {clock(record.seconds):>7} {record.peak_memory_mb:>6.0f} MiB")
    counts = record.notes.get("counts")
    if counts:
        text.append(f"  {_counts(counts)}", style="dim")
    text.pad_right(max(0, console.width - 1 - len(text)) if console.is_terminal else 0)
    console.print(text, soft_wrap=True)


def epoch_printer(epochs: int | None) -> Callable[[Mapping[str, float]], None]:
    """What prints a line per epoch of a training, in place on a terminal.

    Args:
        epochs: how many there are at most, if that is known.

    Returns:
        A function of the rows of a `TrainingHistory`.
    """
    console, total = _console(), f"/{epochs}" if epochs else ""

    def show(row: Mapping[str, float]) -> None:
        text = Text(f"  epoch {int(row['epoch']) + 1}{total}")
        for name, key in (("loss", "train_loss"), ("validation", "validation_loss")):
            if math.isfinite(row.get(key, math.nan)):
                text.append(f"  {name} {row[key]:.4g}")
        text.append(f"  {clock(row.get('seconds', 0.0))}")
        _passing(console, text)

    return show


def conclude(run: Run) -> None:
    """The verdict and the place of the report, once there is one."""
    record, folder = run.record("report"), run.folder("report")
    machine = folder / "report.json"
    if record is None or record.state != "done" or not machine.exists():
        return
    console = _console()
    for verdict in read_json(machine)["verdicts"]:
        colour = "yellow" if verdict["caution"] else "green" if verdict["passed"] else "red"
        console.print(Text(f"\n{verdict['title']}", style=f"bold {colour}"))
        console.print(Text(verdict["text"]))
        for sentence in verdict["evidence"]:
            console.print(Text(f"  - {sentence}", style="dim"))
    console.print(Text(f"\nreport: {folder / 'report.html'}", style="bold"))


def _counts(counts: dict[str, Any]) -> str:
    return ", ".join(f"{n} {state}" for state, n in counts.items() if n)


def _passing(console: Console, text: Text) -> None:
    """A line that the next one overwrites on a terminal, and an ordinary one elsewhere."""
    if console.is_terminal:
        text.truncate(console.width - 1, pad=True)
        console.print(text, end="\r")
    else:
        console.print(text, soft_wrap=True)


def _console() -> Console:
    return Console(highlight=False)
