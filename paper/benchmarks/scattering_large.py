"""Sky maps at Nside 64: fit to ten maps, then 1,000 generated and some optimised ones, with times.

The linear system of `scattering_emulator.py` with 2,048 rings of 1,024 samples. Its response to
gain errors is exact, so that powers of all pixels and spectra have no noise of a reference.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _table import Table, options, peak_memory_mb

from emulators.survey.emulator import ScatteringEmulator
from emulators.survey.maps.spectra import band_deviation, band_shares
from emulators.survey.simulator import TodSimulator
from sbitools import simulate
from sbitools.seeds import derive, simulation_seeds
from sbitools.statistics import angular_power

NAME = "scattering_large"
SEED = 2503_11643
INPUTS = 10
SIZES = {False: (64, 1000, 100, 200), True: (16, 40, 8, 40)}  # Nside, maps, optimised, reference


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write the table."""
    chosen = options(__doc__ or "", argv)
    nside, n_generated, n_optimised, n_reference = SIZES[chosen.quick]
    table = Table(
        NAME, f"Sky maps at Nside {nside} from {INPUTS} simulations",
        ("what", "maps", "seconds", "s per map", "variance over exact", "its scatter over pixels",
         "EE in 1 band", "BB in 1 band"),
        "1,000 generated maps, or 100 optimised ones, within an hour on two cores.", chosen.quick,
    )  # fmt: skip
    simulator = reference(nside)
    exact = simulator.response().variance(simulator.gain_covariance(np.zeros(0)))
    truth, seconds = timed(lambda: draw(simulator.simulate, n_reference, derive(SEED, 0)))
    spectra = angular_power(truth, ordering="nested")

    def add(what: str, maps: np.ndarray, seconds: float) -> None:
        share = maps.var(0, ddof=1)[exact > 0] / exact[exact > 0]
        found = angular_power(maps, ordering="nested")
        bands = [
            band_shares(band_deviation(found[s].mean(0), spectra[s], INPUTS))[0]
            for s in ("EE", "BB")
        ]
        row = (seconds / len(maps), share.mean(), share.std(), *bands)
        table.add(what, len(maps), seconds, *row)
        print(what, len(maps), f"{seconds:.0f} s", flush=True)

    add("reference, by its response", truth, seconds)
    emulator, fitted = fit(simulator)
    makers = {
        "generated": (emulator.making("generated"), n_generated),
        "optimised": (emulator.making("optimised"), n_optimised),
    }
    costs = {}
    for what, (maker, n) in makers.items():
        maps, costs[what] = timed(lambda m=maker, n=n: draw(m.simulate, n, derive(SEED, 1)))
        add(what, maps, costs[what])
    peak = peak_memory_mb() / 1e3
    table.notes += [
        f"fit to {INPUTS} maps: {fitted:.0f} s; peak memory of the whole run {peak:.1f} GB",
        "seconds: on the clock; bands: sigma / sqrt(inputs) of a single map's C_l, sigma and mean "
        "from the reference maps of the first row",
    ]
    table.passed = None if chosen.quick else fitted + min(costs.values()) <= 3600
    table.write(chosen.out)


def reference(nside: int) -> TodSimulator:
    """Independent gain errors of every ring, nothing varies."""
    return TodSimulator(
        nside, parameters=[], fixed={"gain_rms": 1e-4, "correlation_time": 1e-6},
        n_rings=32 * nside, samples=16 * nside,
    )  # fmt: skip


def fit(simulator: TodSimulator) -> tuple[ScatteringEmulator, float]:
    """An emulator of ten maps, and how long the fit took."""
    emulator = ScatteringEmulator.of(simulator)
    with tempfile.TemporaryDirectory() as folder:
        store = simulate(
            simulator, INPUTS, Path(folder) / "store", seed=derive(SEED, 2), workers=1,
            progress=False,
        )  # fmt: skip
        _, seconds = timed(lambda: emulator.fit(store, run_dir=Path(folder) / "fit"))
    return emulator, seconds


def draw(make: Callable[..., torch.Tensor], n: int, seed: int) -> np.ndarray:
    """Maps (n, 2, n_pixels), 20 at a time."""
    seeds = torch.from_numpy(simulation_seeds(seed, range(n)))
    parts = [make(torch.zeros(len(s), 0, dtype=torch.float64), s).numpy() for s in seeds.split(20)]
    return np.concatenate(parts)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result, and seconds on the clock."""
    begun = time.monotonic()
    return work(), time.monotonic() - begun


if __name__ == "__main__":
    main()
