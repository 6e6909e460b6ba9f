"""From angles and frequencies to comoving lengths, in a flat universe of matter and Lambda."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emulators.reionization.reference.distance import H_FIDUCIAL, comoving_distance

__all__ = ["LIGHT", "LINE", "Background", "wavelength"]

LINE = 1420.40575
"""Rest frequency of the line of neutral hydrogen in MHz."""

LIGHT = 299792.458
"""Speed of light in km/s."""

_Z = np.linspace(0, 60, 6001)  # the grid of `comoving_distance`


def wavelength(frequency: np.ndarray | float) -> np.ndarray:
    """In m, of a frequency in MHz."""
    return LIGHT / 1e3 / np.asarray(frequency, dtype=float)


@dataclass(frozen=True)
class Background:
    """Distances seen by an instrument at frequencies in MHz; lengths are comoving Mpc.

    Args:
        omega_m: density of matter today.
        h: Hubble constant in 100 km/s/Mpc.
    """

    omega_m: float = 0.3158
    h: float = H_FIDUCIAL

    def distance(self, frequency: np.ndarray | float) -> np.ndarray:
        """Comoving distance X in Mpc, also Mpc per radian on the sky; above 24 MHz."""
        z = LINE / np.asarray(frequency, dtype=float) - 1
        return np.interp(z, _Z, comoving_distance(self.omega_m, self.h))

    def hubble(self, frequency: np.ndarray | float) -> np.ndarray:
        """H(z) in km/s/Mpc."""
        a = np.asarray(frequency, dtype=float) / LINE
        return 100 * self.h * np.sqrt(self.omega_m / a**3 + 1 - self.omega_m)

    def depth(self, frequency: np.ndarray | float) -> np.ndarray:
        """Y = c (1 + z)^2 / (H nu_21): Mpc along the line of sight per MHz of bandwidth."""
        ratio = LINE / np.asarray(frequency, dtype=float)
        return LIGHT * ratio**2 / (self.hubble(frequency) * LINE)

    def k_perp(self, baseline: np.ndarray | float, frequency: np.ndarray | float) -> np.ndarray:
        """2 pi u / X in 1/Mpc of a baseline in m, u of them per wavelength."""
        u = np.asarray(baseline, dtype=float) / wavelength(frequency)
        return 2 * np.pi * u / self.distance(frequency)

    def wedge_slope(self, sine: np.ndarray | float, frequency: np.ndarray | float) -> np.ndarray:
        """k_par / k_perp = X H sin(theta) / (c (1 + z)) of smooth spectra at an angle theta.

        A source at theta from the phase centre arrives late by b sin(theta) / c at one end of a
        baseline b, which looks like structure in frequency.

        References:
            | Four fundamental foreground power spectrum shapes (Morales et al., 2012),
              arXiv:1202.3830
            | A per-baseline, delay-spectrum technique (Parsons et al., 2012), arXiv:1204.4749
        """
        a = np.asarray(frequency, dtype=float) / LINE
        return np.asarray(sine) * self.distance(frequency) * self.hubble(frequency) * a / LIGHT
