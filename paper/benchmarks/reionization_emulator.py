"""Diffusion emulators of the 21cm signal against 21cmFAST, at held-out parameters.

`--case` is one of `_reionization.CASES`: planes with two parameters, with four, or small cubes.
The emulator is fitted to planes of some hundred cubes; at each of 20 points of the prior there are
48 reference cubes. The noise floor compares 24 of them with the other 24, one plane each, and the
emulator's column does the same with 24 emulated planes; averaged over eight choices of the planes,
since the distance of one choice depends on it by a seventh. Where the floor is not needed, a
third of the planes of all cubes is used, and all of them for the scatter between seeds. Emulated
cubes are dear: 24 of them at each point make one choice, and samplers are compared on planes only.
Needs 21cmFAST (`sbitools[reionization]`) and, from nothing, about an hour and a half on two cores,
two hours and a half for four parameters or cubes; `--work` keeps all fields and weights.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _reionization import CASES, SHOWN, Case, reference, response_stores, train_store
from _reionization_emulated import drawing
from _reionization_rows import Comparison, rows_of_response, rows_of_scatter
from _table import Table, say, simulating_parser, work_folder
from torch import Tensor

from emulators.methods.diffusion import n_calls
from emulators.reionization.emulator import ReionizationEmulator
from emulators.reionization.statistics import distances
from sbitools.statistics import nearest_neighbour

NAME = "reionization_emulator"
REQUIRED = (
    "ln P(k): median <= {0}{1}, no bin beyond {0} + 2 standard errors in the mean; scattering <= "
    "0.04; mean signal within 1 % of its range; ionised cells: bias <= 0.03; values: <= 1.2 times "
    "the floor; scatter of P(k) within 15 %; response within 10 %"
)


@dataclass(frozen=True)
class Sizes:
    """Of the sets."""

    train: int | None = None
    points: int = 20
    cubes: int = 48
    spread: int = 4  # points at which the scatter between seeds is measured
    universes: int = 24  # of a derivative
    steps: int | None = None
    drawn: int = 192  # fields per point
    derivative: int = 192  # emulated fields on each side
    alike: int = 16  # fields at each of five points that compare samplers; 0: none


QUICK = Sizes(
    train=16, points=2, cubes=4, spread=1, universes=2, steps=20, drawn=8, derivative=16, alike=2
)
CUBES = Sizes(drawn=24, derivative=24, alike=0)  # one costs as much as forty planes


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and tabulate."""
    parser = simulating_parser(__doc__)
    parser.add_argument("--case", choices=sorted(CASES), default="planes", help="what is emulated")
    parser.add_argument("--cubes", type=int, help="reference cubes per point, instead of 48")
    parser.add_argument("--weights", type=Path, help="a fitted emulator instead of a new fit")
    chosen = parser.parse_args(argv)
    sizes = QUICK if chosen.quick else CUBES if chosen.case == "cubes" else Sizes()
    sizes = replace(sizes, cubes=chosen.cubes or sizes.cubes)
    with work_folder(chosen) as work:
        table = run(chosen.case, work, sizes, chosen.workers, chosen.weights, chosen.quick)
    table.write(chosen.out)
    return 0


def run(
    name: str, work: Path, sizes: Sizes, workers: int, weights: Path | None, quick: bool
) -> Table:
    """Everything, from what is in `work`."""
    case = CASES[name]
    store = train_store(case, work, sizes.train or case.train, workers)
    emulator, fitted = fit(case, work, store, sizes, weights)
    theta, truth, shown = reference(case, work, sizes.points, sizes.cubes, workers)
    title = f"Emulated against 21cmFAST, at held-out parameters: {case.title}"
    columns = ("statistic", "emulator", "noise floor", "required", "met")
    suffix = "" if name == "planes" else f"_{name}"
    table = Table(NAME + suffix, title, columns, quick=quick)
    times = f" and <= {case.floors} times the floor" if case.floors else ""
    table.requirement = REQUIRED.format(case.limit, times)
    half = sizes.cubes // 2
    draw = drawing(emulator, work, workers)
    compared = Comparison(case, draw, theta, truth, shown, half, max(half, sizes.drawn))
    compared.rows(table)
    rows_of_scatter(table, case, draw, theta, truth, shown[: sizes.spread], sizes.drawn)
    sides = response_stores(case, work, sizes.universes, workers)
    rows_of_response(table, case, draw, sides, sizes.derivative)
    table.notes += [
        fitted,
        *(samplers(case, emulator, theta, shown, sizes.alike) if sizes.alike else []),
        memorised(emulator, store), speed(emulator),
        f"{len(shown)} of {len(theta)} points have less than {SHOWN:.0%} of their cells ionised: "
        "spectra and scattering are compared there; mean, ionised cells and values everywhere",
    ]  # fmt: skip
    table.passed = all(row[-1] != "NO" for row in table.rows)
    return table


def fit(case: Case, work: Path, store: Any, sizes: Sizes, weights: Path | None) -> tuple[Any, str]:
    """The emulator, and what its training took."""
    if weights is not None:
        return ReionizationEmulator.load(weights), f"weights of {weights.name}, not trained here"
    emulator = ReionizationEmulator(case.simulator)
    options = dict(case.options) | ({"steps": sizes.steps} if sizes.steps else {})
    history = emulator.fit(
        store, options, run_dir=work / "fit", resume=True,
        on_epoch=lambda row: say(f"step {row['step']}: {row['train_loss']:.4f}"),
    )  # fmt: skip
    emulator.save(work / "emulator")
    return emulator, (
        f"{len(store.done)} cubes, {emulator.options.steps} steps, {history.seconds:.0f} s on the "
        f"clock; {sum(p.numel() for p in emulator.module().parameters()):,} weights"
    )


def samplers(
    case: Case, emulator: ReionizationEmulator, theta: Tensor, shown: list[int], each: int
) -> list[str]:
    """What fewer calls of the network change, from the same noise, of `each` fields per point."""
    rows = theta[shown[:5]].repeat_interleave(each, 0)
    seeds = torch.arange(len(rows))
    exact = emulator.sampling(sampler="heun", sampler_steps=100).simulate(rows, seeds)
    truth, out = case.measure(exact), []
    # Fields of one point are neighbours: both parts have the same points.
    floor = distances(truth.part(slice(0, None, 2)), truth.part(slice(1, None, 2)))
    for name, steps in (("dpm3", 12), ("dpm3", 15), ("dpm3", 18), ("dpm2", 18), ("heun", 18)):
        begun = time.process_time()
        other = emulator.sampling(sampler=name, sampler_steps=steps)
        drawn = other.simulate(rows, seeds)
        seconds = (time.process_time() - begun) / len(rows)
        d = distances(case.measure(drawn), truth)
        out.append(
            f"{name}, {n_calls(name, steps)} calls, against heun, 199, from the same noise: ln P "
            f"{d.power.min():+.3f} to {d.power.max():+.3f}, mean {d.mean:+.3f} mK, ionised "
            f"{d.ionised:+.4f}; {seconds:.3f} CPU s per field"
        )
    out.append(f"other noise instead: ln P {np.abs(floor.power).mean():.3f} (mean of |.|)")
    return out


def memorised(emulator: ReionizationEmulator, store: Any) -> str:
    """Whether emulated planes are planes of the training set."""
    n = min(64, len(store.done) // 2)
    rows, others = store.done[:n], store.done[n : n + 32]
    library = store.read(rows)
    if emulator.output.shape != store.output.shape:  # planes of cubes
        library = library[:, ::4].flatten(0, 1)
    theta = store.theta[rows[:32]]
    drawn = emulator.simulate(theta, torch.arange(len(theta)))
    other = store.read(others)
    other = other[:, 1] if other.ndim > drawn.ndim else other
    found = nearest_neighbour(drawn.numpy(), library.numpy()).correlation
    floor = nearest_neighbour(other.numpy(), library.numpy()).correlation
    return (
        "memorisation, best correlation with a training field over all shifts: emulated "
        f"{np.median(found):.2f} (median), {found.max():.2f} (largest); those of cubes outside "
        f"the library {np.median(floor):.2f}, {floor.max():.2f}"
    )


def speed(emulator: ReionizationEmulator) -> str:
    """CPU seconds of reference and emulator, measured now, one thread each."""
    torch.set_num_threads(1)
    simulator = emulator.simulator
    theta, seeds = simulator.parameters.design(4, 1), torch.arange(4)
    simulator.simulate(theta[:1], seeds[:1])
    begun = time.process_time()
    simulator.simulate(theta, seeds)
    reference = (time.process_time() - begun) / 4
    n = 64 if len(emulator.output.shape) == 2 else 8
    theta = simulator.parameters.design(n, 1)
    begun = time.process_time()
    emulator.simulate(theta, torch.arange(n))
    mine = (time.process_time() - begun) / n
    return (
        f"one independent field: {reference:.2f} CPU s by 21cmFAST, {mine:.3f} emulated; planes "
        "are cut out of a cube, and all planes of one cost 21cmFAST no more than one"
    )


if __name__ == "__main__":
    sys.exit(main())
