"""Linear transfer functions: Eisenstein & Hu without wiggles, and the cut-off of warm dark matter.

21cmFAST 4 has no warm dark matter, but takes a table of a transfer function; its own calculation
by CLASS costs ten times as much as a small simulation.
"""

from __future__ import annotations

import numpy as np

__all__ = ["cold", "half_mode", "warm_suppression"]

_T_CMB = 2.7255 / 2.7  # of today, in units of 2.7 K
_NU = 1.12  # exponent of the cut-off, Viel et al. 2005, equation 6


def cold(k: np.ndarray, omega_m: float, omega_b: float, h: float) -> np.ndarray:
    """Transfer function of cold dark matter and baryons, without acoustic wiggles.

    Eisenstein & Hu 1998 (astro-ph/9709112), equations 26 and 28 to 31.

    Args:
        k: wavenumbers in 1/Mpc, positive, any shape.
        omega_m: density of matter today.
        omega_b: of baryons.
        h: Hubble constant in 100 km/s/Mpc.

    Returns:
        T(k), 1 at k = 0.
    """
    matter, baryons = omega_m * h**2, omega_b * h**2
    share = baryons / matter
    sound = 44.5 * np.log(9.83 / matter) / np.sqrt(1 + 10 * baryons**0.75)  # horizon in Mpc
    alpha = 1 - 0.328 * np.log(431 * matter) * share + 0.38 * np.log(22.3 * matter) * share**2
    shape = omega_m * h * (alpha + (1 - alpha) / (1 + (0.43 * k * sound) ** 4))
    q = k / h * _T_CMB**2 / shape
    log = np.log(2 * np.e + 1.8 * q)
    return log / (log + (14.2 + 731 / (1 + 62.5 * q)) * q**2)


def warm_suppression(k: np.ndarray, m_wdm: float, omega_m: float, h: float) -> np.ndarray:
    """Transfer function of a thermal relic over that of cold dark matter.

    Bode, Ostriker & Turok 2001 (astro-ph/0010389) with the numbers of Viel et al. 2005
    (astro-ph/0501562), equations 6 and 7: [1 + (alpha k)^(2 nu)]^(-5 / nu).

    Args:
        k: wavenumbers in 1/Mpc, any shape.
        m_wdm: mass of the particle in keV; infinite for cold dark matter.
        omega_m: density of matter today; all of it but the baryons is counted as warm.
        h: Hubble constant in 100 km/s/Mpc.
    """
    alpha = 0.049 * m_wdm**-1.11 * (omega_m / 0.25) ** 0.11 * (h / 0.7) ** 1.22 / h  # in Mpc
    return (1 + (alpha * k) ** (2 * _NU)) ** (-5 / _NU)


def half_mode(m_wdm: float, omega_m: float, h: float) -> float:
    """Wavenumber in 1/Mpc at which the suppression is one half."""
    alpha = 0.049 * m_wdm**-1.11 * (omega_m / 0.25) ** 0.11 * (h / 0.7) ** 1.22 / h
    return (2 ** (_NU / 5) - 1) ** (1 / (2 * _NU)) / alpha
