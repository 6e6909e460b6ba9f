"""Emulated light cones against 21cmFAST: six parameters, with spin temperature.

The cones are those of `reionization_recovery`, whose `--work` may be given: 16 x 16 x 224 cells of
8 Mpc from redshift 6 to 14, each with other parameters. The emulator learns from stretches of 32
cells and makes whole cones of overlapping windows. At each held-out point there are two cones of
21cmFAST: the emulated one and the second one are both compared with the first. Needs 21cmFAST
(`sbitools[reionization]`); a cone costs about five CPU seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _table import Table, say, simulating_parser, work_folder
from reionization_recovery import LIMIT, TRAIN, simulator
from torch import Tensor

import sbitools
from emulators.reionization.emulator import ReionizationEmulator
from emulators.reionization.statistics import distances, measure
from emulators.reionization.validation import cylindrical_distance
from sbitools.seeds import mix
from sbitools.simulator import FieldSpec
from sbitools.statistics import wasserstein

PAIRS = 813  # seed
COLUMNS = ("statistic, of cones with the same parameters", "emulator", "21cmFAST again")


@dataclass(frozen=True)
class Sizes:
    """Cones to learn from, held-out pairs, training steps."""

    train: int = 500
    pairs: int = 48
    steps: int | None = None


QUICK = Sizes(train=24, pairs=4, steps=20)


class Pairs:
    """Two universes for each theta: (2, x, y, los)."""

    group_size = 1
    source: FieldSpec | None = None

    def __init__(self) -> None:
        self.one = simulator()
        self.parameters, self.version = self.one.parameters, f"two of {self.one.version}"
        spec = self.one.output
        self.output = FieldSpec(
            spec.name, ("universe", *spec.dims), (2, *spec.shape), spec.dtype, spec.unit
        )

    def simulate(self, theta: Tensor, seeds: Tensor) -> Tensor:
        """Fields (B, 2, *n)."""
        return torch.stack([self.one.simulate(theta, mix(seeds, i)) for i in range(2)], dim=1)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and tabulate."""
    parser = simulating_parser(__doc__)
    parser.add_argument("--cones", type=int, help="to train on, instead of 500")
    chosen = parser.parse_args(argv)
    torch.set_num_threads(1)
    sizes = QUICK if chosen.quick else Sizes(train=chosen.cones or Sizes.train)
    with work_folder(chosen) as work:
        table = run(work, sizes, chosen.workers, chosen.quick)
    table.write(chosen.out)
    return 0


def run(work: Path, sizes: Sizes, workers: int, quick: bool) -> Table:
    """Simulate, fit, compare."""
    n = sizes.train
    lessons = sbitools.simulate(
        simulator(), n, work / f"train-{n}", seed=TRAIN, workers=workers, time_limit=LIMIT
    )
    tests = sbitools.simulate(
        Pairs(), sizes.pairs, work / "pairs", seed=PAIRS, workers=workers, time_limit=2 * LIMIT
    )
    emulator = ReionizationEmulator(simulator())
    history = emulator.fit(
        lessons, {"steps": sizes.steps} if sizes.steps else None,
        run_dir=work / f"emulator-fit-{n}", resume=True,
        on_epoch=lambda row: say(f"step {row['step']}: {row['train_loss']:.4f}"),
    )  # fmt: skip
    emulator.save(work / f"cones-emulator-{n}")
    theta, truth = tests.theta[tests.done], tests.read(tests.done)
    begun = time.process_time()
    drawn = emulator.simulate(theta, torch.arange(len(theta)))
    seconds = (time.process_time() - begun) / len(theta)
    title = f"Emulated light cones of six parameters, fitted to {len(lessons.done)} of 21cmFAST"
    table = Table("reionization_cones", title, COLUMNS, quick=quick)
    first, second = truth[:, 0], truth[:, 1]
    compare(table, emulator.simulator.box_size, first, [drawn, second])
    table.notes += [
        f"{len(theta)} points of the prior; {emulator.options.steps} steps of training, "
        f"{history.seconds:.0f} s on the clock; {seconds:.2f} CPU s for an emulated cone",
        "mean: of planes of one redshift; spectra: of planes 8 cells apart, and cylindrical ones "
        "of stretches of 32 cells; ln ratios are means over cones, medians over bins",
    ]
    return table


def compare(table: Table, box_size: float, truth: Tensor, others: Sequence[Tensor]) -> None:
    """Rows of the table: others against the truth."""
    expected = measure(planes(truth), box_size)
    rows: dict[str, list[Any]] = {}
    for x in others:
        mine = measure(planes(x), box_size)
        apart = (x - truth).mean((1, 2))
        level = x.mean((1, 2)).numpy().ravel(), truth.mean((1, 2)).numpy().ravel()
        shown = (mine.power.min(1) > 0) & (expected.power.min(1) > 0)
        ratio = np.log(mine.power[shown] / expected.power[shown])
        found = {
            "mean at a redshift: rms [mK]": float(apart.square().mean().sqrt()),
            "mean at a redshift: bias [mK]": float(apart.mean()),
            "mean at a redshift: correlation": float(np.corrcoef(*level)[0, 1]),
            "ionised cells: rms of planes": float(np.sqrt(
                ((mine.ionised - expected.ionised) ** 2).mean())),
            "ln P(k) of planes: median of |mean|": float(np.median(np.abs(ratio.mean(0)))),
            "ln P(k) of planes: worst bin": float(ratio.mean(0)[np.abs(ratio.mean(0)).argmax()]),
            "ln P(k_perp, k_par): median of |mean|": cylindrical_distance(
                x, truth, box_size / x.shape[1]),
            "scattering of planes: median of |.|": float(
                np.median(np.abs(distances(mine, expected).scattering))),
            "values: Wasserstein [mK]": wasserstein(x, truth),
        }  # fmt: skip
        for name, value in found.items():
            rows.setdefault(name, []).append(value)
    for name, values in rows.items():
        table.add(name, *values)


def planes(x: Tensor) -> Tensor:
    """Across the line of sight, 8 cells apart: (B * n_los / 8, n, n)."""
    return x.movedim(-1, 1)[:, ::8].flatten(0, 1)


if __name__ == "__main__":
    sys.exit(main())
