"""Runs tasks in a worker process and copes with whatever happens to it.

A batch that raises, hangs or loses its worker is rerun one by one (group by group), so that only
the simulations that are at fault are recorded as failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sbitools.errors import CampaignError
from sbitools.store.manifest import Manifest
from sbitools.store.parts import DONE, FAILED, REJECTED, write_part

from .channel import Broken, Channel
from .guard import Guard
from .worker import BROKEN, IMPORT_PATH, KEPT_PATH, Task, assemble, units_of

__all__ = ["Cancelled", "Payload", "Runner", "import_path"]

_START_SECONDS = 600.0
_START_TRIES = 3
_EXIT_SECONDS = 2.0  # for a process whose connection ended to end as well
_END_SECONDS = 10.0  # for the system to end a process that was killed
_STDERR = 2
_ONE_THREAD = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip


class Cancelled(Exception):
    """The campaign is being stopped."""


class _Died(Exception):
    """The worker process ended before it answered."""


class _Hung(Exception):
    """The worker process did not answer within the time limit."""


def import_path() -> list[str]:
    """Where this process finds modules, for workers to find the simulator's."""
    return [str(Path(p).absolute()) for p in sys.path]


@dataclass(frozen=True)
class Payload:
    """What a worker process needs to know.

    Args:
        simulator: as cloudpickle bytes; they travel in memory and are never written to disk.
        path: of the store.
        group_size: simulations that are made together.
        time_limit: seconds per simulation, or None.
        import_path: directories for PYTHONPATH.
    """

    simulator: bytes
    path: str
    group_size: int
    time_limit: float | None
    import_path: list[str]


class _Process:
    """One worker process, its guard and the connection to it.

    Whatever ends the process also ends the connection: a process that the simulator started may
    hold the other end open for ever.

    Raises:
        OSError: if the system has no room for another process.
    """

    def __init__(self, payload: Payload) -> None:
        self._number, self._lock, self._gone = 0, threading.Lock(), threading.Event()
        self._guard = Guard()
        paths = list(dict.fromkeys([*payload.import_path, *import_path()]))
        joined = os.pathsep.join(p for p in paths if os.pathsep not in p)
        env = os.environ | dict.fromkeys(_ONE_THREAD, "1") | {"PYTHONPATH": joined}
        env[IMPORT_PATH] = json.dumps(paths)  # a folder's name may hold what joins the others
        env[KEPT_PATH] = os.environ.get("PYTHONPATH", "")
        ours, theirs = _pair()
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            fd = theirs.fileno()
            command = [sys.executable, "-P", "-m", "sbitools.campaign", str(fd), str(os.getpid())]
            self.process = subprocess.Popen(  # noqa: S603  (our own interpreter and module)
                command, pass_fds=[fd], env=env | self._guard.mark, stdin=subprocess.DEVNULL,
                stdout=_messages(), stderr=_messages(), start_new_session=True,
            )  # fmt: skip
            undo.pop_all()
        self._channel = Channel(ours)
        threading.Thread(target=self._mourn, daemon=True).start()
        try:
            self._guard.watch(self.process.pid)
        except OSError:
            self.close()
            raise

    def _mourn(self) -> None:
        self.process.wait()
        self._gone.set()
        self._channel.shutdown()

    def ask(self, message: Any, limit: float | None) -> tuple:
        """Send a message and wait for the answer to it."""
        self._number += 1
        until = None if limit is None else time.monotonic() + limit
        try:
            self._channel.send(self._number, message, until)
            number, reply = self._channel.receive(until)
        except TimeoutError:
            raise _Hung from None
        except Broken as error:
            raise _Died(self._end_text(error)) from error
        if number != self._number:
            raise _Died("the worker process answered another question")
        return reply

    def _end_text(self, error: Broken) -> str:
        if self._gone.wait(_EXIT_SECONDS):
            return _exit_text(self.process.returncode)
        return f"the worker process gave {error}"

    def set_up(self, payload: Payload) -> tuple:
        """Hand over the simulator."""
        return self.ask((payload.simulator, payload.path), _START_SECONDS)

    def kill(self) -> None:
        """End the process and what it started; from any thread, any number of times."""
        with self._lock:
            self._guard.end()
            self._gone.wait(_END_SECONDS)

    def close(self) -> None:
        """End the process and close the connection."""
        self.kill()
        self._channel.close()


def _pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets that do not take the number of a closed stdin, stdout or stderr."""
    with contextlib.ExitStack() as stack:
        while True:
            ours, theirs = socket.socketpair()
            if min(ours.fileno(), theirs.fileno()) > _STDERR:
                return ours, theirs
            stack.enter_context(ours)
            stack.enter_context(theirs)


def _messages() -> int:
    """Where a worker prints to: stderr, since stdout is the driver's."""
    if sys.__stderr__ is None:  # closed, as daemons do; the number may be another file's now
        return subprocess.DEVNULL
    return _STDERR


def _exit_text(code: int) -> str:
    if code == BROKEN:
        return "the simulation closed the connection of its worker process"
    if code >= 0:
        return f"the simulation ended its worker process with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    return f"the simulation ended its worker process by signal {-code} ({name})"


class Runner:
    """Owns one worker process, and a new one when that is lost.

    Args:
        payload: simulator and store.
    """

    def __init__(self, payload: Payload) -> None:
        self.payload = payload
        self._process: _Process | None = None
        self._cancelled = threading.Event()
        manifest = Manifest.read(Path(payload.path))
        self._layout = manifest.layout
        self._table = manifest.table(Path(payload.path))

    def run(self, start: int, stop: int) -> list[int]:
        """Simulate and record the rows `start` to `stop`.

        Returns:
            Numbers of done, failed and rejected simulations.

        Raises:
            SbitoolsError: if going on makes no sense: a full disk, a simulator that cannot be
                loaded or returns the wrong shape.
            Cancelled: after `cancel`.
        """
        with _claimed(self.payload.path, start, stop):
            return self._run(start, stop)

    def _run(self, start: int, stop: int) -> list[int]:
        g, n = self.payload.group_size, len(self._table.seeds)
        whole: Task = start, stop, start // g * g, min(-(-stop // g) * g, n)
        units = units_of(whole, g, n)
        reply = self._batch(whole)
        if reply is not None and reply[0] == "written":
            return reply[1]
        if len(units) == 1 and reply is not None:
            outcomes = [reply]
        else:
            outcomes = [self._alone(unit) for unit in units]
        data = assemble(self._layout, self._table, whole, units, outcomes)
        write_part(Path(self.payload.path) / "parts", self._layout, data)
        return [int(np.sum(data.state == s)) for s in (DONE, FAILED, REJECTED)]

    def _batch(self, task: Task) -> tuple | None:
        """Reply to the whole batch; None if it hung or lost two workers."""
        for _ in range(2):  # a worker that someone else killed must not change the result
            try:
                return self._ask("write", task)
            except _Died:
                continue
            except _Hung:
                return None
        return None

    def _alone(self, task: Task) -> tuple:
        """Reply to one simulation (or group), with its own time limit and one more chance."""
        text = ""
        for _ in range(2):
            try:
                return self._ask("rows", task)
            except _Died as error:
                text = str(error)
            except _Hung:
                limit = self.payload.time_limit
                return "raised", FAILED, f"no result within the time limit of {limit:g} s"
        return "raised", FAILED, text

    def _ask(self, verb: str, task: Task) -> tuple:
        limit = self.payload.time_limit
        seconds = None if limit is None else limit * (task[3] - task[2])
        try:
            reply = self._start().ask((verb, task), seconds)
        except (_Died, _Hung):
            self.close()
            if self._cancelled.is_set():
                raise Cancelled from None
            raise
        if reply[0] == "abort":
            raise reply[1]
        return reply

    def _start(self) -> _Process:
        for _ in range(_START_TRIES):
            if self._process is not None:
                return self._process
            process = self._process = self._new()
            with contextlib.suppress(_Died):  # killed while it started: try again
                if self._cancelled.is_set():
                    raise _Died("stopped")
                try:
                    reply = process.set_up(self.payload)
                except _Hung:
                    self.close()
                    raise _cannot_start(f"no answer in {_START_SECONDS:g} s") from None
                if reply[0] == "ready":
                    return process
                self.close()
                raise _cannot_start(reply[1])
            self.close()
            if self._cancelled.is_set():
                raise Cancelled
            time.sleep(0.1)
        raise _cannot_start(f"the worker process died {_START_TRIES} times while it started")

    def _new(self) -> _Process:
        try:
            return _Process(self.payload)
        except (OSError, RuntimeError) as error:  # of processes, open files or threads
            raise no_room("worker process", error) from error

    def cancel(self) -> None:
        """Stop at once; called from another thread."""
        self._cancelled.set()
        if (process := self._process) is not None:
            process.kill()

    def close(self) -> None:
        """End the worker process; a later `run` starts another."""
        if self._process is not None:
            self._process.close()
            self._process = None


def _cannot_start(text: str) -> CampaignError:
    return CampaignError(
        "worker process", expected="a simulator that a fresh process can load", got=text,
        fix="define it so that cloudpickle can send it: no open files, locks or CUDA tensors",
    )  # fmt: skip


def no_room(what: str, error: Exception) -> CampaignError:
    """The system has no room for another process, thread or file."""
    return CampaignError(
        what, expected="room for it", got=str(error),
        fix="use fewer workers, or raise the system's limits (ulimit -n, ulimit -u)",
    )  # fmt: skip


@contextlib.contextmanager
def _claimed(path: str, start: int, stop: int) -> Iterator[None]:
    """Mark rows as running; the mark counts while the campaign holds the store's lock."""
    marker = Path(path) / "running" / f"{start}-{stop}"
    with contextlib.suppress(OSError):  # a full disk, say: marks are for show
        marker.parent.mkdir(exist_ok=True)
        marker.touch()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            marker.unlink()
