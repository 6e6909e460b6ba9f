"""How fast a store is read and written: sequential, with every part hashed, and at random.

A store of `--size-gb` is written to a temporary folder (`TMPDIR` chooses where), its pages are
dropped from the operating system's cache as far as that is allowed, and it is read once from
front to back by a new store object, which hashes each part before it hands out a row of it. The
second reading finds the parts hashed and cached: it is what an epoch of training after the first
sees if the store fits in memory.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from _table import RESULTS, Table

from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors

__all__ = ["main"]

SIDE = 64
FIELD = FieldSpec("density", ("x", "y", "z"), (SIDE,) * 3)
SPACE = ParameterSpace([Parameter("a", priors.Uniform(0.0, 1.0))])
BATCH = 64
REQUIRED = 200.0  # MB/s


class Fields:
    """`n` fields that are made as they are asked for."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._noise = np.random.default_rng(0).standard_normal((128, *FIELD.shape), "float32")

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self._noise[np.arange(*rows.indices(self.n)) % 128]


def forget(store: SimulationStore) -> None:
    """Ask the system to drop its cached pages of the parts."""
    for part in sorted((store.path / "parts").iterdir()):
        fd = os.open(part, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def seconds(store: SimulationStore, indices: np.ndarray) -> float:
    """Time to read the simulations `indices`, in batches."""
    begun = time.perf_counter()
    for _ in store.batches(indices, BATCH):
        pass
    return time.perf_counter() - begun


def main(argv: Sequence[str] | None = None) -> int:
    """Write, read, and tabulate; 1 if the sequential read is too slow."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the tables")
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument("--size-gb", type=float, default=2.0, help="size of the store")
    chosen = parser.parse_args(argv)
    gigabytes = chosen.size_gb / (10 if chosen.quick else 1)
    n = max(int(gigabytes * 1e9 / FIELD.nbytes), BATCH)
    megabytes = n * FIELD.nbytes / 1e6
    table = Table(
        "store_throughput", f"Store of {megabytes / 1e3:.2g} GB, fields of {SIDE}^3 float32",
        ("what", "seconds", "MB/s"), f"sequential read, hashed, at least {REQUIRED:.0f} MB/s.",
        chosen.quick,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        made = SimulationStore.from_arrays(
            Path(folder) / "s", SPACE.design(n, 1), Fields(n), SPACE, FIELD
        )  # pyright: ignore[reportArgumentType]
        rates = {"import of arrays, checked, hashed and fsynced": time.perf_counter() - begun}
        parts = len(list((made.path / "parts").iterdir()))
        shuffled = np.random.default_rng(1).permutation(n)
        forget(made)
        store = SimulationStore.open(made.path)
        rates["sequential read, every part hashed"] = seconds(store, np.arange(n))
        rates["sequential read again, hashed before"] = seconds(store, np.arange(n))
        rates["random order, hashed before"] = seconds(store, shuffled)
        begun = time.perf_counter()
        SimulationStore.open(made.path).digest()
        opening = time.perf_counter() - begun
        store.close()
    for what, spent in rates.items():
        table.add(what, spent, megabytes / spent)
    hashed = megabytes / rates["sequential read, every part hashed"]
    table.passed = hashed >= REQUIRED
    table.notes += [
        f"{n} simulations in {parts} parts, read {BATCH} at a time",
        f"opening the store and its digest: {opening * 1e3:.0f} ms",
        "pages of the parts were dropped from the cache (posix_fadvise) before the first reading",
    ]
    table.data = {"megabytes": megabytes, "seconds": rates, "hashed_mb_per_s": hashed}
    table.write(chosen.out)
    return 0 if table.passed else 1


if __name__ == "__main__":
    sys.exit(main())
