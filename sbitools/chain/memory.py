"""Peak memory of this process and its children while a block of work runs."""

from __future__ import annotations

import os
import resource
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["PeakMemory"]

_PROC = Path("/proc")
_KIB, _MIB = 1024, 1024**2


class PeakMemory:
    """Samples the memory of the process tree until the block ends.

    On Linux it adds up proportional set sizes, so that pages which workers share count once; a
    peak shorter than `interval` can be missed. Elsewhere it is the larger of the process's and its
    children's own high-water marks.

    Args:
        interval: seconds between two samples.

    Example:
        >>> with PeakMemory() as memory:
        ...     block = bytearray(10_000_000)
        >>> memory.megabytes > 10
        True
    """

    def __init__(self, interval: float = 0.5) -> None:
        self._interval, self._peak = interval, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def megabytes(self) -> float:
        """Highest sum seen so far, in MiB."""
        return self._peak / _MIB

    def __enter__(self) -> Self:
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            self._sample()

    def _sample(self) -> None:
        self._peak = max(self._peak, _tree_bytes())


def _tree_bytes() -> int:
    if not (_PROC / "self" / "smaps_rollup").exists():
        return _high_water_mark()
    return sum(_proportional_bytes(pid) for pid in _tree(os.getpid()))


def _high_water_mark() -> int:
    unit = 1 if sys.platform == "darwin" else _KIB
    usage = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return unit * max(resource.getrusage(who).ru_maxrss for who in usage)


def _tree(root: int) -> list[int]:
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        for task in _children_files(pid):
            try:
                queue += [int(child) for child in task.read_text().split()]
            except OSError:  # the task ended meanwhile
                continue
    return found


def _children_files(pid: int) -> list[Path]:
    try:
        return [task / "children" for task in (_PROC / str(pid) / "task").iterdir()]
    except OSError:
        return []


def _proportional_bytes(pid: int) -> int:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:  # it ended, or belongs to somebody else
        return 0
    return sum(int(line.split()[1]) * _KIB for line in lines if line.startswith("Pss:"))
