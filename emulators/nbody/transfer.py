"""The matter transfer function of Eisenstein & Hu (1998), with baryon acoustic oscillations."""

from __future__ import annotations

import numpy as np

__all__ = ["T_CMB", "eisenstein_hu"]

T_CMB = 2.7255
"""Temperature of the microwave background in kelvin."""


def eisenstein_hu(
    k: np.ndarray, omega_m: float, omega_b: float, h: float, t_cmb: float = T_CMB
) -> np.ndarray:
    """T(k) = (Omega_b / Omega_m) T_b(k) + (Omega_c / Omega_m) T_c(k), their equation 16.

    Args:
        k: wavenumber in h/Mpc, > 0, any shape.
        omega_m: matter density (baryons and cold dark matter).
        omega_b: baryon density, > 0.
        h: Hubble constant in 100 km/s/Mpc.
        t_cmb: temperature of the microwave background in kelvin.

    Returns:
        Transfer function, 1 for k -> 0, shape of `k`. A few per cent accurate.

    References:
        | Baryonic Features in the Matter Transfer Function (Eisenstein & Hu, 1998),
        | ApJ 496, 605, arXiv:astro-ph/9709112; equation numbers below are of this paper.
    """
    k = np.asarray(k, dtype=float) * h  # 1/Mpc from here on
    om, ob, theta = omega_m * h**2, omega_b * h**2, t_cmb / 2.7
    baryon = omega_b / omega_m
    k_eq = 7.46e-2 * om * theta**-2  # (3)
    z_drag, r_drag, sound = _drag_epoch(om, ob, theta, k_eq)
    q = k / (13.41 * k_eq)  # (10)
    cold = _cold(k, q, om, baryon, sound)
    z_eq = 2.50e4 * om * theta**-4  # (2)
    suppression = _baryon_suppression((1 + z_eq) / (1 + z_drag))
    alpha_b = 2.07 * k_eq * sound * (1 + r_drag) ** -0.75 * suppression  # (14)
    baryons = _baryons(k, q, om, ob, baryon, sound, alpha_b)
    return baryon * baryons + (1 - baryon) * cold


def _drag_epoch(om: float, ob: float, theta: float, k_eq: float) -> tuple[float, float, float]:
    """Redshift and baryon-to-photon ratio of the drag epoch, and the sound horizon in Mpc."""
    b1 = 0.313 * om**-0.419 * (1 + 0.607 * om**0.674)
    b2 = 0.238 * om**0.223
    z_drag = 1291 * om**0.251 / (1 + 0.659 * om**0.828) * (1 + b1 * ob**b2)  # (4)
    z_eq = 2.50e4 * om * theta**-4
    r_drag, r_eq = (31.5 * ob * theta**-4 * 1e3 / z for z in (z_drag, z_eq))  # (5)
    ratio = (np.sqrt(1 + r_drag) + np.sqrt(r_drag + r_eq)) / (1 + np.sqrt(r_eq))
    sound = 2 / (3 * k_eq) * np.sqrt(6 / r_eq) * np.log(ratio)  # (6)
    return z_drag, r_drag, sound


def _pressureless(q: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """T~_0(k; alpha_c, beta_c), (19) and (20)."""
    c = 14.2 / alpha + 386 / (1 + 69.9 * q**1.08)
    log = np.log(np.e + 1.8 * beta * q)
    return log / (log + c * q**2)


def _cold(k: np.ndarray, q: np.ndarray, om: float, baryon: float, sound: float) -> np.ndarray:
    a1 = (46.9 * om) ** 0.670 * (1 + (32.1 * om) ** -0.532)
    a2 = (12.0 * om) ** 0.424 * (1 + (45.0 * om) ** -0.582)
    alpha = a1**-baryon * a2 ** -(baryon**3)  # (11)
    b1 = 0.944 / (1 + (458 * om) ** -0.708)
    b2 = (0.395 * om) ** -0.0266
    beta = 1 / (1 + b1 * ((1 - baryon) ** b2 - 1))  # (12)
    f = 1 / (1 + (k * sound / 5.4) ** 4)  # (18)
    return f * _pressureless(q, 1, beta) + (1 - f) * _pressureless(q, alpha, beta)  # (17)


def _baryon_suppression(y: float) -> float:
    """G(y), (15)."""
    root = np.sqrt(1 + y)
    return y * (-6 * root + (2 + 3 * y) * np.log((root + 1) / (root - 1)))


def _baryons(
    k: np.ndarray, q: np.ndarray, om: float, ob: float, baryon: float, sound: float, alpha: float
) -> np.ndarray:
    silk = 1.6 * ob**0.52 * om**0.73 * (1 + (10.4 * om) ** -0.95)  # (7)
    beta = 0.5 + baryon + (3 - 2 * baryon) * np.sqrt((17.2 * om) ** 2 + 1)  # (24)
    node = 8.41 * om**0.435  # (23)
    shifted = sound / (1 + (node / (k * sound)) ** 3) ** (1 / 3)  # (22)
    smooth = _pressureless(q, 1, 1) / (1 + (k * sound / 5.2) ** 2)
    acoustic = alpha / (1 + (beta / (k * sound)) ** 3) * np.exp(-((k / silk) ** 1.4))
    return (smooth + acoustic) * np.sinc(k * shifted / np.pi)  # (21)
