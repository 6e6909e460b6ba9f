"""Campaigns on a Dask cluster (extra ``dask``).

Each Dask task runs one task of the campaign in a worker process of its own, exactly as a local
campaign does, so that time limits and crashes are handled alike and the bits are the same.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sbitools.errors import CampaignError, SbitoolsError

from .runner import Cancelled, Payload, Runner

__all__ = ["DaskEngine"]

_TRIES = 4  # of a task that Dask gives up, since it lost several workers
_LOST_TRIES = 3  # and this times as many of one that vanished with the whole cluster
_PATIENCE_SECONDS = 300.0  # without any worker
_LOOK_SECONDS = 1.0
_POLL_SECONDS = 0.01
_RESULT_SECONDS = 60.0  # a result may be gone with its worker
_END_SECONDS = 30.0
_RUNNERS: dict[tuple[str, int], Runner] = {}  # of this Dask worker, by campaign and thread
_CLOSED: set[str] = set()  # campaigns that are over: a late task of theirs must not start


def _run(key: str, payload: Payload, simulator: bytes, start: int, stop: int) -> list[int]:
    """Run one task; executed by a Dask worker."""
    mine = (key, threading.get_ident())
    if key in _CLOSED:
        raise Cancelled
    if mine not in _RUNNERS:
        _RUNNERS[mine] = Runner(replace(payload, simulator=simulator))
    return _RUNNERS[mine].run(start, stop)


def _close(key: str) -> None:
    """End the worker processes of one campaign; executed by every Dask worker."""
    _CLOSED.add(key)
    for mine in [k for k in _RUNNERS if k[0] == key]:
        _RUNNERS.pop(mine).cancel()


class DaskEngine:
    """Runs tasks through a ``dask.distributed.Client``.

    A cluster may lose its workers, even all of them for a while: their tasks run again. What is
    waited for is bounded: a campaign without a single worker ends after five minutes.

    Args:
        payload: simulator and store; the store's path must be shared by all Dask workers.
        client: the client.

    Attributes:
        shown: whether to say on stderr that workers are waited for.
    """

    shown = False

    def __init__(self, payload: Payload, client: Any) -> None:
        self.client, self.key = client, uuid.uuid4().hex
        self.simulator = payload.simulator
        self.payload = replace(payload, simulator=b"")
        self._tries: dict[tuple[tuple[int, int], bool], int] = {}
        self._since: float | None = None  # when the last worker was lost

    def __call__(self, tasks: list[tuple[int, int]]) -> Iterator[tuple[int, int, list[int]]]:
        """Yield (start, stop, counts) of finished tasks; few futures are in flight at a time."""
        from distributed import as_completed

        waiting = list(reversed(tasks))
        flying: dict[Any, tuple[tuple[int, int], Any]] = {}
        done = as_completed()
        try:
            self._share()
            while waiting or flying:
                while waiting and len(flying) < max(2 * self._threads(), 2):
                    task = waiting.pop()
                    future = self.client.submit(
                        _run, self.key, self.payload, self._data, *task, pure=False
                    )
                    flying[future] = task, self._data
                    done.add(future)
                future = self._next(done)
                task, data = flying.pop(future)
                counts = self._counts(future, task)
                if counts is not None:
                    yield (*task, counts)
                    continue
                waiting.append(task)
                if data is self._data:  # the lost worker may have held the simulator
                    self._share()
        finally:
            self._end(list(flying))

    def _next(self, done: Any) -> Any:
        """The next future that is finished or lost; without any worker, not for ever."""
        look = 0.0
        while not done.has_ready():
            if time.monotonic() > look:
                self._check_workers()
                look = time.monotonic() + _LOOK_SECONDS
            time.sleep(_POLL_SECONDS)
        return next(done)

    def _share(self) -> None:
        """Give the simulator to all workers, as soon as there are any."""
        while True:
            if self._check_workers():
                try:
                    self._data = self.client.scatter(self.simulator, broadcast=True, hash=False)
                    return
                except Exception as error:  # workers that left meanwhile show in many ways
                    self._check_patience(f"{type(error).__name__}: {error}")
            time.sleep(_LOOK_SECONDS)

    def _check_workers(self) -> bool:
        """Whether a worker is alive; `CampaignError` if there has been none for too long."""
        if self._threads():
            self._since = None
            return True
        self._check_patience("none")
        return False

    def _check_patience(self, got: str) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = now
            if self.shown and sys.stderr is not None:
                sys.stderr.write(
                    f"simulations: no Dask worker answers; waiting up to {_PATIENCE_SECONDS:g} s\n"
                )
                sys.stderr.flush()
        if now - self._since > _PATIENCE_SECONDS or self.client.status == "closed":
            raise CampaignError(
                "Dask cluster", expected=f"a worker within {_PATIENCE_SECONDS:g} s", got=got,
                fix="start workers (look at their logs) and run again: it resumes",
            )  # fmt: skip

    def _threads(self) -> int:
        try:
            return sum(self.client.nthreads().values())
        except Exception:  # a scheduler that does not answer counts as one without workers
            return 0

    def _counts(self, future: Any, task: tuple[int, int]) -> list[int] | None:
        """Counts of a finished task; None if its Dask worker was lost and it is to run again."""
        status, error = future.status, None
        try:
            if status == "finished":
                return future.result(timeout=_RESULT_SECONDS)
            if status == "error":
                error = future.exception()
        except Exception as lost:  # the result went with its worker: its part is written again
            status, error = f"no result ({type(lost).__name__})", None
        if isinstance(error, SbitoolsError):
            raise error
        killed = error is not None  # else: it went with workers that may have died of anything
        limit = _TRIES if killed else _TRIES * _LOST_TRIES
        tries = self._tries[task, killed] = self._tries.get((task, killed), 0) + 1
        if tries >= limit:
            raise CampaignError(
                f"simulations {task[0]} to {task[1] - 1}", expected="a Dask worker that finishes",
                got=f"{status} {tries} times: {error!r}",
                fix="look at the workers' logs; what was finished is kept: run again to resume",
            ) from error  # fmt: skip
        return None

    def _end(self, left: list[Any]) -> None:
        """Cancel what is left; a cluster that does not answer is not waited for."""

        def end() -> None:
            with contextlib.suppress(Exception):  # workers that are gone already
                self.client.cancel(left)
                self.client.run(_close, self.key, on_error="ignore")

        thread = threading.Thread(target=end, daemon=True)
        thread.start()
        thread.join(_END_SECONDS)
