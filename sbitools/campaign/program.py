"""Runs one program: in a process group of its own, with a time limit, and nothing is left of it.

What it prints is read as it comes, so that it never waits, and only the end is kept. What it left
running in the background may hold its stderr open: the end of the program counts, not of the file.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sbitools.errors import CampaignError

__all__ = ["CannotRun", "Ending", "run_program"]

_KEPT = 3000  # bytes of stderr; a failure in a store has room for 4000
_KEPT_OUT = 1000  # bytes of stdout, told if stderr is empty
_BLOCK = 1 << 16
_ROUNDS = 64  # of reading what a program that has ended left in its pipes
_SHORT, _LONG = 0.0005, 0.05  # seconds between two looks whether it has ended
_END_SECONDS = 5.0  # for the system to end what was killed


class CannotRun(CampaignError):
    """The program cannot be run here, whatever the simulation: a campaign stops."""


@dataclass(frozen=True)
class Ending:
    """How a program ended.

    Args:
        code: its exit code, negative for a signal; None if it was stopped at its time limit.
        printed: the end of its stderr, or else of its stdout; may be empty.
    """

    code: int | None
    printed: str


def run_program(words: Sequence[str], cwd: Path, limit: float | None) -> Ending:
    """Run a program to its end; its process group is killed then, and whatever happens.

    Args:
        words: its path and its arguments.
        cwd: where it runs.
        limit: seconds, or None.

    Raises:
        CannotRun: if it cannot be started.
    """
    try:
        process = subprocess.Popen(  # noqa: S603  (what the user asked to run, without a shell)
            words, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise CannotRun(
            f"program {words[0]}", expected="a program that can be started here",
            got=f"{error.strerror or error} ({error.filename or words[0]})",
            fix="correct the command, the program's rights or its first line (#!), and run again",
        ) from error  # fmt: skip
    ended = False
    try:
        with _Printed(process) as printed:
            ended = printed.listen(None if limit is None else time.monotonic() + limit)
            text = printed.text()
    finally:
        _end(process)
    return Ending(process.returncode if ended else None, text)


def _over(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended; it keeps its number until its group is killed."""
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # whoever runs us ignores its children
        return True


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):  # of one that waits for a lost disk
        process.wait(_END_SECONDS)


class _Printed:
    """The ends of what a program prints."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process, self._pipes = process, (process.stderr, process.stdout)
        self._tails: dict[Any, bytearray] = {pipe: bytearray() for pipe in self._pipes}
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> _Printed:
        for pipe in self._pipes:
            assert pipe is not None  # noqa: S101  (both were asked for)
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ)
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for pipe in self._tails:
            pipe.close()

    def listen(self, until: float | None) -> bool:
        """Read until the program has ended; False if it has not at `until`."""
        pause = _SHORT
        while not _over(self._process):
            if until is not None and time.monotonic() >= until:
                return False
            left = pause if until is None else min(pause, max(until - time.monotonic(), 0.0))
            pause = _SHORT if self._read(left) else min(2 * pause, _LONG)
        for _ in range(_ROUNDS):
            if not self._read(0.0):
                break
        return True

    def _read(self, seconds: float) -> bool:
        """Whether there was anything; the end of a file counts."""
        if not self._selector.get_map():
            time.sleep(seconds)
            return False
        ready = self._selector.select(seconds)
        for key, _ in ready:
            with contextlib.suppress(BlockingIOError):
                data, tail = os.read(key.fd, _BLOCK), self._tails[key.fileobj]
                if not data:
                    self._selector.unregister(key.fileobj)
                tail += data
                del tail[:-_KEPT]
        return bool(ready)

    def text(self) -> str:
        """The end of stderr, or of stdout if that is empty."""
        error, out = (self._tails[p].decode("utf-8", "replace").strip() for p in self._pipes)
        return error or out[-_KEPT_OUT:]
