"""What the commands print: one line per stage, and the verdict at the end.

A command calls the chain and prints with these; no stage of the chain does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from rich.text import Text

from sbitools.disk.files import read_json
from sbitools.display.bars import clock
from sbitools.display.lines import epoch_printer, pass_by, terminal

if TYPE_CHECKING:
    from sbitools.chain.records import StageRecord
    from sbitools.chain.run import Run, Stage

__all__ = ["announce", "clock", "conclude", "epoch_printer"]

_NAME, _TITLE = 21, 27


def announce(
    stage: Stage, event: Literal["start", "skip", "done"], record: StageRecord | None
) -> None:
    """One line per stage: its name, what it did, how long, how much memory."""
    console = terminal()
    line = f"{stage.name:<{_NAME}} {stage.title:<{_TITLE}}"
    if event == "start":
        pass_by(console, Text(f"{line} ...", style="cyan"))
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


def conclude(run: Run) -> None:
    """The verdict and the place of the report, once there is one."""
    record, folder = run.record("report"), run.folder("report")
    machine = folder / "report.json"
    if record is None or record.state != "done" or not machine.exists():
        return
    console = terminal()
    for verdict in read_json(machine)["verdicts"]:
        colour = "yellow" if verdict["caution"] else "green" if verdict["passed"] else "red"
        console.print(Text(f"\n{verdict['title']}", style=f"bold {colour}"))
        console.print(Text(verdict["text"]))
        for sentence in verdict["evidence"]:
            console.print(Text(f"  - {sentence}", style="dim"))
    console.print(Text(f"\nreport: {folder / 'report.html'}", style="bold"))


def _counts(counts: dict[str, Any]) -> str:
    return ", ".join(f"{n} {state}" for state, n in counts.items() if n)
