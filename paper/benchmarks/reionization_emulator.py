"""Diffusion emulator of 21cm planes against 21cmFAST, at held-out parameters.

64 x 64 cells, 128 Mpc, redshift 9, zeta and T_vir. The emulator is fitted to planes of 256 cubes;
at each of 20 points of the prior there are 48 reference cubes. The noise floor compares 24 of them
with the other 24, one plane each, and the emulator's column does the same with 24 emulated planes;
where the floor is not needed, a third of the planes of all cubes is used. Needs 21cmFAST
(`sbitools[reionization]`) and, from nothing, about an hour and a half on two cores; `--work` keeps
simulations and weights.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _reionization import FIDUCIAL, PRIORS, SEED, STEP, at, points, response_stores, train_store
from _table import RESULTS, Table
from torch import Tensor

from emulators.reionization.diffusion import n_calls
from emulators.reionization.emulator import ReionizationEmulator
from emulators.reionization.simulator import ReionizationSimulator
from emulators.reionization.statistics import Distances, Statistics, distances, measure
from sbitools.seeds import derive, mix
from sbitools.statistics import nearest_neighbour

NAME = "reionization_emulator"
BOX = 128.0  # Mpc
SHOWN = 0.95  # a plane with more ionised cells has no spectrum to speak of
REQUIRED = (
    "ln P(k): median <= 0.05 and <= 1.3 times the floor, no bin beyond 0.05 + 2 standard errors "
    "in the mean; scattering <= 0.04; mean signal within 1 % of its range; ionised cells: bias <= "
    "0.03; values: <= 1.2 times the floor; scatter of P(k) within 15 %; response within 10 %"
)


@dataclass(frozen=True)
class Sizes:
    """Of the sets."""

    train: int = 256
    points: int = 20
    cubes: int = 48
    many: int = 128  # at the first point, for the scatter
    universes: int = 24  # of a derivative
    steps: int = 4500
    drawn: int = 96  # planes per point


QUICK = Sizes(train=16, points=2, cubes=4, many=8, universes=2, steps=20, drawn=8)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and tabulate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the table")
    parser.add_argument("--quick", action="store_true", help="smaller sizes: a smoke test")
    parser.add_argument("--work", type=Path, help="folder of simulations and weights, kept")
    parser.add_argument("--workers", type=int, default=2, help="processes that simulate")
    parser.add_argument("--weights", type=Path, help="a fitted emulator instead of a new fit")
    chosen = parser.parse_args(argv)
    sizes = QUICK if chosen.quick else Sizes()
    with tempfile.TemporaryDirectory() as folder:
        work = chosen.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        table = run(work, sizes, chosen.workers, chosen.weights, chosen.quick)
    table.write(chosen.out)
    return 0


def run(work: Path, sizes: Sizes, workers: int, weights: Path | None, quick: bool) -> Table:
    """Everything, from what is in `work`."""
    store = train_store(work, sizes.train, workers)
    emulator, fitted = fit(work, store, sizes, weights)
    theta, truth = points(sizes.points), []
    for i, row in enumerate(theta.tolist()):
        values = dict(zip(PRIORS, row, strict=True))
        n = sizes.many if i == 0 else sizes.cubes
        truth.append(at(work, f"point-{i:02d}", values, n, workers, derive(SEED, 2, i)))
        say(f"reference at point {i}: {truth[-1].mean():.2f} mK")
    shown = [i for i, x in enumerate(truth) if float((x == 0).float().mean()) < SHOWN]
    title = "Emulated 21cm planes against 21cmFAST, at held-out parameters"
    columns = ("statistic", "emulator", "noise floor", "required", "met")
    table = Table(NAME, title, columns, quick=quick)
    table.requirement = REQUIRED
    compared = Comparison(emulator, theta, truth, shown, sizes)
    compared.rows(table)
    rows_of_scatter(table, emulator, theta[0], truth[0], sizes)
    rows_of_response(table, emulator, response_stores(work, sizes.universes, workers))
    table.notes += [fitted, *samplers(emulator, theta, shown), memorised(emulator, store),
                    speed(emulator)]  # fmt: skip
    table.notes.append(
        f"{len(shown)} of {len(theta)} points have less than {SHOWN:.0%} of their cells ionised: "
        "spectra and scattering are compared there; mean, ionised cells and values everywhere"
    )
    table.passed = all(row[-1] != "NO" for row in table.rows)
    return table


def fit(work: Path, store: Any, sizes: Sizes, weights: Path | None) -> tuple[Any, str]:
    """The emulator, and what its training took."""
    if weights is not None:
        return ReionizationEmulator.load(weights), f"weights of {weights.name}, not trained here"
    emulator = ReionizationEmulator(ReionizationSimulator("slice", 64, BOX, priors=PRIORS))
    begun = time.process_time()
    history = emulator.fit(
        store, {"steps": sizes.steps}, run_dir=work / "fit", resume=True,
        on_epoch=lambda row: say(f"step {row['step']}: {row['train_loss']:.4f}"),
    )  # fmt: skip
    emulator.save(work / "emulator")
    return emulator, (
        f"{sizes.train} cubes, {sizes.steps} steps: {history.seconds:.0f} s, "
        f"{time.process_time() - begun:.0f} CPU s in this process"
    )


class Comparison:
    """Emulated and reference planes, point by point."""

    def __init__(
        self, emulator: ReionizationEmulator, theta: Tensor, truth: list[Tensor],
        shown: list[int], sizes: Sizes,
    ) -> None:  # fmt: skip
        self.shown, self.fair, self.floor, self.whole = shown, [], [], []
        self.means: list[float] = []
        half = sizes.cubes // 2
        for i, x in enumerate(truth):
            rows = torch.arange(2 * half)
            single = x[rows, rows % x.shape[1]]  # planes across all axes, one per cube
            seeds = mix(torch.arange(sizes.drawn), derive(SEED, 4, i))
            drawn = emulator.simulate(theta[i : i + 1].expand(sizes.drawn, -1), seeds)
            first, second = measure(single[:half], BOX), measure(single[half:], BOX)
            mine, rest = measure(drawn, BOX), measure(x[:, ::3].flatten(0, 1), BOX)
            self.fair.append(distances(measure(drawn[:half], BOX), second))
            self.floor.append(distances(first, second))
            self.whole.append(distances(mine, rest))
            self.means.append(float(rest.mean.mean()))
            say(f"emulated point {i}")

    def rows(self, table: Table) -> None:
        """Of the table."""
        fair, floor = (self._stack(d, "power") for d in (self.fair, self.floor))
        mine, base = median(fair), median(floor)
        add(table, "ln P(k): median of |.|, 24 planes each", mine, base,
            f"<= 0.05, <= {1.3 * base:.3f}", mine <= 0.05 and mine <= 1.3 * base)  # fmt: skip
        bins = self._stack(self.whole, "power")
        mean, error = bins.mean(0), bins.std(0, ddof=1) / len(bins) ** 0.5
        worst = int((np.abs(mean) - 2 * error).argmax())
        table.data["ln P(k) by bin"] = {"mean": mean.tolist(), "error": error.tolist()}
        add(table, f"ln P(k): mean of the worst bin ({worst})",
            f"{mean[worst]:+.3f} ± {error[worst]:.3f}", "", "<= 0.05 + 2 standard errors",
            bool((np.abs(mean) <= 0.05 + 2 * error).all()))  # fmt: skip
        scattering, floor = (
            median(self._stack(d, "scattering")) for d in (self.whole, self.floor)
        )  # fmt: skip
        add(table, "scattering: median of |.|, all cubes", scattering, floor, "<= 0.04",
            scattering <= 0.04)  # fmt: skip
        off = np.abs([d.mean for d in self.whole])
        reach = max(self.means) - min(self.means)
        add(table, "mean signal: median error [mK]", float(np.median(off)),
            float(np.median(np.abs([d.mean for d in self.floor]))), f"<= {0.01 * reach:.3f}",
            float(np.median(off)) <= 0.01 * reach)  # fmt: skip
        add(table, "mean signal: largest error [mK]", float(off.max()), "", "", None)
        ionised = np.array([d.ionised for d in self.whole])
        add(table, "ionised cells: bias", float(ionised.mean()),
            float(np.mean([d.ionised for d in self.floor])), "<= 0.03",
            abs(float(ionised.mean())) <= 0.03)  # fmt: skip
        add(table, "ionised cells: rms", float(np.sqrt((ionised**2).mean())),
            float(np.sqrt(np.mean([d.ionised**2 for d in self.floor]))), "", None)  # fmt: skip
        values = [float(np.mean([d.values for d in x])) for x in (self.fair, self.floor)]
        add(table, "values: Wasserstein [mK], 24 planes each", values[0], values[1],
            f"<= {1.2 * values[1]:.3f}", values[0] <= 1.2 * values[1])  # fmt: skip

    def _stack(self, found: list[Distances], name: str) -> np.ndarray:
        return np.array([getattr(found[i], name) for i in self.shown])


def rows_of_scatter(
    table: Table, emulator: ReionizationEmulator, theta: Tensor, truth: Tensor, sizes: Sizes
) -> None:
    """Relative scatter of P(k) between seeds at one point."""
    rows = torch.arange(sizes.many)
    single = measure(truth[rows, rows % truth.shape[1]], BOX)
    drawn = emulator.simulate(
        theta[None].expand(sizes.many, -1), mix(rows, derive(SEED, 5))
    )  # fmt: skip
    found = distances(measure(drawn, BOX), single).scatter
    half = sizes.many // 2
    floor = distances(single.part(slice(half)), single.part(slice(half, None))).scatter
    table.data["scatter by bin"] = found.tolist()
    mean = float(np.mean(found))
    add(table, f"scatter of P(k), {sizes.many} seeds: mean of ln ratio", mean,
        float(np.abs(floor.mean())), "within 0.15", abs(mean) <= 0.15)  # fmt: skip


def rows_of_response(
    table: Table, emulator: ReionizationEmulator, truth: dict[str, tuple[Tensor, Tensor]]
) -> None:
    """d ln P / d theta, reference and emulator each with the same universes on both sides."""
    for name, (down, up) in truth.items():
        expected, error = slopes(down.flatten(0, 1), up.flatten(0, 1), STEP[name], len(down))
        sides = []
        for sign in (-1, 1):
            values = dict(FIDUCIAL)
            step = sign * STEP[name]
            values[name] = values[name] * np.exp(step) if name == "zeta" else values[name] + step
            theta = torch.tensor([[values[p] for p in PRIORS]], dtype=torch.float64)
            sides.append(emulator.simulate(theta.expand(192, -1), torch.arange(192)))
        found, own = slopes(*sides, STEP[name], 192)
        table.data[f"response to {name}"] = {
            "reference": expected.tolist(), "emulator": found.tolist(),
            "errors": [error.tolist(), own.tolist()],
        }  # fmt: skip
        ratio = float((found * expected).sum() / (expected**2).sum())
        add(table, f"response d ln P / d {name}: fitted ratio", ratio,
            float((error / np.abs(expected)).mean()), "within 0.10 of 1",
            abs(ratio - 1) <= 0.10)  # fmt: skip


def slopes(down: Tensor, up: Tensor, step: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean of d ln P / d theta by bin, and its standard error from n independent universes."""
    sides = [measure(x, BOX).power for x in (down, up)]
    each = [s.reshape(n, -1, s.shape[1]).mean(1) for s in sides]
    value = np.log(each[1].mean(0) / each[0].mean(0)) / (2 * step)
    single = each[1] / each[1].mean(0) - each[0] / each[0].mean(0)
    return value, single.std(0, ddof=1) / n**0.5 / (2 * step)


def samplers(emulator: ReionizationEmulator, theta: Tensor, shown: list[int]) -> list[str]:
    """What fewer calls of the network change, from the same noise."""
    rows = theta[shown[:5]].repeat_interleave(16, 0)
    seeds = torch.arange(len(rows))
    exact = emulator.sampling(sampler="heun", sampler_steps=100).simulate(rows, seeds)
    truth, out = measure(exact, BOX), []
    floor = distances(truth.part(slice(40)), truth.part(slice(40, None)))
    for name, steps in (("dpm3", 12), ("dpm3", 15), ("dpm3", 18), ("dpm2", 18), ("heun", 18)):
        begun = time.process_time()
        other = emulator.sampling(sampler=name, sampler_steps=steps)
        mine: Statistics = measure(other.simulate(rows, seeds), BOX)
        seconds = (time.process_time() - begun) / len(rows)
        d = distances(mine, truth)
        out.append(
            f"{name}, {n_calls(name, steps)} calls, against heun, 199, from the same noise: ln P "
            f"{d.power.min():+.3f} to {d.power.max():+.3f}, mean {d.mean:+.3f} mK, ionised "
            f"{d.ionised:+.4f}; {seconds:.3f} CPU s per plane"
        )
    out.append(f"other noise instead: ln P {np.abs(floor.power).mean():.3f} (mean of |.|)")
    return out


def memorised(emulator: ReionizationEmulator, store: Any) -> str:
    """Whether emulated planes are planes of the training set."""
    rows = store.done[:64]
    library = store.read(rows)[:, ::4].flatten(0, 1)
    theta = store.theta[rows[:32]]
    drawn = emulator.simulate(theta, torch.arange(len(theta)))
    other = store.read(store.done[64:96])[:, 1]
    found = nearest_neighbour(drawn.numpy(), library.numpy()).correlation
    floor = nearest_neighbour(other.numpy(), library.numpy()).correlation
    return (
        "memorisation, best correlation with a training plane over all shifts: emulated "
        f"{np.median(found):.2f} (median), {found.max():.2f} (largest); planes of cubes outside "
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
    theta = simulator.parameters.design(64, 1)
    begun = time.process_time()
    emulator.simulate(theta, torch.arange(64))
    mine = (time.process_time() - begun) / 64
    return (
        f"one independent plane: {reference:.2f} CPU s by 21cmFAST (a cube of which one plane is "
        f"kept), {mine:.3f} emulated; a whole cube of 64 correlated planes costs 21cmFAST the "
        f"same {reference:.2f} s, and is not cheaper to emulate plane by plane"
    )


def add(
    table: Table, name: str, mine: object, floor: object, required: str, met: bool | None
) -> None:
    """A row."""
    table.add(name, mine, floor, required, "" if met is None else ("yes" if met else "NO"))


def median(x: np.ndarray) -> float:
    """Of absolute values."""
    return float(np.median(np.abs(x)))


def say(text: str) -> None:
    """Progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
