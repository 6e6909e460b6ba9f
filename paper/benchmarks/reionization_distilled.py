"""Few calls of the 21cm emulator's network for a field: the distilled emulator beside its teacher.

Both against the 21cmFAST planes of `reionization_emulator`, whose `--work` holds them and the
fitted emulator, and against each other from the same noise. Without it, the shipped weights are
distilled, and the planes simulated. Needs 21cmFAST (`sbitools[reionization]`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from _reionization import CASES, Case, reference
from _reionization_emulated import drawing
from _reionization_rows import Comparison
from _table import Table, say, simulating_parser, work_folder
from reionization_emulator import QUICK, Sizes

from emulators.methods.diffusion import n_calls
from emulators.reionization.distillation import distill
from emulators.reionization.emulator import ReionizationEmulator
from emulators.reionization.shipped import emulator as shipped

NAME = "reionization_distilled"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and tabulate."""
    parser = simulating_parser(__doc__)
    parser.add_argument("--calls", type=int, action="append", help="of the network; repeatable")
    chosen = parser.parse_args(argv)
    torch.set_num_threads(1)
    with work_folder(chosen) as work:
        table = run(work, chosen.calls or [4], chosen.workers, chosen.quick)
    table.write(chosen.out)
    return 0


def run(work: Path, calls: list[int], workers: int, quick: bool) -> Table:
    """Distil, then compare at every point."""
    case, sizes, path = CASES["planes"], QUICK if quick else Sizes(), work / "emulator"
    teacher = ReionizationEmulator.load(path) if path.exists() else shipped()
    if teacher.simulator.version != case.simulator.version:
        raise SystemExit(f"{path} is an emulator of something else than {case.title}")
    theta, truth, shown = reference(case, work, sizes.points, sizes.cubes, workers)
    every, notes = {"fitted": teacher}, [f"the fitted emulator: {teacher.version}"]
    for n in calls:
        begun = time.monotonic()
        config, n_ways = ({"steps": 20}, 32) if quick else (None, 4096)
        few, history = distill(
            teacher, n, config, run_dir=work / f"distilled-{n}", n_ways=n_ways, workers=workers,
            resume=True, progress=False,
            on_epoch=lambda row: say(f"step {row['step']}: {row['train_loss']:.4f}"),
        )  # fmt: skip
        every[f"distilled, {n} calls"] = few
        notes.append(
            f"{n} calls: {n_ways} ways of the fitted network, {few.options.steps} steps, "
            f"{history.seconds:.0f} s of training; this run {time.monotonic() - begun:.0f} s"
        )
        few.save(work / f"distilled-{n}" / "emulator")
    columns = ("statistic", *every, "noise floor")
    table = Table(NAME, "Planes by few calls of the network", columns, quick=quick)
    made = {
        name: Comparison(
            case, drawing(e, work, workers), theta, truth, shown, sizes.cubes // 2, sizes.drawn
        )
        for name, e in every.items()
    }
    tables = [Table(name, "", ("statistic", "value", "floor", "required", "met")) for name in made]
    for compared, one in zip(made.values(), tables, strict=True):
        compared.rows(one)
    for rows in zip(*(one.rows for one in tables), strict=True):
        table.add(str(rows[0][0]).partition(" (")[0], *[row[1] for row in rows], rows[0][2])
    apart = same_noise(case, every)
    table.add("ln P of single planes, from the same noise: mean of |.|", 0.0, *apart, "")
    table.add("calls", *[n_calls(e.options.sampler, e.options.sampler_steps)
                         for e in every.values()], "")  # fmt: skip
    table.add("CPU s per plane", *[seconds(e) for e in every.values()], "")
    table.notes += notes
    return table


def same_noise(case: Case, every: dict[str, ReionizationEmulator]) -> list[float]:
    """How far spectra of single planes are from those of the first emulator."""
    first, *others = every.values()
    theta = first.parameters.design(64, 7)
    seeds = torch.arange(64)
    exact = case.measure(first.simulate(theta, seeds))
    out = []
    for other in others:
        mine = case.measure(other.simulate(theta, seeds))
        both = (exact.power.min(1) > 0) & (mine.power.min(1) > 0)
        out.append(float(np.abs(np.log(mine.power[both] / exact.power[both])).mean()))
    return out


def seconds(emulator: ReionizationEmulator) -> float:
    """CPU seconds of a plane, of 64."""
    theta, seeds = emulator.parameters.design(64, 1), torch.arange(64)
    begun = time.process_time()
    emulator.simulate(theta, seeds)
    return (time.process_time() - begun) / 64


if __name__ == "__main__":
    sys.exit(main())
