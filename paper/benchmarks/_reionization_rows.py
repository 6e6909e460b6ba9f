"""Rows of the table of `reionization_emulator`: emulated against reference fields."""

from __future__ import annotations

import numpy as np
import torch
from _reionization import SEED, Case, shifted, single
from _reionization_emulated import Draw
from _table import Table, say
from torch import Tensor

from emulators.reionization.statistics import Distances, distances
from sbitools.seeds import derive

__all__ = ["Comparison", "rows_of_response", "rows_of_scatter"]


class Comparison:
    """Emulated and reference fields, point by point.

    One choice of `half` fields of either kind has a distance that depends on the choice as much as
    on the emulator: there are as many choices as emulated fields suffice for.
    """

    def __init__(
        self, case: Case, draw: Draw, theta: Tensor, truth: list[Tensor], shown: list[int],
        half: int, n_drawn: int,
    ) -> None:  # fmt: skip
        self.shown = shown
        self.fair: list[list[Distances]] = []  # of each point, the choices
        self.floor: list[list[Distances]] = []
        self.whole: list[Distances] = []
        self.means: list[float] = []
        self.case, self.half, measure = case, half, case.measure
        for i, x in enumerate(truth):
            drawn = draw(f"point-{i:02d}", theta[i : i + 1], n_drawn, derive(SEED, 4, i))
            mine, rest = measure(drawn), measure(x[:, ::3].flatten(0, 1))
            self.fair.append([])
            self.floor.append([])
            for choice, some in enumerate(drawn[: n_drawn // half * half].split(half)):
                alone = single(x, 2 * half, choice)
                first, second = measure(alone[:half]), measure(alone[half:])
                self.fair[i].append(distances(measure(some), second))
                self.floor[i].append(distances(first, second))
            self.whole.append(distances(mine, rest))
            self.means.append(float(rest.mean.mean()))
            say(f"emulated point {i}")

    def rows(self, table: Table) -> None:
        """Of the table."""
        limit, times = self.case.limit, self.case.floors
        chosen = [[d for i in self.shown for d in x[i]] for x in (self.fair, self.floor)]
        mine, base = (median(stack(d, "power")) for d in chosen)
        allowed = min(limit, times * base) if times else limit
        required = f"<= {limit}, <= {times * base:.3f}" if times else f"<= {limit}"
        add(table, f"ln P(k): median of |.|, {self.half} fields each", mine, base, required,
            mine <= allowed)  # fmt: skip
        whole = [self.whole[i] for i in self.shown]
        bins = stack(whole, "power")
        mean, error = bins.mean(0), bins.std(0, ddof=1) / len(bins) ** 0.5
        worst = int((np.abs(mean) - 2 * error).argmax())
        table.data["ln P(k) by bin"] = {"mean": mean.tolist(), "error": error.tolist()}
        add(table, f"ln P(k): mean of the worst bin ({worst})",
            f"{mean[worst]:+.3f} ± {error[worst]:.3f}", "", f"<= {limit} + 2 standard errors",
            bool((np.abs(mean) <= limit + 2 * error).all()))  # fmt: skip
        scattering, base = (median(stack(d, "scattering")) for d in (whole, chosen[1]))
        add(table, "scattering: median of |.|, all cubes", scattering, base, "<= 0.04",
            scattering <= 0.04)  # fmt: skip
        floors = [d for x in self.floor for d in x]
        off = np.abs([d.mean for d in self.whole])
        reach = max(self.means) - min(self.means)
        add(table, "mean signal: median error [mK]", float(np.median(off)),
            float(np.median(np.abs([d.mean for d in floors]))), f"<= {0.01 * reach:.3f}",
            float(np.median(off)) <= 0.01 * reach)  # fmt: skip
        add(table, "mean signal: largest error [mK]", float(off.max()), "", "", None)
        ionised = np.array([d.ionised for d in self.whole])
        add(table, "ionised cells: bias", float(ionised.mean()),
            float(np.mean([d.ionised for d in floors])), "<= 0.03",
            abs(float(ionised.mean())) <= 0.03)  # fmt: skip
        add(table, "ionised cells: rms", float(np.sqrt((ionised**2).mean())),
            float(np.sqrt(np.mean([d.ionised**2 for d in floors]))), "", None)  # fmt: skip
        by_choice = np.array([[[d.values for d in at] for at in x]
                              for x in (self.fair, self.floor)]).mean(1)  # fmt: skip
        table.data["values by choice"] = by_choice.tolist()
        mine, base = (float(v) for v in by_choice.mean(1))
        add(table, f"values: Wasserstein [mK], {self.half} fields each", mine, base,
            f"<= {1.2 * base:.3f}", mine <= 1.2 * base)  # fmt: skip
        mine, base = (float(np.mean(stack(d, "neutral"))) for d in chosen)
        add(table, "the same of neutral cells", mine, base, "", None)


def stack(found: list[Distances], name: str) -> np.ndarray:
    """One of the distances, a row for each."""
    return np.array([getattr(d, name) for d in found])


def rows_of_scatter(
    table: Table, case: Case, draw: Draw, theta: Tensor, truth: list[Tensor], points: list[int],
    n: int,
) -> None:  # fmt: skip
    """Relative scatter of P(k) between n seeds, against that of all fields of all cubes.

    A few rare fields decide it: measured from 128 planes at one point, it is uncertain by a tenth.
    The floor is that of n reference fields of a few cubes against the fields of the others.
    """
    mine, floor = [], []
    for i in points:
        drawn = case.measure(draw(f"scatter-{i:02d}", theta[i : i + 1], n, derive(SEED, 5, i)))
        whole = case.measure(truth[i].flatten(0, 1))
        cut = min(n, len(whole.mean) // 2)
        some, others = whole.part(slice(cut)), whole.part(slice(cut, None))
        mine.append(distances(drawn, whole).scatter)
        floor.append(distances(some, others).scatter.mean())
    table.data["scatter by bin"] = np.mean(mine, axis=0).tolist()
    each = np.mean(mine, axis=1)
    table.data["scatter by point"] = each.tolist()
    error = f" ± {each.std(ddof=1) / len(each) ** 0.5:.3f}" if len(each) > 1 else ""
    add(table, f"scatter of P(k), {n} seeds at each of {len(points)} points: mean of ln ratio",
        f"{each.mean():+.3f}{error}", float(np.sqrt(np.mean(np.square(floor)))),
        "within 0.15", bool(abs(each.mean()) <= 0.15))  # fmt: skip


def rows_of_response(
    table: Table, case: Case, draw: Draw, truth: dict[str, tuple[Tensor, Tensor]], n: int
) -> None:
    """d ln P / d theta, reference and emulator each with the same universes on both sides."""
    for name, (down, up) in truth.items():
        step = case.steps[name]
        expected, error = slopes(case, down.flatten(0, 1), up.flatten(0, 1), step, len(down))
        sides = []
        for side, sign in (("down", -1), ("up", 1)):
            values = shifted(name, sign * step)
            theta = torch.tensor([[values[p] for p in case.priors]], dtype=torch.float64)
            sides.append(draw(f"response-{name}-{side}", theta, n, derive(SEED, 6)))
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
