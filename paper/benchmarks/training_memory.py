"""Peak memory of training while the store grows.

Stores of 0.25 to 2 GB are written, one at a time, and a posterior is trained for two epochs on
each in a process of its own, so that every process has its own high-water mark. The network is
small and sees the fields at a quarter of their resolution: what is measured is the streaming, not
the network. The stores lie in a temporary folder (`TMPDIR` chooses where) and are removed.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _table import Table, options, peak_memory_mb

__all__ = ["main"]

SIDE = 32
FIELD_GB = SIDE**3 * 4 / 1e9
SIZES_GB = (0.25, 0.5, 1.0, 2.0)
QUICK_SIZES_GB = (0.05, 0.2)
LIMIT_MB = 300
EPOCHS = 2
CHUNK = 256
COLUMNS = ("store / GB", "fields", "peak memory / MB", "above the smallest / MB", "epoch / s")


def write_store(path: str, n: int) -> None:
    """A store of `n` fields of white noise around their theta, written in pieces."""
    import numpy as np

    from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors

    space = ParameterSpace([Parameter("mu", priors.Normal(0.0, 1.0))])
    spec = FieldSpec("noise", ("x", "y", "z"), (SIDE,) * 3)
    theta = space.design(n, seed=1)
    store = SimulationStore.create(path, space, spec, theta, np.arange(n), task_size=CHUNK)
    rng = np.random.default_rng(2)
    for start in range(0, n, CHUNK):
        mu = theta[start : start + CHUNK].numpy().astype("float32")
        noise = rng.standard_normal((len(mu), *spec.shape), dtype="float32")
        store.add_many(start, noise + mu[:, :, None, None])


def train(path: str, run_dir: str) -> dict[str, float]:
    """Train on the store in this process; its peak memory in MB and the seconds of an epoch."""
    import torch

    import sbitools
    from sbitools.observation import Coarsen, Observation

    torch.set_num_threads(1)
    store = sbitools.SimulationStore.open(path, verify=False)
    begun = time.perf_counter()
    posterior = sbitools.train(
        store, observe=Observation([Coarsen(4)]), run_dir=run_dir, epochs=EPOCHS, patience=None,
        batch_size=64, embedding="mlp", channels=4, features=8, flow_hidden=16,
        flow_transforms=1, device="cpu",
    )  # fmt: skip
    epochs = len(posterior.info["history"]["epochs"])
    return {"peak": peak_memory_mb(), "epoch": (time.perf_counter() - begun) / epochs}


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a call in a fresh process, which starts with no memory of ours."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return pool.apply(function, arguments)


def measure(size_gb: float) -> tuple[int, dict[str, float]]:
    """Write a store, train on it, remove it; number of fields and what `train` measured."""
    n = round(size_gb / FIELD_GB)
    with tempfile.TemporaryDirectory(prefix="training-memory-") as folder:
        store = str(Path(folder) / "store")
        in_own_process(write_store, store, n)
        return n, in_own_process(train, store, str(Path(folder) / "run"))


def main() -> int:
    """Write the table; 1 if memory grows by more than is allowed."""
    chosen = options((__doc__ or "").partition("\n")[0])
    table = Table(
        "training_memory", "Peak memory of training against the size of the store", COLUMNS,
        requirement=f"at most {LIMIT_MB} MB above the smallest store, from 0.25 to 2 GB.",
        quick=chosen.quick,
    )  # fmt: skip
    smallest = None
    for size in QUICK_SIZES_GB if chosen.quick else SIZES_GB:
        n, result = measure(size)
        smallest = result["peak"] if smallest is None else smallest
        growth = result["peak"] - smallest
        table.add(size, n, round(result["peak"]), round(growth), result["epoch"])
        table.passed = table.passed is not False and growth <= LIMIT_MB
    table.notes = [
        f"{EPOCHS} epochs, fields of {SIDE}^3 float32, 1 thread; the peak is that of the whole "
        "process, libraries included, the time includes set-up and validation.",
    ]
    table.write(chosen.out)
    return 0 if table.passed else 1


if __name__ == "__main__":
    sys.exit(main())
