"""Emulated fields that the 21cm benchmarks compare; made once in a folder, taken up again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

import sbitools
from emulators.reionization.emulator import ReionizationEmulator
from sbitools.parameters import ParameterSpace
from sbitools.simulator import FieldSpec

__all__ = ["Draw", "drawing"]

# Name, point (1, P), number of fields and seed, in; fields (n, *field), out. The same seed has the
# same noise at every point.
Draw = Callable[[str, Tensor, int, int], Tensor]


class _AtPoint:
    """An emulator at one point of its prior: a simulator without parameters."""

    group_size = 1
    source: FieldSpec | None = None

    def __init__(self, emulator: ReionizationEmulator, theta: Tensor) -> None:
        self.emulator, self.theta = emulator, theta
        self.parameters, self.output = ParameterSpace([]), emulator.output

    @property
    def version(self) -> str:
        """Of the emulator, and the point."""
        return f"{self.emulator.version} at {self.theta.tolist()}"

    def simulate(self, theta: Tensor, seeds: Tensor) -> Tensor:
        """Fields (B, *n)."""
        return self.emulator.simulate(self.theta.expand(len(seeds), -1), seeds)


def drawing(emulator: ReionizationEmulator, root: Path, workers: int) -> Draw:
    """Draws fields of an emulator in `workers` processes, and keeps them in `root`."""
    folder = root / "emulated" / emulator.version.replace(" ", "-")

    def draw(name: str, theta: Tensor, n: int, seed: int) -> Tensor:
        # A few tasks for each worker: they end at about the same time.
        store = sbitools.simulate(
            _AtPoint(emulator, theta), n, folder / name, seed=seed, workers=workers,
            task_size=max(1, n // (4 * workers)), progress=False,
        )  # fmt: skip
        return store.read(range(n))

    return draw
