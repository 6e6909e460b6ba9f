"""The worker process of a campaign: ``python -m sbitools.campaign FD PARENT``.

It receives the simulator through an inherited socket, in memory, and answers requests until the
socket closes. It runs in its own session, so that Ctrl-C reaches the driver only, and ends when
the driver ends. One thread per worker: results must not depend on how many workers there are.
A simulator may do what it likes with its process, so nothing is trusted after it: a copy of the
process that a fork made and that comes back ends at once, and writes nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import torch

from sbitools.errors import SbitoolsError, ShapeError
from sbitools.gate.arrays import as_native
from sbitools.store.intake import mark_nonfinite
from sbitools.store.layout import Layout
from sbitools.store.manifest import DesignTable, Manifest
from sbitools.store.parts import (
    DONE,
    FAILED,
    REJECTED,
    PartData,
    RejectedSimulation,
    write_part,
)

from .channel import Broken, Channel
from .command import CommandSimulator, ProgramFailed
from .program import CannotRun

__all__ = [
    "BROKEN", "IMPORT_PATH", "KEPT_PATH", "Task", "Worker", "as_part", "assemble", "main",
    "units_of",
]  # fmt: skip

# (start, stop) of the rows to record, (low, high) of the whole groups to simulate for them
Task = tuple[int, int, int, int]

IMPORT_PATH = "SBITOOLS_IMPORT_PATH"  # where the driver imports from, as JSON
KEPT_PATH = "SBITOOLS_PYTHONPATH"  # the user's PYTHONPATH, for programs a simulator starts
BROKEN = 70  # exit code of a worker without a connection
_WATCH_SECONDS = 0.5
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>
_FRAMES = 100  # of a traceback; a simulator may lift the limit of recursion
_TEXT = 10_000  # characters of a message; a part keeps fewer
_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")  # differs from run to run, and equal runs must be equal


class Worker:
    """Simulates tasks of one store.

    Args:
        simulator: the simulator.
        path: of the store.
        check: called before anything is written; raises if the driver would not hear of it.
    """

    def __init__(
        self, simulator: Any, path: str, check: Callable[[], None] = lambda: None
    ) -> None:
        manifest = Manifest.read(Path(path))
        self.simulator, self.layout, self.check = simulator, manifest.layout, check
        self.folder = Path(path) / "parts"
        self._mask = os.umask(0o077)
        os.umask(self._mask)
        self.table = manifest.table(Path(path))

    def answer(self, verb: str, task: Task) -> tuple:
        """The reply to one request.

        ``write`` simulates a task and writes its part: ("written", [done, failed, rejected]).
        ``rows`` sends the fields back instead: ("rows", fields). Both may answer
        ("raised", state, message), or ("abort", error) when going on makes no sense.
        """
        if verb == "write" and isinstance(self.simulator, CommandSimulator):
            return self._write_each(task)
        outcome = self._outcome(task)
        if verb == "rows" or outcome[0] != "rows":
            return outcome
        return self._write(as_part(self.table, task, outcome[1]))

    def _outcome(self, task: Task) -> tuple:
        """The fields of a task, or how it failed."""
        try:
            return "rows", self.simulate(task)
        except _WrongOutput as error:
            return "abort", error.error
        except CannotRun as error:
            return "abort", error
        except ProgramFailed as error:
            return "raised", FAILED, _ADDRESS.sub("0x...", error.got)
        except RejectedSimulation as error:
            return "raised", REJECTED, _message(error) or "rejected by the simulator"
        except KeyboardInterrupt:  # of someone who stops processes: no result of the simulation
            raise
        except BaseException as error:
            return "raised", FAILED, _describe(error)

    def _write_each(self, task: Task) -> tuple:
        """Each simulation is a process of its own: that one fails says nothing of the others."""
        size = self.simulator.group_size
        units = units_of(task, size, len(self.table.seeds))
        outcomes = []
        for unit in units:
            outcomes.append(self._outcome(unit))
            if outcomes[-1][0] == "abort":
                return outcomes[-1]
        return self._write(assemble(self.layout, self.table, task, units, outcomes))

    def _write(self, data: PartData) -> tuple:
        self.check()
        os.umask(self._mask)
        try:
            write_part(self.folder, self.layout, data)
        except SbitoolsError as error:
            return "abort", error
        return "written", [int(np.sum(data.state == s)) for s in (DONE, FAILED, REJECTED)]

    def simulate(self, task: Task) -> dict[str, np.ndarray]:
        """Fields of the rows of a task, checked for shape and dtype."""
        start, stop, low, high = task
        theta = torch.from_numpy(self.table.theta[low:high].copy())
        seeds = torch.from_numpy(self.table.seeds[low:high].copy())
        with _one_process():
            result = self.simulator.simulate(theta, seeds)
            fields = _unpack(self.layout, result, high - low)
        return {k: v[start - low : stop - low] for k, v in fields.items()}


class _WrongOutput(ShapeError):
    """The simulator does not keep its word: no rerun would help."""

    def __init__(self, error: ShapeError) -> None:
        self.error = error
        super().__init__(error.subject, expected=error.expected, got=error.got, fix=error.fix)


def _unpack(layout: Layout, result: Any, batch: int) -> dict[str, np.ndarray]:
    if layout.source is None:
        named = {"x": result}
    elif isinstance(result, tuple) and len(result) == 2:
        named = {"x": result[0], "source": result[1]}
    else:
        raise _WrongOutput(
            ShapeError(
                "result of simulate", expected="a pair (x, source)", got=f"{type(result)}",
                fix="return both, or set the simulator's source to None",
            )
        )  # fmt: skip
    fields = {}
    for name, value in named.items():
        try:
            spec = layout.fields[name]
            array = as_native(value, f"{name} returned by the simulator", spec)
            spec.check(array, batch, f"{name} returned by the simulator")
        except ShapeError as error:
            raise _WrongOutput(error) from error
        fields[name] = array
    return fields


def as_part(table: DesignTable, task: Task, fields: dict[str, np.ndarray]) -> PartData:
    """Rows of a task as a part; those with NaN or Inf are failures."""
    rows = slice(task[0], task[1])
    return PartData(
        rows.start, table.theta[rows], table.seeds[rows], *mark_nonfinite(fields), **fields
    )


def units_of(task: Task, size: int, n: int) -> list[Task]:
    """The groups of a task, which can be simulated one by one.

    Args:
        task: rows to record, and whole groups to simulate for them.
        size: of a group.
        n: simulations in the store.
    """
    start, stop, low, _ = task
    return [(max(a, start), min(a + size, stop), a, min(a + size, n))
            for a in range(low, stop, size)]  # fmt: skip


def assemble(
    layout: Layout, table: DesignTable, task: Task, units: list[Task], outcomes: list[tuple]
) -> PartData:
    """The part of a task whose groups were simulated one by one.

    Args:
        layout: of the store.
        table: its design.
        task: whose part it is.
        units: its groups.
        outcomes: of each, ("rows", fields) or ("raised", state, message).
    """
    begin, rows = task[0], task[1] - task[0]
    fields = {k: np.zeros((rows, *s.shape), s.dtype) for k, s in layout.fields.items()}
    for unit, outcome in zip(units, outcomes, strict=True):
        if outcome[0] == "rows":
            for name, array in outcome[1].items():
                fields[name][unit[0] - begin : unit[1] - begin] = array
    data = as_part(table, task, fields)
    for unit, outcome in zip(units, outcomes, strict=True):
        if outcome[0] == "raised":
            for i in range(unit[0] - begin, unit[1] - begin):
                data.state[i], data.errors[i] = outcome[1], outcome[2]
    return data


@contextlib.contextmanager
def _one_process() -> Iterator[None]:
    """Around code of the user: a forked copy of this process that comes back ends here."""
    mine = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != mine:
            os._exit(1)


def _describe(error: BaseException) -> str:
    frames = error.__traceback__
    for _ in range(2):  # our own two frames say nothing to the user
        frames = frames.tb_next if frames and frames.tb_next else frames
    try:
        lines = traceback.format_exception(type(error), error, frames, limit=-_FRAMES)
    except Exception:  # of an exception that cannot even be shown
        lines = [type(error).__name__]
    return _ADDRESS.sub("0x...", "".join(lines)[-_TEXT:]).strip()


def _message(error: BaseException) -> str:
    try:
        return str(error)[:_TEXT]
    except Exception:
        return type(error).__name__


def _die_with(parent: int) -> None:
    """End when the driver does, even while the simulator holds the interpreter's lock."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os.killpg(0, signal.SIGKILL)  # with whatever the simulator started


def main(fd: int, parent: int) -> None:
    """Serve requests from the socket `fd` until it closes."""
    _die_with(parent)
    os.set_inheritable(fd, False)  # programs that a simulator starts have no part in this
    channel = Channel(socket.socket(fileno=fd))
    torch.set_num_threads(1)
    os.environ["PYTHONPATH"] = os.environ.pop(KEPT_PATH, "")
    sys.path[:] = dict.fromkeys([*json.loads(os.environ.pop(IMPORT_PATH, "[]")), *sys.path])
    code = 0
    try:
        _serve(channel)
    except Broken:  # the driver is gone, or the simulator closed what is not its own
        code = BROKEN
    except BaseException:
        traceback.print_exc()
        code = 1
    os._exit(code)  # threads that a simulator left behind are not waited for


def _serve(channel: Channel) -> None:
    number, (simulator, path) = channel.receive()
    try:
        with _one_process():
            worker = Worker(cloudpickle.loads(simulator), path, channel.check)
    except (Exception, SystemExit) as error:
        channel.send(number, ("setup", _describe(error)))
        return
    channel.send(number, ("ready",))
    while True:
        number, (verb, task) = channel.receive()
        channel.send(number, worker.answer(verb, task))
