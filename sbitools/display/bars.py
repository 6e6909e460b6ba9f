"""A bar that counts: drawn on a terminal, one line of text in a notebook, silent elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["counting", "in_notebook"]

_WIDTH, _SECONDS = 30, 0.2


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


@contextmanager
def counting(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar for as long as the block runs; what it gives is told how many more are done.

    Args:
        title: what is counted.
        total: how many there will be.
    """
    if in_notebook():  # not by rich, which asks for ipywidgets there
        line = _Line(title, total)
        yield line.add
        line.show()
        sys.stderr.write("\n")
    elif sys.stdout.isatty():
        from rich.progress import Progress

        with Progress(transient=True) as bar:
            task = bar.add_task(title, total=total)
            yield lambda n: bar.advance(task, n)
    else:
        yield lambda n: None


class _Line:
    """One line on stderr that is written over as it grows."""

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self.done, self.last = title, total, 0, 0.0

    def add(self, n: int) -> None:
        self.done += n
        if time.monotonic() - self.last > _SECONDS:
            self.show()

    def show(self) -> None:
        self.last = time.monotonic()
        full = _WIDTH * self.done // max(self.total, 1)
        bar = "#" * full + "." * (_WIDTH - full)
        sys.stderr.write(f"\r{self.title} [{bar}] {self.done}/{self.total}")
        sys.stderr.flush()
