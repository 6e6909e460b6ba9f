"""How the shipped files are made: `python -m emulators.reionization.shipped.make WORK`.

From nothing it takes about 40 minutes on two cores; WORK keeps everything, and a run that was
interrupted goes on. It needs 21cmFAST.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import sbitools
from emulators.reionization.emulator import ReionizationEmulator
from emulators.reionization.reference.fast21cm import backend
from sbitools.checkpoint import save_checkpoint

from . import simulator

__all__ = ["main"]

HERE = Path(__file__).parent
TRAIN, VALIDATION, TEST = (256, 101), (32, 303), (320, 404)  # simulations and seeds
SHIPPED = 48  # cubes of the training set that are shipped
PLANES = (0, 4, 8, 12, 16, 20)  # of the 24 of each: two across every axis


def main() -> None:
    """Simulate, fit, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("work", type=Path, help="folder of simulations and training state, kept")
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    reference = simulator()
    lessons = reference.training_simulator()
    train = sbitools.simulate(
        lessons, TRAIN[0], chosen.work / "train", seed=TRAIN[1], workers=chosen.workers
    )
    held_out = sbitools.simulate(
        lessons, VALIDATION[0], chosen.work / "validation", seed=VALIDATION[1],
        workers=chosen.workers,
    )  # fmt: skip
    test = sbitools.simulate(
        reference, TEST[0], chosen.work / "test", seed=TEST[1], workers=chosen.workers
    )
    emulator = ReionizationEmulator(reference)
    emulator.fit(train, run_dir=chosen.work / "fit", resume=True)
    write_weights(emulator)
    write_planes("validation", held_out, range(VALIDATION[0]), VALIDATION[1], PLANES)
    write_planes("train", train, range(SHIPPED), TRAIN[1], PLANES)
    write_planes("test", test, range(TEST[0]), TEST[1], None)


def write_weights(emulator: ReionizationEmulator) -> None:
    """In half precision, which changes fields by less than bfloat16 activations do."""
    state = {name: value.half() for name, value in emulator.module().state_dict().items()}
    save_checkpoint(HERE / "weights", emulator.kind, emulator.config(), state)


def write_planes(
    kind: str, store: Any, rows: range, seed: int, planes: tuple[int, ...] | None
) -> None:
    """In half precision: to a hundredth of a mK or so."""
    x = store.read(rows).numpy()
    x = x if planes is None else x[:, list(planes)]
    description = {
        "code": f"21cmFAST {backend().__version__}", "threads": 1, "seed": seed,
        "simulator": simulator().config(), "planes": planes, "unit": "mK",
    }  # fmt: skip
    np.savez_compressed(
        HERE / f"{kind}.npz", x=x.astype(np.float16), theta=store.theta[list(rows)].numpy(),
        seeds=np.asarray(store.seeds[list(rows)]), description=json.dumps(description),
    )  # fmt: skip


if __name__ == "__main__":
    main()
