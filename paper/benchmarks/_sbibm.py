"""One cell of the benchmark: train on the simulations of a task, draw, and judge the draws.

Everything that took time is kept in a cache and found there by the next run: the simulations of
(task, N); what a method drew, with its training time; the C2ST of each observation. What a
method drew is filed under the method's version and options, so that results of another version
are not taken for those of this one.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import io
import json
import os
import resource
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from c2st import c2st
from sbibm_tasks import Task, get_task
from sbibm_tasks.observations import Observed

import sbitools
from sbitools import SimulationStore
from sbitools.seeds import derive

__all__ = ["METHODS", "Cell", "Scores", "our_sources", "processes"]

Draws = list[np.ndarray]
Simulations = Callable[[], SimulationStore]
Fit = Callable[[Task, Simulations, np.ndarray, int, "Cell"], tuple[Draws, float]]

_SEED = 1  # of the simulations, of training and of the draws
_SIMULATIONS, _TRAINING, _DRAWS = range(3)
# sbi draws from outside the prior too and rejects those draws, without end if all are outside.
_TIME_LIMIT = 1800.0


def _sbitools(
    task: Task, simulations: Simulations, x: np.ndarray, n: int, cell: Cell
) -> tuple[Draws, float]:
    """Ours, by the defaults."""
    limits: dict[str, Any] = {} if cell.seconds is None else {"time_limit": cell.seconds}
    store = simulations()
    begun = time.perf_counter()
    posterior = sbitools.train(store, "npe", run_dir=cell.folder / "training", **limits)
    seconds = time.perf_counter() - begun
    # One observation at a time, so that memory does not grow with their number.
    draws = [
        posterior.sample(row[None], n, seed=derive(_SEED, _DRAWS, i))[0].numpy()
        for i, row in enumerate(x.astype(np.float32))
    ]
    return [task.natural(theta) for theta in draws], seconds


def _sbi(density_estimator: str | None) -> Fit:
    """NPE of sbi, by its defaults but for the network."""

    def fit(
        task: Task, simulations: Simulations, x: np.ndarray, n: int, cell: Cell
    ) -> tuple[Draws, float]:
        from sbi.inference import NPE

        store = simulations()
        theta = torch.from_numpy(task.natural(store.theta.numpy())).float()
        network: Any = {"density_estimator": density_estimator} if density_estimator else {}
        # sbi trains and draws from torch's global generator, that of this process alone.
        torch.set_num_threads(1)
        torch.default_generator.manual_seed(derive(_SEED, _TRAINING))
        begun = time.perf_counter()
        inference = NPE(task.prior(), show_progress_bars=False, **network)
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inference.append_simulations(theta, store.read(store.done)).train()
        seconds = time.perf_counter() - begun
        posterior = inference.build_posterior()
        return [
            posterior.sample(
                (n,), x=torch.from_numpy(row).float(), show_progress_bars=False,
                max_sampling_time=_TIME_LIMIT,
            ).double().numpy()
            for row in x
        ], seconds  # fmt: skip

    return fit


def _exact(
    task: Task, simulations: Simulations, x: np.ndarray, n: int, cell: Cell
) -> tuple[Draws, float]:
    """The true posterior once more: the noise floor of the C2ST."""
    return [task.reference(row, n, derive(_SEED, _DRAWS, i)) for i, row in enumerate(x)], 0.0


METHODS: dict[str, Fit] = {
    "sbitools": _sbitools, "sbi_maf": _sbi(None), "sbi_nsf": _sbi("nsf"), "exact": _exact,
}  # fmt: skip


@dataclass(frozen=True)
class Scores:
    """What was measured in a cell.

    Args:
        c2st: by observation number.
        minutes: of training, wall time.
        cpu_minutes: of training and drawing.
        memory_mb: largest resident memory of the process.
        sources: digest of our sources when it was measured; "" for other methods.
    """

    c2st: dict[int, float]
    minutes: float
    cpu_minutes: float
    memory_mb: float
    sources: str


@dataclass(frozen=True)
class Cell:
    """Task, number of simulations and method, with their place in the cache.

    Args:
        cache: folder of all results.
        task: name of the task.
        n: number of simulations.
        method: name of the method.
        seconds: time limit of each stage of our training, for smoke tests; None for none.
    """

    cache: Path
    task: str
    n: int
    method: str
    seconds: float | None = None

    @property
    def folder(self) -> Path:
        """Of what this version of the method drew."""
        return self._parent / f"{self.method}-{_version(self.method)}"

    @property
    def _parent(self) -> Path:
        # Exact draws do not depend on the simulations.
        return self.cache / self.task / (f"n{self.n}" if self.method != "exact" else "exact")

    def forget(self) -> None:
        """Delete the results of all versions of the method."""
        for folder in self._parent.glob(f"{self.method}-*"):
            shutil.rmtree(folder)

    def has(self, one: Observed) -> bool:
        """Whether the cache holds the verdict on an observation."""
        return self._draws(one).with_suffix(".json").is_file()

    def measure(self, to_judge: Sequence[Observed], pool: Executor) -> Scores:
        """Train and draw unless the cache has it, then judge every observation."""
        if missing := [o for o in to_judge if not self._draws(o).is_file()]:
            self._fit(missing)
        numbers = [o.number for o in to_judge]
        scores = dict(zip(numbers, pool.map(self._judge, to_judge), strict=True))
        facts = json.loads((self.folder / "fit.json").read_text(encoding="utf-8"))
        return Scores(scores, **facts)

    def _fit(self, missing: Sequence[Observed]) -> None:
        """In a process of its own: its random state, threads and memory end with it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with processes(1) as alone:
            draws, facts = alone.submit(_run, self, np.stack([o.x for o in missing]),
                                        len(missing[0].reference)).result()  # fmt: skip
        _write(self.folder / "fit.json", facts)
        for one, theta in zip(missing, draws, strict=True):
            new = self.folder / "draws.new.npy"
            np.save(new, theta.astype(np.float32), allow_pickle=False)
            new.replace(self._draws(one))

    def _judge(self, one: Observed) -> float:
        path = self._draws(one).with_suffix(".json")
        if not path.is_file():
            begun = time.perf_counter()
            value = c2st(one.reference, np.load(self._draws(one), allow_pickle=False))
            _write(path, {
                "task": self.task, "simulations": self.n, "method": self.method,
                "version": _version(self.method), "observation": one.number,
                "published": one.published, "digest": one.digest, "draws": len(one.reference),
                "c2st": value, "seconds": time.perf_counter() - begun,
            })  # fmt: skip
        return float(json.loads(path.read_text(encoding="utf-8"))["c2st"])

    def _draws(self, one: Observed) -> Path:
        return self.folder / f"observation_{one.number}-{one.digest[:8]}.npy"

    def store(self, task: Task, workers: int = 2) -> SimulationStore:
        """The simulations of (task, N), the same for every method."""
        seed = derive(_SEED, _SIMULATIONS, self.n)
        path = self.cache / self.task / f"n{self.n}" / "store"
        return sbitools.simulate(task, self.n, path, seed=seed, workers=workers, progress=False)


def processes(workers: int) -> Executor:
    """New processes, which inherit nothing of this one."""
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))


def _run(cell: Cell, x: np.ndarray, n: int) -> tuple[Draws, dict[str, Any]]:
    task = get_task(cell.task)
    before = sum(os.times()[:2])
    draws, seconds = METHODS[cell.method](task, lambda: cell.store(task), x, n, cell)
    shutil.rmtree(cell.folder / "training", ignore_errors=True)
    return draws, {
        "minutes": seconds / 60, "cpu_minutes": (sum(os.times()[:2]) - before) / 60,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        "sources": our_sources() if cell.method == "sbitools" else "",
    }  # fmt: skip


def _version(method: str) -> str:
    """Of the code and options that a method consists of."""
    if method == "sbitools":
        from sbitools.inference.methods import find_method

        defaults = find_method("npe").options().model_dump_json()
        return f"{sbitools.__version__}-{hashlib.sha256(defaults.encode()).hexdigest()[:8]}"
    if method == "exact":
        return "1"
    return importlib.metadata.version("sbi")


def our_sources() -> str:
    """Digest of our sources that training and drawing run through."""
    root = Path(sbitools.__file__).parent
    paths = sorted(
        p for d in ("inference", "training", "embeddings") for p in root.glob(f"{d}/*.py")
    )
    return hashlib.sha256(b"".join(p.read_bytes() for p in paths)).hexdigest()[:12]


def _write(path: Path, values: dict[str, Any]) -> None:
    """All or nothing, so that a run that was killed leaves no half of a result."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    new.replace(path)
