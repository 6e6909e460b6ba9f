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
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from sbitools.errors import CampaignError
from sbitools.store.manifest import Manifest
from sbitools.store.parts import DONE, FAILED, REJECTED, PartData, write_part

from .worker import IMPORT_PATH, KEPT_PATH, Task, as_part

__all__ = ["Cancelled", "Payload", "Runner", "import_path"]

_START_SECONDS = 600.0
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
    """One worker process and its socket."""

    def __init__(self, payload: Payload) -> None:
        ours, theirs = socket.socketpair()
        paths = list(dict.fromkeys([*payload.import_path, *import_path()]))
        joined = os.pathsep.join(p for p in paths if os.pathsep not in p)
        env = os.environ | dict.fromkeys(_ONE_THREAD, "1") | {"PYTHONPATH": joined}
        env[IMPORT_PATH] = json.dumps(paths)  # a folder's name may hold what joins the others
        env[KEPT_PATH] = os.environ.get("PYTHONPATH", "")
        fd = theirs.fileno()
        command = [sys.executable, "-P", "-m", "sbitools.campaign", str(fd), str(os.getpid())]
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603  (our own interpreter and module)
                command, pass_fds=[fd], env=env, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self.connection = Connection(ours.detach())

    def ask(self, message: Any, limit: float | None) -> tuple:
        """Send a message, if any, and wait for the reply."""
        try:
            if message is not None:
                self.connection.send(message)
            if not self.connection.poll(limit):
                raise _Hung
            return self.connection.recv()
        except (EOFError, ConnectionError) as error:
            code = self.process.wait()
            raise _Died(_exit_text(code)) from error

    def set_up(self, payload: Payload) -> tuple:
        """Hand over the simulator."""
        try:
            self.connection.send_bytes(payload.simulator)
        except ConnectionError as error:
            raise _Died(_exit_text(self.process.wait())) from error
        return self.ask(payload.path, _START_SECONDS)

    def kill(self) -> None:
        """End the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the process, reap it and close the socket."""
        self.kill()
        self.process.wait()
        self.connection.close()


def _exit_text(code: int) -> str:
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
        whole, units = self._task(start, stop), list(self._units(start, stop))
        reply = self._batch(whole)
        if reply is not None and reply[0] == "written":
            return reply[1]
        if len(units) == 1 and reply is not None:
            outcomes = [reply]
        else:
            outcomes = [self._alone(unit) for unit in units]
        data = self._assemble(whole, units, outcomes)
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
        for _ in range(2):
            if self._process is not None:
                return self._process
            process = self._process = _Process(self.payload)
            if self._cancelled.is_set():
                raise _Died("stopped")
            with contextlib.suppress(_Died):  # killed while it started: try again
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
        raise _cannot_start("the worker process died twice while it started")

    def _task(self, start: int, stop: int) -> Task:
        g, n = self.payload.group_size, len(self._table.seeds)
        return start, stop, start // g * g, min(-(-stop // g) * g, n)

    def _units(self, start: int, stop: int) -> Iterator[Task]:
        g = self.payload.group_size
        for low in range(start // g * g, stop, g):
            yield self._task(max(low, start), min(low + g, stop))

    def _assemble(self, whole: Task, units: list[Task], outcomes: list[tuple]) -> PartData:
        rows = whole[1] - whole[0]
        fields = {k: np.zeros((rows, *s.shape), s.dtype) for k, s in self._layout.fields.items()}
        for unit, outcome in zip(units, outcomes, strict=True):
            if outcome[0] == "rows":
                for name, array in outcome[1].items():
                    fields[name][unit[0] - whole[0] : unit[1] - whole[0]] = array
        data = as_part(self._table, whole, fields)
        for unit, outcome in zip(units, outcomes, strict=True):
            if outcome[0] == "raised":
                for i in range(unit[0] - whole[0], unit[1] - whole[0]):
                    data.state[i], data.errors[i] = outcome[1], outcome[2]
        return data

    def cancel(self) -> None:
        """Stop at once; called from another thread."""
        self._cancelled.set()
        if (process := self._process) is not None:
            process.kill()
            process.process.wait()

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
