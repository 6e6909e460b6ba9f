"""Campaigns on a Dask cluster (extra ``dask``).

Each Dask task runs one task of the campaign in a worker process of its own, exactly as a local
campaign does, so that time limits and crashes are handled alike and the bits are the same.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sbitools.errors import CampaignError, SbitoolsError

from .runner import Cancelled, Payload, Runner

__all__ = ["DaskEngine"]

_TRIES = 4  # of a task whose Dask worker is lost
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

    Args:
        payload: simulator and store; the store's path must be shared by all Dask workers.
        client: the client.
    """

    def __init__(self, payload: Payload, client: Any) -> None:
        self.client, self.key = client, uuid.uuid4().hex
        self.simulator = payload.simulator
        self.payload = replace(payload, simulator=b"")
        self._tries: dict[tuple[int, int], int] = {}

    def __call__(self, tasks: list[tuple[int, int]]) -> Iterator[tuple[int, int, list[int]]]:
        """Yield (start, stop, counts) of finished tasks; few futures are in flight at a time."""
        from distributed import as_completed

        self._scatter()
        waiting = list(reversed(tasks))
        flying: dict[Any, tuple[int, int]] = {}
        done = as_completed()
        try:
            while waiting or flying:
                while waiting and len(flying) < max(2 * sum(self.client.nthreads().values()), 2):
                    task = waiting.pop()
                    future = self.client.submit(
                        _run, self.key, self.payload, self._data, *task, pure=False
                    )
                    flying[future] = task
                    done.add(future)
                future = next(done)
                task = flying.pop(future)
                counts = self._counts(future, task)
                if counts is None:
                    waiting.append(task)
                else:
                    yield (*task, counts)
        finally:
            self.client.cancel(list(flying))
            with contextlib.suppress(OSError, TimeoutError):  # workers that are gone already
                self.client.run(_close, self.key, on_error="ignore")

    def _scatter(self) -> None:
        self._data = self.client.scatter(self.simulator, broadcast=True, hash=False)

    def _counts(self, future: Any, task: tuple[int, int]) -> list[int] | None:
        """Counts of a finished task; None if its Dask worker was lost and it is to run again."""
        if future.status == "finished":
            return future.result()
        error = future.exception() if future.status == "error" else None
        if isinstance(error, SbitoolsError):
            raise error
        self._tries[task] = self._tries.get(task, 0) + 1
        if self._tries[task] >= _TRIES:
            raise CampaignError(
                f"simulations {task[0]} to {task[1] - 1}", expected="a Dask worker that finishes",
                got=f"{future.status} {_TRIES} times: {error!r}",
                fix="look at the workers' logs; what was finished is kept: run again to resume",
            ) from error  # fmt: skip
        self._scatter()  # the lost worker may have held the simulator
        return None
