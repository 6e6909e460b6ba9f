"""A posterior of two moons that sbi trained: its verdict here, and what its draws cost.

The same draws are asked of the same network four ways: by sbi's own `sample_batched`, for all
observations at once and in the batches of `calibrate`, and by `ForeignPosterior` from a store on
disk, without and with densities. Rounds alternate, and the fastest of each counts, in seconds of
processor time on one thread, so that other work on the machine hits all alike.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _table import Table
from sbibm_tasks import get_task

import sbitools
from sbitools import ForeignPosterior, SimulationStore, bridge
from sbitools.calibration import CalibrationDraws
from sbitools.seeds import seeded_globals, simulation_seeds

__all__ = ["two_moons"]

BATCH, MOST = 64, 1.1
WHOLE, CUT = "sbi sample_batched, all at once", f"sbi sample_batched, {BATCH} at a time"
OURS, DENSE = "sbitools, from the store", "sbitools, with densities"
FULL = "sbitools, full calibration"


def _store(task: Any, n: int, path: Path, seed: int) -> SimulationStore:
    """Simulations of a task, made here: it costs less than to start a worker."""
    theta, own = (
        task.parameters.design(n, seed),
        torch.from_numpy(simulation_seeds(seed, range(n))),
    )
    return SimulationStore.from_arrays(
        path, theta, task.simulate(theta, own), task.parameters, task.output, seeds=own,
        design="random",
    )  # fmt: skip


def _trained(store: Any, epochs: int) -> Any:
    """NPE of sbi by its defaults, trained for a few epochs."""
    from sbi.inference import NPE

    theta, x = bridge.theta_and_x(store)
    with seeded_globals(1), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inference = NPE(bridge.prior_for_sbi(store.parameters), show_progress_bars=False)
        inference.append_simulations(theta, x).train(max_num_epochs=epochs)
        return inference.build_posterior()


def _theirs(posterior: Any, x: torch.Tensor, n_draws: int, batch: int) -> None:
    with seeded_globals(2), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a note on how it cuts the batch
        for rows in x.split(batch):
            posterior.sample_batched((n_draws,), rows, show_progress_bars=False)


def _fastest(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.process_time()
            way()
            best[name] = min(best[name], time.process_time() - begun)
    return best


def two_moons(quick: bool) -> Table:
    """The table of this set."""
    n_train, n, n_draws, epochs, rounds = (
        (300, 100, 50, 3, 1) if quick else (1000, 1000, 200, 20, 2)
    )
    task = get_task("two_moons")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = _store(task, n_train, folder / "train", 1)
        test = _store(task, n, folder / "test", 2)
        theirs = _trained(train, epochs)
        ours = ForeignPosterior(theirs, task.parameters, task.output, trained_on=train)
        x = test.read(test.done)

        def drawn(log_prob: bool) -> CalibrationDraws:
            return CalibrationDraws.from_posterior(
                ours, test, n_draws, batch_size=BATCH, log_prob=log_prob
            )

        best = _fastest({
            WHOLE: lambda: _theirs(theirs, x, n_draws, n),
            CUT: lambda: _theirs(theirs, x, n_draws, BATCH),
            OURS: lambda: drawn(False),
            DENSE: lambda: drawn(True),
        }, rounds)  # fmt: skip
        begun = time.process_time()
        result = sbitools.calibrate(ours, test, n_draws=n_draws, batch_size=BATCH, progress=False)
        best[FULL] = time.process_time() - begun
    table = Table(
        "peers_two_moons", f"A two_moons posterior of sbi: {n} tests of {n_draws} draws",
        ("what", "CPU seconds", "times sbi"),
        f"draws for all tests cost at most {MOST} times the faster of sbi's own ways.", quick,
    )  # fmt: skip
    rival = min(best[WHOLE], best[CUT])
    for what, seconds in best.items():
        table.add(what, seconds, seconds / rival)
    table.passed = None if quick else bool(best[OURS] <= MOST * rival)
    p_values = {c.name: c.p_value for c in result.emulated if c.p_value is not None}
    listed = ", ".join(f"{k} {v:.2g}" for k, v in p_values.items())
    table.notes += [
        f"NPE of sbi by its defaults, {n_train} simulations, {epochs} epochs",
        f"verdict: {result.verdict}",
        f"p-values: {listed}; excluded tests: {len(result.excluded['emulated'])}",
        f"fastest of {rounds} alternating round(s), processor time of one thread; the full "
        "calibration once",
    ]
    table.data = {
        "seconds": best, "passed": result.passed, "p_values": p_values, "n": n,
        "n_draws": n_draws,
    }  # fmt: skip
    return table
