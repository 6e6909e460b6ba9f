"""simulate(): draws -> tasks -> store, on local processes or Dask; resumes after any kill.

A campaign is cut into tasks that depend on its specification only, never on the number of
workers; each task is simulated as one batch and becomes one part file. So 1 process, 2 processes
and a Dask cluster give the same files, and so does a campaign that was killed and run again.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sbitools.disk.files import typed
from sbitools.errors import CampaignError, StoreError
from sbitools.gate.plain import as_path, whole
from sbitools.identity import identity, origin
from sbitools.parameters import Design
from sbitools.seeds import check_seed, simulation_seeds
from sbitools.simulator import Simulator
from sbitools.store import SimulationStore
from sbitools.store.manifest import DesignTable, Manifest, lock, stamp
from sbitools.store.parts import DONE, FAILED, PENDING, REJECTED, RejectedSimulation
from sbitools.version import __version__

from .arguments import checked_numbers, checked_simulator
from .command import STOPPING_SECONDS, CommandSimulator
from .match import check_same, with_texts_of
from .progress import Progress, nothing_to_do
from .runner import Cancelled, Payload, Runner, import_path, no_room
from .sending import as_bytes

__all__ = ["CampaignInterrupted", "RejectedSimulation", "plan", "simulate"]

_LOG = logging.getLogger(__name__)

# A source of results: (start, stop, counts) of finished tasks, in any order
Engine = Callable[[list[tuple[int, int]]], Iterator[tuple[int, int, list[int]]]]


class CampaignInterrupted(CampaignError, KeyboardInterrupt):
    """Ctrl-C or SIGTERM stopped a campaign; run it again to resume."""


def simulate(
    simulator: Simulator,
    n: int,
    path: str | Path,
    *,
    seed: int,
    workers: int = 2,
    client: Any = None,
    design: Design = "random",
    task_size: int | None = None,
    time_limit: float | None = None,
    resume: bool = True,
    retry_failed: bool = False,
    progress: bool = True,
) -> SimulationStore:
    """Run `n` simulations into the store at `path`.

    With a store of the same campaign at `path`, only what is missing is run: the same `n` resumes,
    a larger one extends (not for a Latin hypercube, whose points depend on n).

    Args:
        simulator: with `parameters`, `output` and ``simulate(theta, seeds)``. It is sent to the
            worker processes in memory, by cloudpickle: no ``if __name__`` guard is needed.
        n: number of simulations, a multiple of the simulator's group size.
        path: directory of the store.
        seed: of theta and of each simulation's seed. Training, test and reference sets must have
            different ones.
        workers: local processes, of one thread each.
        client: a ``dask.distributed.Client`` to use instead (extra ``dask``); its workers must
            see `path`.
        design: ``"random"``, ``"sobol"`` or ``"latin_hypercube"``.
        task_size: simulations per batch and part file; about 64 MB if None.
        time_limit: seconds one simulation may take; those that take longer are killed and
            recorded as failed. A batch has this times its size.
        resume: False to refuse an existing store.
        retry_failed: run failed simulations again too.
        progress: show counts, rate and time left on stderr.

    Returns:
        The store. Simulations that raised, hung, killed their worker or gave values that are not
        finite are recorded in it as failed: see `SimulationStore.failures`.

    Raises:
        StoreError: if the store at `path` is another campaign's, also by the simulator's code,
            what it closes over or its options (see `sbitools.identity`); if it is in use, or the
            disk is full.
        ShapeError: if the simulator returns another shape or dtype than its `output` says.
        CampaignError: if workers cannot start.
        CampaignInterrupted: after Ctrl-C or SIGTERM; nothing finished is lost.

    Example:
        >>> more = simulate(simulator, 20, "more", seed=3, workers=1, progress=False)
        >>> len(more.done), len(more.failures())
        (20, 0)
    """
    path, simulator = as_path(path, error=StoreError), checked_simulator(simulator)
    n, workers, task_size, time_limit = checked_numbers(
        n, workers, task_size, time_limit, resume=resume, retry_failed=retry_failed,
        progress=progress,
    )  # fmt: skip
    with typed(path):
        path = path.absolute()  # wherever the process goes from here
    _check_groups(simulator, n)
    wanted = _manifest(simulator, n, check_seed(seed), design, task_size)
    sent, time_limit = _sent(simulator, time_limit)
    if not resume or stamp(path) is None:
        _create(path, simulator, wanted, task_size)
    with lock(path, exclusive=True), _terminable(path):
        _match(path, wanted, task_size)
        store = SimulationStore(path)
        tasks = _missing(store, retry_failed)
        payload = Payload(
            sent, str(path.absolute()), store.group_size, time_limit,
            import_path(),
        )  # fmt: skip
        engine: Any = _engine(payload, workers, client)
        engine.shown = progress  # a cluster says that it waits for workers
        _run(store, tasks, engine, progress)
        store.refresh()
        _LOG.info("%s: %s", path, store.counts())
        for old in store._catalog.superseded():  # by simulations that were run again
            with typed(old):
                old.unlink(missing_ok=True)
    return SimulationStore(path)


def plan(
    simulator: Simulator,
    n: int,
    path: str | Path,
    *,
    seed: int,
    design: Design = "random",
    task_size: int | None = None,
) -> SimulationStore:
    """Make the store of a campaign without running it, for programs that run elsewhere.

    Export its design with `SimulationStore.export_design`, add results with
    `SimulationStore.add` or `sbitools import`; `simulate` with the same arguments runs what is
    missing. Arguments and errors are those of `simulate`; a store at `path` is refused.
    """
    path, simulator = as_path(path, error=StoreError), checked_simulator(simulator)
    n, _, task_size, _ = checked_numbers(n, 1, task_size, None)
    _check_groups(simulator, n)
    manifest = _manifest(simulator, n, check_seed(seed), design, task_size)
    _create(path, simulator, manifest, task_size)
    return SimulationStore(path)


def _check_groups(simulator: Simulator, n: int) -> None:
    group = _group_size(simulator)
    if n % group:
        raise CampaignError(
            "n of simulate", expected=f"a multiple of the group size {group}", got=f"{n}",
            fix="members of one group are simulated together",
        )  # fmt: skip


def _sent(simulator: Any, limit: float | None) -> tuple[bytes, float | None]:
    """The simulator as workers get it, and the seconds they have for one simulation."""
    if isinstance(simulator, CommandSimulator) and limit is not None:
        # it stops its program itself, and knows what that wrote: the worker is stopped only later
        return as_bytes(simulator.within(limit)), limit + STOPPING_SECONDS
    return as_bytes(simulator), limit


def _group_size(simulator: Any) -> int:
    """Simulations that are made together; 1 if the simulator does not say."""
    group = getattr(simulator, "group_size", 1)
    return whole(group, "group_size of the simulator", least=1, error=CampaignError)


def _manifest(simulator: Any, n: int, seed: int, design: str, task_size: int | None) -> Manifest:
    from sbitools.store.layout import Layout
    from sbitools.store.store import default_task_size

    layout = Layout(simulator.parameters, simulator.output, getattr(simulator, "source", None))
    group = _group_size(simulator)
    size = task_size or default_task_size(n, layout, group)
    if task_size is None and isinstance(simulator, CommandSimulator):
        size = simulator.task_size(n, size)
    if size < 1 or size % group:
        raise CampaignError(
            "task_size", expected=f"a multiple of the group size {group}", got=f"{size}",
            fix="members of one group are simulated together",
        )  # fmt: skip
    function = getattr(simulator, "function", None)
    name = getattr(simulator, "name", None) or type(simulator).__name__
    if function is not None:
        name += f"({getattr(function, '__qualname__', type(function).__name__)})"
    versions = [str(getattr(simulator, "version", "")), f"sbitools {__version__}"]
    table = identity(simulator)
    return Manifest(
        replace(layout, origin=origin(name, table)), seed, design, (n,), size, group, name,
        "; ".join(v for v in versions if v), identity=table,
    )  # fmt: skip


def _create(path: Path, simulator: Any, m: Manifest, task_size: int | None) -> None:
    table = _table(m, m.n)
    SimulationStore.create(
        path, simulator.parameters, simulator.output, table.theta, table.seeds,
        source=m.layout.source, seed=m.seed, group_size=m.group_size, task_size=m.task_size,
        design=m.design, simulator=m.simulator, code_version=m.code_version, identity=m.identity,
    )  # fmt: skip


def _table(m: Manifest, n: int) -> DesignTable:
    assert m.seed is not None  # noqa: S101  (campaigns have a seed)
    theta = m.layout.parameters.design(n, m.seed, m.design)  # pyright: ignore[reportArgumentType]
    groups = np.arange(n, dtype=np.int64) // m.group_size
    return DesignTable(theta.numpy(), simulation_seeds(m.seed, range(n)), groups)


def _match(path: Path, wanted: Manifest, task_size: int | None) -> None:
    """Check that the store is of this campaign, and extend it if `n` grew."""
    have = Manifest.read(path)
    size = wanted.task_size if task_size else have.task_size
    check_same(path, have, replace(wanted, task_size=size))
    new = "choose another path, or pass what the store was made with"
    if wanted.n < have.n or (wanted.n > have.n and have.design == "latin_hypercube"):
        raise StoreError(
            f"n of the store {path}", expected=f"{have.n}, or more for another design than "
            "a Latin hypercube", got=f"{wanted.n} ({have.design})", fix=new,
        )  # fmt: skip
    have = with_texts_of(path, have, wanted)
    if wanted.n > have.n:
        _extend(path, have, wanted.n)


def _extend(path: Path, have: Manifest, n: int) -> None:
    old = have.table(path)
    table = _table(have, n)
    same = np.array_equal(old.theta, table.theta[: have.n])
    if not same or not np.array_equal(old.seeds, table.seeds[: have.n]):
        raise StoreError(
            f"design of the store {path}", expected="theta and seeds that this seed gives",
            got="others", fix="the store was made with other versions of numpy or scipy, or not "
            "by simulate(): choose another path",
        )  # fmt: skip
    replace(have, segments=(*have.segments, n - have.n)).write(path, table)


def _missing(store: SimulationStore, retry_failed: bool) -> list[tuple[int, int]]:
    """Stretches of simulations without a result, within the tasks of the store."""
    state, out = store._catalog.state, []
    todo = (state == PENDING) | (retry_failed & (state == FAILED))
    for start, stop in store.manifest.tasks():
        edges = np.flatnonzero(np.diff(np.r_[0, todo[start:stop], 0])) + start
        out += list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
    return out


def _engine(payload: Payload, workers: int, client: Any) -> Engine:
    if client is None:
        return _Local(payload, workers)
    if not (hasattr(client, "scatter") and hasattr(client, "submit")):
        raise CampaignError(
            "client of simulate", expected="a dask.distributed.Client, or None",
            got=type(client).__name__, fix="leave it out to use processes of this machine",
        )  # fmt: skip
    from .cluster import DaskEngine

    return DaskEngine(payload, client)


def _run(
    store: SimulationStore, tasks: list[tuple[int, int]], engine: Engine, shown: bool
) -> None:
    counts = store._catalog.state
    begin = [int(np.sum(counts == s)) for s in (DONE, FAILED, REJECTED)]
    for start, stop in tasks:  # those that are run again count anew
        begin[1] -= int(np.sum(counts[start:stop] == FAILED))
    _LOG.info("%s: %d tasks to do; %d simulations done, %d failed, %d rejected before",
              store.path, len(tasks), *begin)  # fmt: skip
    if not tasks:
        nothing_to_do(store.counts(), shown)
        return
    bar = Progress(len(store), begin, shown)
    try:
        for _, _, new in engine(tasks):
            bar.add(new)
    finally:
        bar.close()


class _Local:
    """Threads of this process, each with a worker process of its own."""

    def __init__(self, payload: Payload, workers: int) -> None:
        self.payload, self.workers = payload, workers
        self._results: queue.Queue[Any] = queue.Queue()
        self._todo: deque[tuple[int, int]] = deque()

    def __call__(self, tasks: list[tuple[int, int]]) -> Iterator[tuple[int, int, list[int]]]:
        self._todo.extend(tasks)
        runners = [Runner(self.payload) for _ in range(min(self.workers, len(tasks)))]
        threads = [threading.Thread(target=self._serve, args=(r,)) for r in runners]
        try:
            for thread in threads:
                _begin(thread)
            for _ in tasks:
                result = self._results.get()
                if isinstance(result, BaseException):
                    raise result
                yield result
        finally:
            _surely(lambda: self._end(runners, threads))

    def _end(self, runners: list[Runner], threads: list[threading.Thread]) -> None:
        self._todo.clear()
        for runner in runners:
            runner.cancel()
        for thread in threads:
            if thread.ident is not None:
                thread.join()

    def _serve(self, runner: Runner) -> None:
        try:
            while True:
                start, stop = self._todo.popleft()
                self._results.put((start, stop, runner.run(start, stop)))
        except (IndexError, Cancelled):  # nothing left
            return
        except BaseException as error:
            self._results.put(error)
        finally:
            runner.close()


def _begin(thread: threading.Thread) -> None:
    try:
        thread.start()
    except RuntimeError as error:
        raise no_room("thread of the campaign", error) from error


def _surely(action: Callable[[], None]) -> None:
    """Do it to the end, however often Ctrl-C is pressed; it may begin again."""
    pressed = None
    while True:
        try:
            action()
            break
        except KeyboardInterrupt as error:
            pressed = error
    if pressed is not None:
        raise pressed


@contextlib.contextmanager
def _terminable(path: Path) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into `CampaignInterrupted`, after all workers have stopped."""

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if main else None
    try:
        yield
    except KeyboardInterrupt as error:
        raise CampaignInterrupted(
            f"campaign {path}", expected="all simulations", got="an interrupt",
            fix="run the same command again: it resumes, and nothing finished is lost",
        ) from error  # fmt: skip
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)
