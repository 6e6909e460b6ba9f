"""Rows of the table of `reionization_emulator`: emulated against reference fields."""

from __future__ import annotations

import numpy as np
import torch
from _reionization import SEED, Case, shifted, single
from _table import Table, say
from torch import Tensor

from emulators.reionization.emulator import ReionizationEmulator
from emulators.reionization.statistics import Distances, distances
from sbitools.seeds import derive, mix

__all__ = ["Comparison", "rows_of_response", "rows_of_scatter"]


class Comparison:
    """Emulated and reference planes, point by point."""

    def __init__(
        self, case: Case, emulator: ReionizationEmulator, theta: Tensor, truth: list[Tensor],
        shown: list[int], half: int, n_drawn: int,
    ) -> None:  # fmt: skip
        self.shown, self.fair, self.floor, self.whole = shown, [], [], []
        self.means: list[float] = []
        self.half, measure = half, case.measure
        for i, x in enumerate(truth):
            alone = single(x, 2 * half)
            seeds = mix(torch.arange(n_drawn), derive(SEED, 4, i))
            drawn = emulator.simulate(theta[i : i + 1].expand(n_drawn, -1), seeds)
            first, second = measure(alone[:half]), measure(alone[half:])
            mine, rest = measure(drawn), measure(x[:, ::3].flatten(0, 1))
            self.fair.append(distances(measure(drawn[:half]), second))
            self.floor.append(distances(first, second))
            self.whole.append(distances(mine, rest))
            self.means.append(float(rest.mean.mean()))
            say(f"emulated point {i}")

    def rows(self, table: Table, limit: float) -> None:
        """Of the table; `limit` is that of the median of ln P(k)."""
        fair, floor = (self._stack(d, "power") for d in (self.fair, self.floor))
        mine, base = median(fair), median(floor)
        add(table, f"ln P(k): median of |.|, {self.half} fields each", mine, base,
            f"<= {limit}, <= {1.3 * base:.3f}", mine <= limit and mine <= 1.3 * base)  # fmt: skip
        bins = self._stack(self.whole, "power")
        mean, error = bins.mean(0), bins.std(0, ddof=1) / len(bins) ** 0.5
        worst = int((np.abs(mean) - 2 * error).argmax())
        table.data["ln P(k) by bin"] = {"mean": mean.tolist(), "error": error.tolist()}
        add(table, f"ln P(k): mean of the worst bin ({worst})",
            f"{mean[worst]:+.3f} ± {error[worst]:.3f}", "", f"<= {limit} + 2 standard errors",
            bool((np.abs(mean) <= limit + 2 * error).all()))  # fmt: skip
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
        add(table, f"values: Wasserstein [mK], {self.half} fields each", values[0], values[1],
            f"<= {1.2 * values[1]:.3f}", values[0] <= 1.2 * values[1])  # fmt: skip

    def _stack(self, found: list[Distances], name: str) -> np.ndarray:
        return np.array([getattr(found[i], name) for i in self.shown])


def rows_of_scatter(
    table: Table, case: Case, emulator: ReionizationEmulator, theta: Tensor, truth: Tensor, n: int
) -> None:
    """Relative scatter of P(k) between seeds at one point."""
    alone = case.measure(single(truth, n))
    seeds = mix(torch.arange(n), derive(SEED, 5))
    drawn = emulator.simulate(theta[None].expand(n, -1), seeds)
    found = distances(case.measure(drawn), alone).scatter
    half = n // 2
    floor = distances(alone.part(slice(half)), alone.part(slice(half, None))).scatter
    table.data["scatter by bin"] = found.tolist()
    mean = float(np.mean(found))
    add(table, f"scatter of P(k), {n} seeds: mean of ln ratio", mean,
        float(np.abs(floor.mean())), "within 0.15", abs(mean) <= 0.15)  # fmt: skip


def rows_of_response(
    table: Table, case: Case, emulator: ReionizationEmulator,
    truth: dict[str, tuple[Tensor, Tensor]], n: int,
) -> None:  # fmt: skip
    """d ln P / d theta, reference and emulator each with the same universes on both sides."""
    for name, (down, up) in truth.items():
        step = case.steps[name]
        expected, error = slopes(case, down.flatten(0, 1), up.flatten(0, 1), step, len(down))
        sides = []
        for sign in (-1, 1):
            values = shifted(name, sign * step)
            theta = torch.tensor([[values[p] for p in case.priors]], dtype=torch.float64)
            sides.append(emulator.simulate(theta.expand(n, -1), torch.arange(n)))
        found, own = slopes(case, *sides, step, n)
        table.data[f"response to {name}"] = {
            "reference": expected.tolist(), "emulator": found.tolist(),
            "errors": [error.tolist(), own.tolist()],
        }  # fmt: skip
        ratio = float((found * expected).sum() / (expected**2).sum())
        add(table, f"response d ln P / d {name}: fitted ratio", ratio,
            float((error / np.abs(expected)).mean()), "within 0.10 of 1",
            abs(ratio - 1) <= 0.10)  # fmt: skip


def slopes(
    case: Case, down: Tensor, up: Tensor, step: float, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of d ln P / d theta by bin, and its standard error from n independent universes."""
    sides = [case.measure(x).power for x in (down, up)]
    each = [s.reshape(n, -1, s.shape[1]).mean(1) for s in sides]
    value = np.log(each[1].mean(0) / each[0].mean(0)) / (2 * step)
    apart = each[1] / each[1].mean(0) - each[0] / each[0].mean(0)
    return value, apart.std(0, ddof=1) / n**0.5 / (2 * step)


def add(
    table: Table, name: str, mine: object, floor: object, required: str, met: bool | None
) -> None:
    """A row."""
    table.add(name, mine, floor, required, "" if met is None else ("yes" if met else "NO"))


def median(x: np.ndarray) -> float:
    """Of absolute values."""
    return float(np.median(np.abs(x)))
