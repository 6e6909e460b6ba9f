"""Progress on stderr: a bar on a terminal, one line of text in a notebook, silent elsewhere.

Whatever takes long opens a `Bar`, by `counting`; whoever asks for it has a switch, `showing`, that
holds for all that happens within. So no function hands a display on to the next, one bar alone is
drawn at a time, and what is computed never depends on it. A terminal that fails stops nothing.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar

__all__ = [
    "Bar", "clock", "counting", "drawn", "in_notebook", "looked_at", "losses", "showing",
]  # fmt: skip

_WIDTH, _SECONDS = 30, 0.2  # of a bar, and between two drawings of it

# What the titles of bars begin with; None where there are to be none.
_ABOUT: ContextVar[str | None] = ContextVar("about", default="")
_DRAWN = threading.Lock()  # held by the one bar that is drawn


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def losses(row: Mapping[str, float]) -> str:
    """Those of a row of a `TrainingHistory`, e.g. ``loss 1.2  validation 1.3``."""
    pairs = (("loss", row.get("train_loss", math.nan)),
             ("validation", row.get("validation_loss", math.nan)))  # fmt: skip
    return "  ".join(f"{name} {value:.4g}" for name, value in pairs if math.isfinite(value))


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def looked_at() -> bool:
    """Whether somebody sees a bar: stderr is a terminal, or goes into a notebook."""
    if sys.stderr is None or os.environ.get("RANK", "0") != "0":  # of torchrun: the first one
        return False
    with contextlib.suppress(OSError, ValueError):  # closed
        return in_notebook() or sys.stderr.isatty()
    return False


def drawn() -> bool:
    """Whether a bar is being drawn."""
    return _DRAWN.locked()


@contextlib.contextmanager
def showing(progress: bool = True, about: str = "") -> Iterator[None]:
    """Whether bars are drawn within the block, and what their titles begin with.

    Args:
        progress: False for silence, also of blocks within this one.
        about: e.g. ``"round 2: "``; blocks within this one add to it.
    """
    outer = _ABOUT.get()
    token = _ABOUT.set(outer + about if progress and outer is not None else None)
    try:
        yield
    finally:
        _ABOUT.reset(token)


@contextlib.contextmanager
def counting(title: str, total: int, done: int = 0, per: int = 1) -> Iterator[Bar]:
    """A bar for as long as the block runs; it is told how far the work is.

    Args:
        title: what is counted.
        total: how many there will be.
        done: how many there are already.
        per: parts of each of them, if parts are counted.
    """
    bar = Bar(title, total, done, per)
    try:
        yield bar
    finally:
        bar.close()


class Bar:
    """What `counting` gives: close it, whatever happens."""

    def __init__(self, title: str, total: int, done: int = 0, per: int = 1) -> None:
        about = _ABOUT.get()
        self.title, self.total, self.per = (about or "") + title, total, per
        self.done = self.begin = done * per
        self.text, self.started, self.last = "", time.monotonic(), 0.0
        self.seen = about is not None and looked_at() and _DRAWN.acquire(blocking=False)
        self._screen = _Line() if not self.seen or in_notebook() else _Terminal()
        if self.seen:
            self._draw()

    def add(self, n: int = 1, text: str | None = None) -> None:
        """So many more are done; `text` says something about the work, until it says another."""
        self.done += n
        self.text = self.text if text is None else text
        if self.seen and time.monotonic() - self.last > _SECONDS:
            self._draw()

    def close(self) -> None:
        """Show the end, and leave the terminal to the next one."""
        if self.seen:
            self.seen = False
            try:
                self._draw()
                with contextlib.suppress(Exception):
                    self._screen.close()
            finally:
                _DRAWN.release()

    @property
    def line(self) -> str:
        """For example ``3/100  loss 1.2  0:41 left``."""
        parts = [f"{self.done // self.per}/{self.total}", self.text]
        new, left = self.done - self.begin, self.total * self.per - self.done
        if new > 0 and left > 0:
            parts.append(f"{clock((time.monotonic() - self.started) * left / new)} left")
        return "  ".join(part for part in parts if part)

    def _draw(self) -> None:
        self.last = time.monotonic()
        share = min(1.0, self.done / max(self.total * self.per, 1))
        with contextlib.suppress(Exception):  # whatever a terminal does, the work goes on
            self._screen.show(self.title, share, self.line)


class _Line:
    """One line that is written over: notebooks show it without widgets, which rich asks for."""

    def __init__(self) -> None:
        self.width = 0

    def show(self, title: str, share: float, text: str) -> None:
        full = int(_WIDTH * share)
        line = f"{title} [{'#' * full + '.' * (_WIDTH - full)}] {text}"
        sys.stderr.write(f"\r{line:<{self.width}}")  # over all of the one before
        sys.stderr.flush()
        self.width = len(line)

    def close(self) -> None:
        sys.stderr.write("\n")


class _Terminal:
    """A bar of rich that vanishes at the end; what is printed meanwhile stands above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self.bar = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(_WIDTH),
            TextColumn("{task.fields[text]}", markup=False), console=Console(stderr=True),
            transient=True, auto_refresh=False,  # no thread that could fail by itself
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),  # a file stays one
        )  # fmt: skip
        self.task = self.bar.add_task("", total=1.0, text="")

    def show(self, title: str, share: float, text: str) -> None:
        self.bar.start()
        self.bar.update(self.task, description=title, completed=share, text=text)
        self.bar.refresh()

    def close(self) -> None:
        self.bar.stop()
