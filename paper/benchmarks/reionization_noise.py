"""Noise of SKA1-Low for 21cm fields: writes the shipped tables, compares them with 21cmSense.

Errors of averaged spectra are compared with tables that others made with 21cmSense, for stations
with and without the loss of area above 110 MHz; the noise of single modes with the signal of
neutral hydrogen that follows matter and is far warmer than the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from _table import Table, options

import emulators.reionization.instrument as instrument
from emulators.nbody.cosmology import Cosmology
from emulators.reionization.instrument.geometry import LINE, Background
from emulators.reionization.instrument.ska_low import (
    REFERENCE_ERRORS,
    SCENARIOS,
    effective_area,
    mode_power,
    shell_error,
    ska_low_table,
    system_temperature,
)

__all__ = ["main"]

HOURS = 1080.0
MATTER = Cosmology(Omega_m=Background().omega_m, sigma_8=0.81, Omega_b=0.049, h=Background().h)
BOLTZMANN = 1.380649  # kJy m^2 / K


def signal(k: float, frequency: float) -> float:
    """Delta^2 in mK^2 of neutral hydrogen that follows linear matter, at k in 1/Mpc.

    Its mean temperature is 27 mK (Omega_b h^2 / 0.023) [0.15 (1 + z) / (10 Omega_m h^2)]^1/2
    (Furlanetto, Oh & Briggs 2006, astro-ph/0608032, equation 21, far above the background).
    """
    h, z = MATTER.h, LINE / frequency - 1
    mean = 27 * MATTER.Omega_b * h**2 / 0.023
    mean *= np.sqrt(0.15 * (1 + z) / (10 * MATTER.Omega_m * h**2))
    return float(mean**2 * k**3 * MATTER.linear_power(k / h, z) / h**3 / (2 * np.pi**2))


def main(argv: Sequence[str] | None = None) -> None:
    """Write the tables (not with --quick) and compare."""
    chosen = options((__doc__ or "").partition("\n")[0], argv)
    if not chosen.quick:
        for scenario in SCENARIOS:
            path = Path(instrument.__file__).with_name(f"ska_low_{scenario}.csv")
            instrument.write_table(path, ska_low_table(scenario, hours=HOURS))
    table = Table(
        "reionization_noise", "Thermal noise of SKA1-Low in 1080 h against 21cmSense, in mK^2",
        ("MHz", "k in 1/Mpc", "scenario", "error, 21cmSense", "error, dense stations / 21cmSense",
         "error, shipped / 21cmSense", "noise of one mode", "signal of matter"),
        requirement="with dense stations within a factor of 2 of 21cmSense.", quick=chosen.quick,
    )  # fmt: skip
    background, ratios = Background(), []
    for frequency, k_h, *errors in REFERENCE_ERRORS:
        k = np.array([k_h * background.h])
        mode = k[0] ** 3 * mode_power(k, frequency, background, HOURS)[0] / (2 * np.pi**2)
        for scenario, theirs in zip(SCENARIOS, errors, strict=True):
            dense, sparse = (
                float(shell_error(k, frequency, scenario, background, HOURS, dense)[0]) / theirs
                for dense in (True, False)
            )
            ratios.append(dense)
            table.add(frequency, float(k[0]), scenario, theirs, dense, sparse, float(mode),
                      signal(float(k[0]), frequency))  # fmt: skip
    table.passed = all(0.5 <= ratio <= 2 for ratio in ratios)
    flux = [
        2 * BOLTZMANN * system_temperature(160.0) / effective_area(160.0, d) for d in (False, True)
    ]
    table.notes += [
        f"System equivalent flux density of a station at 160 MHz: {flux[0]:.2f} kJy "
        f"({flux[1]:.2f} kJy with dense stations); 21cmSense issue 204 has 1.82 kJy of the "
        "SKAO's calculator and 0.8 kJy of 21cmSense.",
        "The noise of one mode is that of k_perp = k; arXiv:2201.07587 adds the error instead.",
    ]
    table.data["ratios"] = ratios
    table.write(chosen.out)


if __name__ == "__main__":
    main()
