"""Reference simulations that the 21cm benchmarks share; made once in a folder, taken up again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from _table import say
from torch import Tensor

import sbitools
from emulators.reionization.simulator import ReionizationSimulator
from emulators.reionization.statistics import Statistics, measure
from sbitools.priors import LogUniform, Prior, Uniform
from sbitools.seeds import derive

__all__ = [
    "CASES", "SEED", "SHOWN", "Case", "reference", "response_stores", "single", "train_store",
]  # fmt: skip

SEED = 101
SHOWN = 0.95  # a field with more ionised cells has no spectrum to speak of
_TWO: dict[str, Prior] = {"zeta": LogUniform(10.0, 100.0), "log10_Tvir": Uniform(4.3, 5.3)}


@dataclass(frozen=True)
class Case:
    """What is emulated.

    Args:
        title: in words.
        quantity: planes, or whole cubes.
        n: cells per side.
        box_size: in Mpc.
        priors: of the parameters.
        steps: half the differences of derivatives, of ln zeta and of the other parameters.
        train: cubes that the emulator is fitted to.
        options: of the emulator.
        limit: of the median of |ln ratio of P(k)|, emulated to reference.
        floors: the same in distances of the reference from itself; None where these are far below
            what is asked for, as of 24 whole cubes.
    """

    title: str
    quantity: Literal["slice", "cube"] = "slice"
    n: int = 64
    box_size: float = 128.0
    priors: Mapping[str, Prior] = field(default_factory=lambda: dict(_TWO))
    steps: Mapping[str, float] = field(default_factory=lambda: {"zeta": 0.15, "log10_Tvir": 0.1})
    train: int = 256
    options: Mapping[str, Any] = field(default_factory=dict)
    limit: float = 0.05
    floors: float | None = 1.3

    @property
    def simulator(self) -> ReionizationSimulator:
        """That the emulator stands for."""
        return ReionizationSimulator(
            self.quantity, self.n, self.box_size, list(self.priors), priors=self.priors
        )

    def measure(self, fields: Tensor) -> Statistics:
        """Statistics of fields of this size."""
        return measure(fields, self.box_size)


CASES = {
    "planes": Case("planes of 64 x 64 cells and 128 Mpc at redshift 9, two parameters"),
    "four": Case(
        "planes of 64 x 64 cells and 128 Mpc, four parameters, the redshift one of them",
        priors=_TWO | {"Omega_m": Uniform(0.2, 0.4), "redshift": Uniform(7.0, 11.0)},
        steps={"zeta": 0.15, "log10_Tvir": 0.1, "Omega_m": 0.02, "redshift": 0.4},
        train=1000, options={"steps": 18_000},
    ),
    "cubes": Case(
        "cubes of 32^3 cells and 128 Mpc at redshift 9, two parameters", quantity="cube", n=32,
        train=400,
        # Bubbles are a few cells wide: the finest level of the network has cells as small.
        options={"batch_size": 4, "patch": 1, "widths": (32, 64, 96, 128), "steps": 5000},
        limit=0.1, floors=None,
    ),
}  # fmt: skip
FIDUCIAL = {"zeta": 30.0, "log10_Tvir": 4.7, "Omega_m": 0.3158, "redshift": 9.0}


def train_store(case: Case, root: Path, n: int, workers: int) -> sbitools.SimulationStore:
    """What the emulator is fitted to."""
    simulator = case.simulator.training_simulator()
    return sbitools.simulate(simulator, n, root / "train", seed=SEED, workers=workers)


def points(case: Case, n: int) -> Tensor:
    """Held-out points of the prior, float64, (n, P)."""
    return case.simulator.parameters.design(n, derive(SEED, 1), "sobol")


def at(
    case: Case, root: Path, name: str, values: Mapping[str, float], n: int, workers: int, seed: int
) -> Tensor:
    """Fields of `n` universes at one point: of each all planes, or the cube: (n, m, *field)."""
    quantity = "slices" if case.quantity == "slice" else "cube"
    simulator = ReionizationSimulator(quantity, case.n, case.box_size, (), fixed=values)
    store = sbitools.simulate(
        simulator, n, root / name, seed=seed, workers=workers, progress=False
    )
    x = store.read(range(n))
    return x if quantity == "slices" else x[:, None]


def reference(
    case: Case, root: Path, n_points: int, cubes: int, workers: int
) -> tuple[Tensor, list[Tensor], list[int]]:
    """Held-out points, fields of each, and which are not all ionised and have a spectrum.

    Args:
        case: what is emulated.
        root: where the fields are kept.
        n_points: how many.
        cubes: of each point.
        workers: processes.
    """
    theta, fields = points(case, n_points), []
    for i, row in enumerate(theta.tolist()):
        values = dict(zip(case.priors, row, strict=True))
        fields.append(at(case, root, f"point-{i:02d}", values, cubes, workers, derive(SEED, 2, i)))
        say(f"reference at point {i}: {fields[-1].mean():.2f} mK")
    shown = [i for i, x in enumerate(fields) if float((x == 0).float().mean()) < SHOWN]
    return theta, fields, shown


def single(x: Tensor, n: int, choice: int = 0) -> Tensor:
    """One field of each of the first n universes, planes across all axes.

    Args:
        x: of each universe all planes, or the cube: (n, m, *field).
        n: universes.
        choice: of the planes, and of which universes come first.
    """
    rows = torch.arange(n).roll(-choice * max(1, n // 8))
    return x[rows, (rows + choice * (x.shape[1] // 8)) % x.shape[1]]


def shifted(name: str, step: float) -> dict[str, float]:
    """The fiducial point with one parameter moved."""
    values = dict(FIDUCIAL)
    values[name] = values[name] * float(np.exp(step)) if name == "zeta" else values[name] + step
    return values


def response_stores(
    case: Case, root: Path, n: int, workers: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """Fields below and above the fiducial point in each parameter, the same universes."""
    out = {}
    for name, step in case.steps.items():
        sides = [
            at(case, root, f"response-{name}-{side}", _named(case, shifted(name, sign * step)), n,
               workers, derive(SEED, 3))
            for sign, side in ((-1, "down"), (1, "up"))
        ]  # fmt: skip
        out[name] = (sides[0], sides[1])
    return out


def _named(case: Case, values: dict[str, float]) -> dict[str, float]:
    return {name: values[name] for name in case.priors}
