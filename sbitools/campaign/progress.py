"""Progress of a campaign on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping

from sbitools.display.bars import Bar, clock, looked_at, showing

__all__ = ["Progress", "nothing_to_do"]

_LINE_SECONDS = 10.0


def nothing_to_do(counts: Mapping[str, int], shown: bool) -> None:
    """Say that a campaign is finished, and what became of it.

    Args:
        counts: simulations by state.
        shown: False for silence.
    """
    if not shown or sys.stderr is None:  # None in a process without one
        return
    states = [f"{counts.get(k, 0)} {k}" for k in ("done", "failed", "rejected")]
    states = [s for i, s in enumerate(states) if i == 0 or not s.startswith("0 ")]
    again = "; retry_failed=True runs them again" if counts.get("failed") else ""
    with contextlib.suppress(OSError, ValueError):  # closed: nobody listens
        sys.stderr.write(f"simulations: nothing to do: {', '.join(states)}{again}\n")
        sys.stderr.flush()


class Progress:
    """Counts, rate and time left.

    Args:
        total: number of planned simulations.
        counts: number of done, failed and rejected ones so far.
        shown: False for silence.
    """

    def __init__(self, total: int, counts: list[int], shown: bool) -> None:
        self.total, self.counts = total, list(counts)
        self.shown = shown and sys.stderr is not None  # None in a process without one
        self._already, self._begin = sum(counts), time.monotonic()
        self._last = self._begin
        with showing(self.shown):
            self._bar = Bar("simulations", total, sum(counts)) if looked_at() else None

    def add(self, counts: list[int]) -> None:
        """Take note of finished simulations: done, failed, rejected."""
        self.counts = [a + b for a, b in zip(self.counts, counts, strict=True)]
        if self._bar is not None:
            self._bar.add(sum(counts), self._rest)
        elif self.shown and time.monotonic() - self._last > _LINE_SECONDS:
            self._line()

    @property
    def text(self) -> str:
        """For example ``120/500 done, 2 failed, 3.1 per s, 2:02 left``."""
        parts = [f"{self.counts[0]}/{self.total} done", self._rest]
        if rate := self._rate:
            parts.append(f"{clock((self.total - sum(self.counts)) / rate)} left")
        return ", ".join(part for part in parts if part)

    @property
    def _rate(self) -> float:
        """Simulations per second since this campaign began."""
        now = sum(self.counts) - self._already
        return now / max(time.monotonic() - self._begin, 1e-9)

    @property
    def _rest(self) -> str:
        """For example ``2 failed, 3.1 per s``."""
        _, failed, rejected = self.counts
        parts = [f"{n} {k}" for n, k in ((failed, "failed"), (rejected, "rejected")) if n]
        return ", ".join(parts + ([_per_time(self._rate)] if self._rate else []))

    def _line(self) -> None:
        self._last = time.monotonic()
        with contextlib.suppress(OSError):  # nobody listens: no reason to stop
            sys.stderr.write(f"simulations: {self.text}\n")
            sys.stderr.flush()

    def close(self) -> None:
        """Write the last state."""
        if self._bar is not None:
            self._bar.close()
        elif self.shown and sum(self.counts) > self._already:
            self._line()


def _per_time(per_second: float) -> str:
    if per_second >= 1:
        return f"{per_second:.3g} per s"
    return f"{60 * per_second:.3g} per min"
