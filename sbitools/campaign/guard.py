"""Ends a worker process with all that its simulator started, however the driver ends.

A worker that is killed cannot clean up, and neither can a driver. So a small process of its own
(this file, run as a script on Linux, with the standard library only) waits for a word of the
driver or for the driver's death. Then it kills the worker's descendants, its process group and
session, and every process that carries the worker's mark in its environment: children in sessions
of their own, daemons, pools. Only a process that left all four behind (a daemon of its own session
that was started with an empty environment and forked twice) is not found. Last it removes the
folder of the worker's temporary files.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

__all__ = ["FOLDER", "Guard"]

FOLDER = "SBITOOLS_FOLDER"  # of the worker's temporary files, if it makes it
_MARK = "SBITOOLS_WORKER_"
_LOOK_SECONDS = 2.0  # between two looks at who descends from the worker
_LOOK_SHARE = 300  # and this times as long as a look takes, on machines with many processes
_KILL_SECONDS = 5.0
_END_SECONDS = 10.0


class Guard:
    """The driver's side: starts the guard of one worker and tells it to act.

    Attributes:
        mark: environment of the worker that its descendants inherit.
    """

    def __init__(self) -> None:
        self._token = secrets.token_hex(16)
        self._worker: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = _folder(self._token)
        self.mark = {_MARK + self._token: "1", FOLDER: self._folder}

    def watch(self, worker: int) -> None:
        """Guard the process `worker`; without a guard (another system) only its group is killed.

        Raises:
            OSError: if no process can be started.
        """
        self._worker = worker
        if sys.platform != "linux":
            return
        command = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(worker)]
        self._process = subprocess.Popen(  # noqa: S603  (our own interpreter and file)
            [*command, self._token, self._folder], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/",
        )  # fmt: skip

    def end(self) -> None:
        """Kill the worker and what it started; a second call does nothing."""
        worker, self._worker = self._worker, None
        if worker is not None and not self._asked():
            with contextlib.suppress(OSError):
                os.killpg(worker, signal.SIGKILL)
        if worker is not None and self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _asked(self) -> bool:
        """Whether the guard did it."""
        guard, done = self._process, False
        if guard is not None and guard.stdin is not None:
            with contextlib.suppress(OSError):
                guard.stdin.write(b".")  # a copy of this end in a forked process may stay open
            with contextlib.suppress(OSError):
                guard.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                done = guard.wait(_END_SECONDS) == 0
            guard.kill()
            guard.wait()
        return done


def _folder(token: str) -> str:
    """A path that nobody else takes; empty where there is no room for temporary files."""
    try:
        return os.path.join(tempfile.gettempdir(), f"sbitools-{token}")  # noqa: PTH118
    except OSError:
        return ""


# What follows runs in the guard process.

# pid -> parent, process group, session, time of start
_Table = dict[int, tuple[int, int, int, int]]


def _processes() -> _Table:
    """All processes that run."""
    table: _Table = {}
    for name in os.listdir("/proc"):  # noqa: PTH208  (start-up time)
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123  (start-up time)
                    words = file.read().rpartition(b")")[2].split()
                if words[0] not in (b"Z", b"X"):
                    parent, group, session = (int(w) for w in words[1:4])
                    table[int(name)] = parent, group, session, int(words[19])
    return table


def _descendants(table: _Table, known: dict[int, int]) -> dict[int, int]:
    """Those of `known` that live, and their descendants: pid -> time of start."""
    children: dict[int, list[int]] = {}
    for pid, (parent, *_) in table.items():
        children.setdefault(parent, []).append(pid)
    found: dict[int, int] = {}
    left = [pid for pid, start in known.items() if pid in table and table[pid][3] == start]
    while left:
        pid = left.pop()
        if pid not in found:
            found[pid] = table[pid][3]
            left += children.get(pid, [])
    return found


def _marked(pid: int, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            return mark in file.read()
    except OSError:  # gone, or another user's
        return False


def _sweep(worker: int, mark: bytes, known: dict[int, int]) -> None:
    """Kill until two looks in a row find nobody."""
    end, clean = time.monotonic() + _KILL_SECONDS, 0
    while clean < 2 and time.monotonic() < end:
        table = _processes()
        known = _descendants(table, known)
        doomed = {
            pid for pid, (_, group, session, _) in table.items()
            if pid in known or worker in (group, session) or _marked(pid, mark)
        } - {os.getpid()}  # fmt: skip
        for pid in doomed:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        clean = 0 if doomed else clean + 1
        time.sleep(0.01)


def _main(driver: int, worker: int, token: str, folder: str) -> None:
    poll, look, known = select.poll(), 0.0, {}
    poll.register(0, select.POLLIN)
    with contextlib.suppress(OSError, AttributeError):  # an old kernel: look now and then
        poll.register(os.pidfd_open(driver), select.POLLIN)
    table = _processes()
    if worker in table:
        known = {worker: table[worker][3]}
    while os.getppid() == driver and not poll.poll(1000 * max(_LOOK_SECONDS, _LOOK_SHARE * look)):
        begin = time.monotonic()
        known = _descendants(_processes(), known)
        look = time.monotonic() - begin
    _sweep(worker, (_MARK + token + "=").encode(), known)
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
