"""Redshifts along a light cone whose cells are equally long in comoving distance."""

from __future__ import annotations

import numpy as np

__all__ = ["H_FIDUCIAL", "cell_redshifts", "comoving_distance"]

H_FIDUCIAL = 0.6766
"""Hubble constant of 21cmFAST in 100 km/s/Mpc (Planck 2018), which is not varied."""

_HUBBLE_DISTANCE = 2997.92458  # c / (100 km/s/Mpc) in Mpc
_Z = np.linspace(0, 60, 6001)


def comoving_distance(omega_m: float, h: float = H_FIDUCIAL) -> np.ndarray:
    """Comoving distance in Mpc to the redshifts of a fixed grid, 0 to 60 in steps of 0.01.

    Flat, matter and a cosmological constant alone: to 1e-3 of what 21cmFAST uses, which counts
    radiation and neutrinos.
    """
    rate = 1 / np.sqrt(omega_m * (1 + _Z) ** 3 + 1 - omega_m)
    steps = (rate[1:] + rate[:-1]) / 2 * np.diff(_Z)
    return _HUBBLE_DISTANCE / h * np.concatenate([[0.0], np.cumsum(steps)])


def cell_redshifts(omega_m: np.ndarray, redshift: float, cell: float, n: int) -> np.ndarray:
    """Redshifts of n cells, the first one at `redshift`, for each Omega_m (B,): (B, n).

    Args:
        omega_m: density of matter today, (B,).
        redshift: of the first cell.
        cell: comoving length in Mpc.
        n: number of cells.
    """
    out = np.empty((len(omega_m), n))
    for row, value in zip(out, omega_m, strict=True):
        reach = comoving_distance(float(value))
        first = np.interp(redshift, _Z, reach)
        row[:] = np.interp(first + cell * np.arange(n), reach, _Z)
    return out
