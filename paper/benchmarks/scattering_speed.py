"""Scattering covariances of maps: time and memory of a gradient, beside those of foscat.

The loss is the squared difference of the statistics' mean over 8 maps of white noise from a
target: what an emulation minimises. Both give the statistics of one field, 3 x 3 filters of 4
orientations, the same number of scales, float32, one thread. The two take turns of a few steps.

foscat is no dependency: it lives in an environment of its own (`python -m venv DIR`, then
`DIR/bin/pip install torch foscat`), named by `--foscat-python DIR/bin/python` or by the variable
FOSCAT_PYTHON. Without it, only our side is measured.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _table import Table, options, peak_memory_mb

__all__ = ["main"]

BATCH = 8
SIZES = {16: (4, 8), 32: (5, 5), 64: (6, 3)}  # Nside: levels, turns
QUICK_SIZES = {16: (4, 1)}
STEPS = 3  # of a turn
TIMES_FASTER = {16: 5.0, 32: 5.0, 64: 8.0}
MEMORY_NSIDE, MEMORY_BATCHES, MEMORY_KB = 128, (1, 8, 32), 0.6
LARGE_NSIDE, LARGE_GB = 512, 8.0
COLUMNS = ("what", "ours", "foscat", "foscat / ours", "required", "reached")


class Foscat:
    """The worker process; see `_foscat_worker.py`."""

    def __init__(self, python: str) -> None:
        worker = str(Path(__file__).with_name("_foscat_worker.py"))
        self.process = subprocess.Popen(
            [python, worker], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, bufsize=1,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def __call__(self, do: str, **arguments: int) -> float:
        """The answer to one job."""
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("the pipes of foscat's process are closed")
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"foscat's process ended with status {self.process.wait()}")
        return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def our_step(nside: int, levels: int, batch: int) -> Callable[[], float]:
    """A function that does one value and gradient and gives its seconds."""
    from emulators.methods.sky.wavelets.transform import ScatteringCovariance
    from sbitools.seeds import normal

    transform = ScatteringCovariance(nside, levels=levels)
    maps = normal([1], (batch, 1, 12 * nside**2))[0]
    target = 0.9 * transform(maps[:1])[0]

    def step() -> float:
        begun = time.perf_counter()
        x = maps.detach().requires_grad_()
        loss = (transform(x).mean(0) - target).square().sum()
        torch.autograd.grad(loss, x)
        return time.perf_counter() - begun

    return step


def memory(nside: int, batch: int) -> dict[str, float]:
    """Peak memory in bytes, in this process: of a gradient alone, and of all since the start."""
    torch.set_num_threads(1)
    our_step(2, 1, 1)()  # compiles
    step = our_step(nside, nside.bit_length() - 1, batch)
    built = 1e6 * peak_memory_mb()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before = 1e6 * peak_memory_mb()
    seconds = step()
    peak = 1e6 * peak_memory_mb()
    return {"gradient": peak - before, "all": max(peak, built), "seconds": seconds}


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a call in a fresh process, which starts with no memory of ours.

    There, what is freed goes back to the system at once: it is not used again unseen.
    """
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"  # glibc reads it when a process starts
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return pool.apply(function, arguments)


def response(nside: int, levels: int) -> list[float]:
    """Rms over pixels / mean of white noise's variance at every level, by maps of one pixel."""
    from emulators.methods.sky.wavelets.filters import Frame, build_levels
    from emulators.methods.sky.wavelets.layout import layout

    deltas = np.eye(12 * nside**2, dtype="float32")
    out = []
    for level in build_levels(nside, levels, 4, Frame(), "float32"):
        grid = layout(level.nside)
        near = grid.inside + grid.shifts[:, None]
        weights, smoother = level.weights[..., grid.inside], level.smoother[:, grid.inside]
        total, coarse = np.zeros((4, len(grid.inside))), []
        for some in np.array_split(deltas, 16):
            cells = grid.pad(some)[:, near]  # (deltas, 9, pixels)
            filtered = np.einsum("gcnp,dnp->dgcp", weights, cells)
            total += np.square(filtered, dtype=float).sum((0, 2))
            coarse.append(
                np.einsum("np,dnp->dp", smoother, cells).reshape(len(some), -1, 4).mean(2)
            )
        deltas = np.concatenate(coarse)
        out.append(float(total.sum(0).std() / total.sum(0).mean()))
    return out


def speed(table: Table, foscat: Foscat | None, sizes: dict[int, tuple[int, int]]) -> None:
    """Rows of milliseconds per map; the two take turns."""
    for nside, (levels, turns) in sizes.items():
        step = our_step(nside, levels, BATCH)
        step()
        if foscat:
            foscat("prepare", nside=nside, levels=levels, batch=BATCH)
        ours, theirs = [], []
        for _ in range(turns):
            ours += [1000 * step() / BATCH for _ in range(STEPS)]
            if foscat:
                theirs += [1000 * foscat("step") / BATCH for _ in range(STEPS)]
        table.data[f"nside {nside}"] = {"ours": ours, "foscat": theirs, "levels": levels}
        for name, of in (("best", min), ("median", statistics.median)):
            what = f"value and gradient, ms per map: Nside {nside}, J = {levels}, {name}"
            if foscat:
                ratio, least = of(theirs) / of(ours), TIMES_FASTER[nside]
                judge(
                    table, what, of(ours), of(theirs), ratio, f">= {least:g} times", ratio >= least
                )
            else:
                table.add(what, of(ours), "-", "-", "-", "-")


def judge(
    table: Table, what: str, ours: object, theirs: object, ratio: object, required: str, met: bool
) -> None:
    """A row with a requirement; the table passes if all do."""
    table.add(what, ours, theirs, ratio, required, met)
    table.passed = table.passed is not False and met


def count() -> int:
    """Coefficients of one map at J = 4, L = 4."""
    from emulators.methods.sky.wavelets.coefficients import coefficients
    from emulators.methods.sky.wavelets.transform import ScatteringCovariance

    transform = ScatteringCovariance(16, levels=4)
    found = coefficients(
        transform, transform(torch.randn(1, 1, 3072, generator=torch.Generator()))
    )
    return found.flat().shape[2]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and tabulate; 1 if a requirement is missed."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--foscat-python", default=os.environ.get("FOSCAT_PYTHON"))
    own, rest = parser.parse_known_args(argv)
    chosen = options((__doc__ or "").partition("\n")[0], rest)
    torch.set_num_threads(1)
    table = Table(
        "scattering_speed", "A gradient of scattering covariances: time and memory", COLUMNS,
        requirement="the last column but one.", quick=chosen.quick,
    )  # fmt: skip
    foscat = Foscat(own.foscat_python) if own.foscat_python else None
    if foscat is None:
        table.notes.append("foscat was not measured: no --foscat-python and no FOSCAT_PYTHON")
    uniform = response(16, 4)
    speed(table, foscat, QUICK_SIZES if chosen.quick else SIZES)
    there: list[object] = ["-", "-"]
    if foscat:
        there = [foscat("prepare", nside=16, levels=4, batch=BATCH), foscat("response", nside=16)]
    found = count()
    judge(table, "coefficients, J = 4, L = 4", found, there[0], "-", "1474", found == 1474)
    table.add(
        "variance of filtered white noise, Nside 16: rms over pixels / mean", max(uniform),
        there[1], "-", "-", "-",
    )  # fmt: skip
    if foscat:
        foscat.close()
    pixels = 12 * MEMORY_NSIDE**2
    for batch in MEMORY_BATCHES:
        found = in_own_process(memory, MEMORY_NSIDE, batch)
        kept = (found["gradient"] - 4 * batch * pixels) / pixels / 1000
        table.data[f"memory, batch {batch}"] = found
        judge(
            table, f"peak memory, kB per pixel: Nside {MEMORY_NSIDE}, batch {batch}", kept, "-",
            "-", f"<= {MEMORY_KB:g}", kept <= MEMORY_KB,
        )  # fmt: skip
    if not chosen.quick:
        found = in_own_process(memory, LARGE_NSIDE, BATCH)
        table.data["large"] = found
        judge(
            table, f"whole process, peak GB: Nside {LARGE_NSIDE}, batch {BATCH}",
            found["all"] / 1e9, "-", "-", f"<= {LARGE_GB:g}", found["all"] / 1e9 <= LARGE_GB,
        )  # fmt: skip
        table.add(
            f"the same, seconds of one gradient of {BATCH} maps",
            found["seconds"],
            "-",
            "-",
            "-",
            "-",
        )
    table.notes += [
        f"white noise, batch {BATCH}, float32, 1 thread, 3 x 3 filters, 4 orientations, J scales; "
        "best and median of "
        + ", ".join(f"{STEPS * n} steps at Nside {s}" for s, (_, n) in SIZES.items())
        + f", ours and foscat's in turns of {STEPS}",
        "peak memory is that of a gradient beyond the maps, the gradient itself and the tables of "
        "filters; the whole process includes the libraries and the making of the tables",
        "the variance of filtered white noise is the sum over the 4 orientations, ours at the "
        "worst of 4 levels, foscat's at the finest",
    ]
    table.write(chosen.out)
    return 0 if table.passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
