"""The emulator of any field against simulators of planes, cubes and series: power and its scatter.

    any_field.py [--sets abcd] [--steps N]

256 simulations of each set are learned from; then many seeds of held-out theta are made by both,
and the mean power of each shell is compared; the floor is simulations against simulations.
`--steps 0` leaves the network out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from _table import RESULTS, Table, cpu_seconds, say, simulating_parser

from emulators.methods.diffusion.emulator import DiffusionEmulator
from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors

__all__ = ["SETS", "main"]

N, THETA, SEEDS = 256, 12, 24  # simulations to learn from; held-out theta, and seeds of each
Draw = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Set:
    """A simulator: one field for theta (P,), its parameters with uniform priors, its output."""

    draw: Draw
    ranges: dict[str, tuple[float, float]]
    output: FieldSpec

    @property
    def parameters(self) -> ParameterSpace:
        """With uniform priors."""
        return ParameterSpace([Parameter(n, priors.Uniform(*r)) for n, r in self.ranges.items()])

    def many(self, theta: torch.Tensor, rng: np.random.Generator) -> np.ndarray:
        """Fields (B, *shape), float32."""
        return np.stack([self.draw(row, rng) for row in theta.numpy()]).astype(np.float32)


def wavenumber(*shape: int) -> np.ndarray:
    """In units of the fundamental; infinite for the mean."""
    grids = np.meshgrid(*[np.fft.fftfreq(n) * n for n in shape], indexing="ij")
    k = np.sqrt(sum(g**2 for g in grids))
    k.flat[0] = np.inf
    return k


def gaussian(power: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A Gaussian field of unit variance times `power`'s shape."""
    white = np.fft.fftn(rng.standard_normal(power.shape))
    return np.fft.ifftn(white * np.sqrt(power / power.mean())).real


def planes(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(a) Gaussian planes: amplitude at the fundamental and slope of the spectrum."""
    power = wavenumber(64, 64) ** -theta[1]
    return theta[0] * np.sqrt(power.mean()) * 30 * gaussian(power, rng)


def pairs(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(b) Log-normal planes of two channels of different units, with noise."""
    power, noise = wavenumber(64, 64) ** -2.0, rng.standard_normal((2, 64, 64))
    g, other = (theta[0] * gaussian(power, rng) for _ in range(2))
    h = 0.6 * g + 0.8 * other
    first = np.exp(g - theta[0] ** 2 / 2) - 1 + theta[1] * noise[0]
    return np.stack([first, 1e5 * np.exp(h - theta[0] ** 2 / 2) + 1e4 * noise[1]])


def cubes(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(c) Log-normal cubes: spread, slope and smallest scale."""
    k = wavenumber(32, 32, 32)
    power = k ** -theta[1] * np.exp(-((np.where(np.isinf(k), 0, k) / theta[2]) ** 2))
    return np.exp(theta[0] * gaussian(power, rng) - theta[0] ** 2 / 2)


def series(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(d) Noise with a knee whose power drifts, and rare pulses with a tail."""
    k, t = wavenumber(1024), np.arange(1024)
    noise = gaussian(1 + (100 / k) ** theta[0], rng) * np.exp(theta[1] * (t / 1024 - 0.5))
    for at in rng.uniform(0, 1024, rng.poisson(theta[2])):
        noise += 3 * rng.exponential() * np.where(t > at, np.exp(-np.maximum(t - at, 0) / 6), 0)
    return noise


SETS = {
    "a": Set(planes, {"amplitude": (0.5, 2.0), "slope": (1.0, 3.0)},
             FieldSpec("plane", ("y", "x"), (64, 64))),
    "b": Set(pairs, {"spread": (0.3, 1.0), "noise": (0.05, 0.5)},
             FieldSpec("pair", ("channel", "y", "x"), (2, 64, 64))),
    "c": Set(cubes, {"spread": (0.3, 1.0), "slope": (1.0, 3.0), "cut": (4.0, 20.0)},
             FieldSpec("cube", ("z", "y", "x"), (32, 32, 32))),
    "d": Set(series, {"knee": (0.5, 2.0), "drift": (-1.0, 1.0), "pulses": (1.0, 10.0)},
             FieldSpec("series", ("t",), (1024,), axes=("open",))),
}  # fmt: skip


def main() -> None:
    """Fit, simulate, compare."""
    parser = simulating_parser(__doc__)
    parser.add_argument("--sets", default="abcd", help="which, by their letters")
    parser.add_argument("--steps", type=int, help="of training; 0: no network")
    chosen = parser.parse_args()
    table = Table(
        "any_field", "The emulator of any field, from 256 simulations",
        ["set", "fit [CPU s]", "a field [CPU s]", "network", "ln P, median", "floor",
         "ln P, worst theta", "scatter of P, ln", "standard deviation, ln"],
        "median |ln P| at most 0.10 or 1.5 times the floor, scatter within 20 %.", chosen.quick,
    )  # fmt: skip
    for name in chosen.sets:
        table.add(name, *measure(SETS[name], chosen.steps, chosen.quick))
    table.passed = all(
        row[4] <= max(0.10, 1.5 * row[5]) and abs(row[7]) < np.log(1.2)  # pyright: ignore
        for row in table.rows
    )
    table.write(chosen.out or RESULTS)


def measure(one: Set, steps: int | None, quick: bool) -> tuple[object, ...]:
    """A row of the table, but for its name."""
    rng, space = np.random.default_rng(0), one.parameters
    n, seeds = (64, 6) if quick else (N, SEEDS)
    theta = space.design(n, 0)
    options = {} if steps is None else {"steps": steps, "network": steps > 0}
    if steps == 0:
        options["steps"] = 1
    emulator = DiffusionEmulator(space, one.output)
    with tempfile.TemporaryDirectory() as folder:
        x = torch.from_numpy(one.many(theta, rng))
        store = SimulationStore.from_arrays(Path(folder) / "store", theta, x, space, one.output)
        begun = cpu_seconds()
        emulator.fit(store, options, run_dir=Path(folder) / "fit")
        fitted, begun = cpu_seconds() - begun, cpu_seconds()
    emulator.simulate(theta[:8], torch.arange(8))
    each = (cpu_seconds() - begun) / 8
    say(f"{one.output.name}: fitted in {fitted:.0f} CPU s")
    ratios, floors, scatters, sizes = [], [], [], []
    for i, row in enumerate(space.design(THETA, 99)):
        many = row[None].repeat(seeds, 1)
        made = emulator.simulate(many, 1000 * i + torch.arange(seeds)).numpy()
        real, again = one.many(many, rng), one.many(many, rng)
        power, true, other = (_shells(f, len(one.output.space)) for f in (made, real, again))
        ratios.append(np.log(power.mean(0) / true.mean(0)))
        floors.append(np.log(other.mean(0) / true.mean(0)))
        scatters.append(np.log(np.log(power).std(0) / np.log(true).std(0)))
        sizes.append(np.log(made.std() / real.std()))
    off = np.abs(ratios)
    return (
        fitted, each, emulator.learned, float(np.median(off)), float(np.median(np.abs(floors))),
        float(np.median(off.reshape(THETA, -1), 1).max()), float(np.mean(scatters)),
        float(np.mean(sizes)),
    )  # fmt: skip


def _shells(x: np.ndarray, axes: int) -> np.ndarray:
    """Power (B, C, shells) of fields (B, [C,] *space), neighbouring shells of series together."""
    space = x.shape[-axes:]
    k = wavenumber(*space)
    edges = np.arange(0.5, space[0] // 2 + 1) if axes > 1 else np.geomspace(0.5, 512, 25)
    bins = np.digitize(np.where(np.isinf(k), 0, k), edges).ravel()
    over = tuple(range(-axes, 0))
    power = np.abs(np.fft.fftn(x - x.mean(over, keepdims=True), axes=over)) ** 2
    rows = power.reshape(-1, k.size)
    counts = np.bincount(bins, minlength=len(edges) + 1)
    here = np.flatnonzero(counts[1 : len(edges)]) + 1
    sums = np.stack([np.bincount(bins, row, len(edges) + 1) for row in rows])
    return (sums[:, here] / counts[here]).reshape(len(x), -1, len(here))


if __name__ == "__main__":
    main()
