"""The N-body emulator against its reference, perturbation theory and a particle mesh of its cost.

Trains the emulator with its default options on simulations of the default system, then compares
on held-out cosmologies and seeds; the reference against itself with twice the time steps is the
noise floor. A network trained on 32^3 particles is also run on 64^3.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _table import Table, options

from emulators.nbody import system
from emulators.nbody.validation import RIVALS, compare
from sbitools import simulate

N_TRAIN, N_HELD_OUT, N_FIELDS, N_LARGE = 96, 16, 256, 2


def main() -> None:
    """Run and write the table."""
    chosen = options(__doc__ or "")
    with tempfile.TemporaryDirectory() as folder:
        run(chosen.out, chosen.quick, Path(folder))


def run(out: Path, quick: bool, folder: Path) -> None:
    """Simulate, fit, compare, write."""
    shrink = 8 if quick else 1
    settings = system.settings()
    simulator = system.training_simulator(settings)

    def store(n: int, seed: int, what: Any = simulator) -> Any:
        return simulate(what, n, folder / f"{seed}", seed=seed, progress=False)

    training, made = _timed(lambda: store(N_TRAIN // shrink, 1))
    emulator = system.emulator(settings)
    fit = {"epochs": 1, "passes": 1} if quick else {}
    history, fitted = _timed(lambda: emulator.fit(training, fit, run_dir=folder / "fit"))
    found = system.validate(emulator, settings, store(max(4, N_HELD_OUT // shrink), 2))
    _, emulated = _timed(lambda: store(N_FIELDS // shrink, 3, emulator))
    large = emulator.resized(2 * settings.n)
    big = compare(large, store(N_LARGE // shrink or 1, 4, large.particle_simulator()))
    table = _table(found, quick)
    rate = emulated / (N_FIELDS // shrink)
    table.notes += [
        f"{N_TRAIN // shrink} training boxes in {made:.0f} s (2 processes); fit in "
        f"{fitted:.0f} s, {history.epochs[-1]['step']} steps; {found['n']} held-out boxes",
        f"emulated fields, 2 processes: {1000 * rate:.0f} ms each, 4,000 in {4000 * rate:.0f} s",
        *_errors("32^3 particles", found),
        *_errors("64^3 particles, same network", big),
    ]
    table.data = {"statistics": found, "statistics_64": big, "seconds_per_field": rate}
    table.write(out)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def _errors(what: str, found: dict[str, Any]) -> list[str]:
    return [
        f"{what}, rms error of the {quantity} in Mpc/h: "
        + ", ".join(f"{name} {value:.3f}" for name, value in values.items())
        for quantity, values in found["errors"].items()
    ]


def _table(found: dict[str, Any], quick: bool) -> Table:
    names = ("emulator", *RIVALS)
    table = Table(
        "nbody_emulator",
        "N-body emulator against held-out particle-mesh simulations, redshift 0",
        [
            "k [h/Mpc]",
            *(f"T {n}" for n in names),
            "T floor",
            *(f"r {n}" for n in names),
            "r floor",
        ],
        "transfer T and cross-correlation r closer to 1 than those of ZA and 2LPT at every k up "
        "to half the particle Nyquist frequency where 2LPT is off by more than 1 %, elsewhere not "
        "farther from 1 than 2LPT by more than the noise floor and two standard errors.",
        quick,
    )
    curves, floor = found["curves"], found["noise_floor"]
    for i, k in enumerate(found["k"]):
        values = [
            [*(float(curves[s][n][i]) for n in names), float(floor[s][i])]
            for s in ("transfer", "correlation")
        ]
        table.add(float(k), *values[0], *values[1])
    table.passed = all(_reached(found, statistic) for statistic in ("transfer", "correlation"))
    table.notes.append(
        "T and r of the last rows, above half the Nyquist frequency, are not judged"
    )
    return table


def _reached(found: dict[str, Any], statistic: str) -> bool:
    """The requirement for one statistic, on the rms over boxes of its distance from 1."""

    def off(name: str) -> np.ndarray:
        mean, scatter = found["curves"][statistic][name], found["scatter"][statistic][name]
        return np.sqrt((mean - 1) ** 2 + scatter**2)

    judged = found["k"] <= 0.5 * found["k_nyquist"]
    emulator, za, second = off("emulator"), off("ZA"), off("2LPT")
    error = found["scatter"][statistic]["emulator"] / np.sqrt(found["n"])
    better = (emulator < za) & (emulator < second)
    no_worse = emulator <= second + found["noise_floor"][statistic] + 2 * error
    return bool(np.where(second > 0.01, better, no_worse)[judged].all())


if __name__ == "__main__":
    main()
