"""Reference simulations that the 21cm benchmarks share; made once in a folder, taken up again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import sbitools
from emulators.reionization.simulator import ReionizationSimulator
from sbitools.priors import LogUniform, Uniform
from sbitools.seeds import derive

__all__ = ["PRIORS", "STEP", "at", "planes_simulator", "points", "response_stores", "train_store"]

PRIORS = {"zeta": LogUniform(10.0, 100.0), "log10_Tvir": Uniform(4.3, 5.3)}
FIDUCIAL = {"zeta": 30.0, "log10_Tvir": 4.7}
STEP = {"zeta": 0.15, "log10_Tvir": 0.1}
"""Half the difference of a derivative: of ln zeta and of log10_Tvir."""
SEED = 101


def planes_simulator(**changes: Any) -> ReionizationSimulator:
    """Planes of cubes of 64^3 cells and 128 Mpc at redshift 9, two parameters."""
    return ReionizationSimulator("slices", 64, 128.0, priors=PRIORS, **changes)


def train_store(root: Path, n: int, workers: int) -> sbitools.SimulationStore:
    """What the emulator is fitted to."""
    return sbitools.simulate(planes_simulator(), n, root / "train", seed=SEED, workers=workers)


def points(n: int) -> Tensor:
    """Held-out points of the prior, float64, (n, 2)."""
    return planes_simulator().parameters.design(n, derive(SEED, 1), "sobol")


def at(root: Path, name: str, values: dict[str, float], n: int, workers: int, seed: int) -> Tensor:
    """Planes of `n` cubes at one point, (n, 24, 64, 64)."""
    simulator = ReionizationSimulator("slices", 64, 128.0, (), fixed=values)
    store = sbitools.simulate(
        simulator, n, root / name, seed=seed, workers=workers, progress=False
    )
    return store.read(range(n))


def response_stores(root: Path, n: int, workers: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Planes below and above the fiducial point in each parameter, the same universes."""
    out = {}
    for name, step in STEP.items():
        sides = []
        for sign in (-1, 1):
            values = dict(FIDUCIAL)
            if name == "zeta":
                values[name] *= float(torch.tensor(sign * step).exp())
            else:
                values[name] += sign * step
            side = f"response-{name}-{'up' if sign > 0 else 'down'}"
            sides.append(at(root, side, values, n, workers, derive(SEED, 3)))
        out[name] = (sides[0], sides[1])
    return out
