"""A small set of 21cmFAST planes and an emulator of them, so that nothing has to be compiled.

Planes of 64 x 64 cells, 128 Mpc, at redshift 9; zeta and log10_Tvir vary. `make.py` made them,
with the seeds that are written there and in the files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from sbitools.errors import ConfigError
from sbitools.priors import LogUniform, Uniform

if TYPE_CHECKING:
    from emulators.reionization.emulator import ReionizationEmulator
    from emulators.reionization.simulator import ReionizationSimulator
    from sbitools.store import SimulationStore

__all__ = ["PRIORS", "Kind", "emulator", "simulator", "store"]

Kind = Literal["train", "validation", "test"]

_HERE = Path(__file__).parent

PRIORS = {"zeta": LogUniform(10.0, 100.0), "log10_Tvir": Uniform(4.3, 5.3)}


def simulator() -> ReionizationSimulator:
    """The reference simulator of the shipped planes; it needs 21cmFAST only when it is run."""
    from emulators.reionization.simulator import ReionizationSimulator

    return ReionizationSimulator("slice", 64, 128.0, priors=PRIORS)


def emulator() -> ReionizationEmulator:
    """The emulator whose weights are shipped."""
    from emulators.reionization.emulator import ReionizationEmulator

    return ReionizationEmulator.shipped()


def store(kind: Kind, path: str | Path, n: int | None = None) -> SimulationStore:
    """Shipped simulations as a store.

    Args:
        kind: ``"train"``: a few planes of every cube, what an emulator is fitted to;
            ``"validation"``: the same of cubes that the shipped emulator was not fitted to;
            ``"test"``: one plane of every cube, nor was it fitted to these.
        path: of the new store.
        n: the first so many; all if None.

    Raises:
        ConfigError: if there are fewer.
        StoreError: if there is something at `path`.
    """
    from sbitools.simulator import FieldSpec
    from sbitools.store import SimulationStore

    there = _read(kind)
    if n is not None and not 0 < n <= len(there[0]):
        raise ConfigError(
            f"shipped {kind} simulations", expected=f"1 to {len(there[0])}", got=f"{n}",
            fix="ask for fewer, or run 21cmFAST",
        )  # fmt: skip
    x, theta, seeds = (values[:n] for values in there)
    dims = ("x", "y") if x.ndim == 3 else ("slice", "x", "y")
    output = FieldSpec("brightness_temperature", dims, x.shape[1:], "float32", "mK")
    return SimulationStore.from_arrays(
        path, torch.from_numpy(theta), torch.from_numpy(x.astype(np.float32)),
        simulator().parameters, output, seeds=torch.from_numpy(seeds), design="random",
    )  # fmt: skip


def description(kind: Kind) -> dict[str, Any]:
    """Seeds, versions and settings of the shipped simulations."""
    with np.load(_HERE / f"{kind}.npz", allow_pickle=False) as file:
        return json.loads(str(file["description"]))


def _read(kind: Kind) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with np.load(_HERE / f"{kind}.npz", allow_pickle=False) as file:
        return file["x"], file["theta"], file["seeds"]
