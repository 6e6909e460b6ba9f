"""Spectra of emulated maps against the band of the paper.

The band is the error of the mean spectrum of the maps that the emulator was made of: sigma of a
single map over sqrt(N) (Campeti et al. 2025, arXiv:2503.11643).
"""

from __future__ import annotations

import numpy as np

from sbitools.statistics import angular_power, controlled_mean

__all__ = ["band_deviation", "band_shares", "controlled_spectra"]


def band_deviation(mean: np.ndarray, reference: np.ndarray, n_inputs: int) -> np.ndarray:
    """(C_l - C_l of the reference) / (sigma / sqrt(n_inputs)) from l = 2 on.

    The band of Campeti et al. 2025 (arXiv:2503.11643): the error of the mean spectrum of the maps
    that the emulator was made of.

    Args:
        mean: mean spectrum, (lmax + 1,).
        reference: spectra of reference maps, (n, lmax + 1).
        n_inputs: maps that the emulator was fitted to.
    """
    known = reference[:, 2:]  # there are no E and B of l = 0 and 1
    return (mean[2:] - known.mean(0)) / (known.std(0, ddof=1) / np.sqrt(n_inputs))


def band_shares(deviation: np.ndarray) -> tuple[float, float]:
    """Shares of all multipoles within one and within two bands."""
    size = np.abs(deviation)
    return float((size <= 1).mean()), float((size <= 2).mean())


def controlled_spectra(
    emulated: np.ndarray, starts: np.ndarray, more_starts: np.ndarray
) -> dict[str, np.ndarray]:
    """Mean EE and BB spectra of endlessly many emulations, nearly: with control variates.

    Args:
        emulated: maps (n, 2, n_pixels), nested.
        starts: the same draws before optimisation, which are cheap.
        more_starts: further ones, many, (m, 2, n_pixels).

    Returns:
        ``"EE"`` and ``"BB"``, each (3 nside,), in the maps' unit squared.
    """
    spectra = [angular_power(maps, ordering="nested") for maps in (emulated, starts, more_starts)]
    return {
        name: controlled_mean(*(s[name] for s in spectra), folds=min(10, len(emulated) // 2)).mean
        for name in ("EE", "BB")
    }
