"""Associated Legendre functions and their spin-2 kin on the rings of the HEALPix sphere.

A harmonic of spin s is sY_lm(theta, phi) = (-1)^s sqrt((2 l + 1) / 4 pi) d^l_{m,-s}(theta)
e^{i m phi}, with d Wigner's small matrix (Varshalovich et al. 1988, chapter 4). The matrix comes
from the three-term recursion in l, which is stable upwards; its seed at l = max(m, |s|) is known
in closed form.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import gammaln

__all__ = ["harmonics_of_rings", "ring_cosines"]


def ring_cosines(nside: int) -> np.ndarray:
    """cos(theta) of the rings from the north pole to the equator, shape (2 nside,).

    Górski et al. 2005 (astro-ph/0409513), equations 4 and 8. Rings of the south mirror them.
    """
    cap, belt = np.arange(1, nside), np.arange(nside, 2 * nside + 1)
    return np.concatenate([1 - cap**2 / (3 * nside**2), 4 / 3 - 2 * belt / (3 * nside)])


def harmonics_of_rings(cosines: np.ndarray, lmax: int, spin: int) -> np.ndarray:
    """sY_lm at phi = 0 for m >= 0, float64, shape (lmax + 1 (m), lmax + 1 (l), n_rings).

    Args:
        cosines: of the polar angles, shape (n_rings,).
        lmax: largest l and m.
        spin: 0, 2 or -2.
    """
    m, s = np.arange(lmax + 1)[:, None], -spin
    out = np.zeros((lmax + 1, lmax + 1, len(cosines)))
    first, seed = np.maximum(m, abs(s)), _seed(m, s, cosines)
    before, here = np.zeros_like(seed), np.zeros_like(seed)
    for degree in range(abs(s), lmax + 1):
        n = degree + 1  # orders up to the degree
        here[:n] = np.where(first[:n] == degree, seed[:n], here[:n])
        out[:n, degree] = here[:n] * math.sqrt((2 * degree + 1) / (4 * math.pi))
        before[:n], here[:n] = here[:n], _next(before[:n], here[:n], m[:n], s, degree, cosines)
    return out


def _next(
    before: np.ndarray, here: np.ndarray, m: np.ndarray, s: int, degree: int, cosines: np.ndarray
) -> np.ndarray:
    """d^{l+1}_{m,s} from d^{l-1} and d^l, with l the degree, all of shape (n_m, n_rings)."""
    tilt = m * s / max(degree * (degree + 1), 1)
    middle = (2 * degree + 1) * (cosines - tilt) * here
    return (middle - _step(degree, m, s) * before) / _step(degree + 1, m, s)


def _step(degree: int, m: np.ndarray, s: int) -> np.ndarray:
    """sqrt((l^2 - m^2) (l^2 - s^2)) / l, which couples degree l to l - 1."""
    return np.sqrt((degree**2 - m**2.0) * (degree**2 - s**2)) / max(degree, 1)


def _seed(m: np.ndarray, s: int, cosines: np.ndarray) -> np.ndarray:
    """d^l_{m,s} at l = max(m, |s|), shape (n_m, n_rings).

    sqrt((2 l)! / ((l + k)! (l - k)!)) cos^(l + k) sin^(l - k) of theta / 2, with k the index that
    is not l, by d^l_{m,s} = d^l_{-s,-m} = (-1)^(m - s) d^l_{s,m}.
    """
    cosine, sine = np.sqrt((1 + cosines) / 2), np.sqrt((1 - cosines) / 2)
    degree = np.maximum(m, abs(s))
    other = np.where(m >= abs(s), s, m * np.sign(s))
    sign = np.where((m < s), 1.0, (-1.0) ** (degree - other))
    factorials = gammaln(degree + other + 1) + gammaln(degree - other + 1)
    log = 0.5 * (gammaln(2 * degree + 1) - factorials)
    return sign * np.exp(log + (degree + other) * np.log(cosine) + (degree - other) * np.log(sine))
