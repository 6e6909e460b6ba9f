"""What the commands print: one line per stage, and the verdict at the end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from .chain import Run, Stage
    from .stage import StageRecord

__all__ = ["announce", "clock", "conclude"]

_NAME, _TITLE = 21, 29
_STYLES = {"done": "green", "skip": "dim", "pass": "bold green", "fail": "bold red"}


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
        if console.is_terminal:
            console.print(Text(f"{line} ...", style="cyan"), end="\r")
        return
    if record is None:
        return
    counts = record.notes.get("counts")
    state = "up to date" if event == "skip" else f"{clock(record.seconds):>7}"
    memory = "" if event == "skip" else f"  {record.peak_memory_mb:>6.0f} MiB"
    text = Text(f"{line} {state}{memory}", style=_STYLES["skip"] if event == "skip" else "")
    if counts and event == "done":
        text.append(f"  {_counts(counts)}", style="dim")
    console.print(text)


def conclude(run: Run) -> None:
    """The verdict and the place of the report, once there is one."""
    machine = run.folder("report") / "report.json"
    record = run.record("report")
    if record is None or record.state != "done" or not machine.exists():
        return
    console = _console()
    for verdict in json.loads(machine.read_text())["verdicts"]:
        passed = verdict["passed"]
        style = _STYLES["pass"] if passed else _STYLES["fail"]
        console.print(Text(verdict["title"], style=style))
        console.print(Text(f"  {verdict['text']}"))
    console.print(Text(f"report: {run.folder('report') / 'report.html'}", style="bold"))


def _counts(counts: dict[str, Any]) -> str:
    return ", ".join(f"{n} {state}" for state, n in counts.items() if n)


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)
