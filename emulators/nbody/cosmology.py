"""Flat LCDM: background, first and second order growth, and the linear power spectrum.

Lengths are comoving Mpc/h. Growth is the time variable of this package: D is normalised to 1 at
redshift 0, and velocities are derivatives with respect to D. In a flat universe of matter and a
cosmological constant everything about growth depends on x = (1 - Omega_m) a^3 / Omega_m alone,
so the one ordinary differential equation that has no closed form is solved once for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import solve_ivp
from scipy.special import hyp2f1

from sbitools.errors import ParameterError

from .transfer import eisenstein_hu

__all__ = [
    "Cosmology", "growth_factor", "growth_rate", "hubble", "scale_factor", "second_order_growth",
]  # fmt: skip

# x at which the integration of second order growth starts; below it the first term of the series
# in x, 1 + x / 143, is exact to 1e-12.
_X_START = 1e-6
_X_END = 1e4  # a = 1 at Omega_m = 1e-4


def _lambda_over_matter(a: Any, omega_m: ArrayLike) -> Any:
    om = np.asarray(omega_m, dtype=float)
    return (1 - om) / om * a**3


def _growth_unnormalised(a: Any, omega_m: ArrayLike) -> Any:
    return a * hyp2f1(1, 1 / 3, 11 / 6, -_lambda_over_matter(a, omega_m))


def growth_factor(redshift: ArrayLike, omega_m: ArrayLike) -> Any:
    """Linear growth factor D, 1 at redshift 0: a 2F1(1, 1/3; 11/6; -x), normalised.

    Args:
        redshift: z >= 0, broadcast against `omega_m`.
        omega_m: matter density in (0, 1].
    """
    a = 1 / (1 + np.asarray(redshift, dtype=float))
    return _growth_unnormalised(a, omega_m) / _growth_unnormalised(1.0, omega_m)


def growth_rate(redshift: ArrayLike, omega_m: ArrayLike) -> Any:
    """f = d ln D / d ln a, exact for flat LCDM."""
    x = _lambda_over_matter(1 / (1 + np.asarray(redshift, dtype=float)), omega_m)
    ratio = hyp2f1(2, 4 / 3, 17 / 6, -x) / hyp2f1(1, 1 / 3, 11 / 6, -x)
    return 1 - 6 / 11 * x * ratio


def hubble(redshift: ArrayLike, omega_m: ArrayLike) -> Any:
    """H(z) in km/s per Mpc/h: 100 sqrt(Omega_m (1 + z)^3 + 1 - Omega_m)."""
    om = np.asarray(omega_m, dtype=float)
    return 100 * np.sqrt(om * (1 + np.asarray(redshift, dtype=float)) ** 3 + 1 - om)


def scale_factor(growth: ArrayLike, omega_m: float) -> Any:
    """Scale factor a at which the growth factor is D: Newton's method in ln a on ln D."""
    target = np.log(np.asarray(growth, dtype=float))
    log_a = target.copy()
    for _ in range(30):  # converges quadratically; six are enough for 0 < D <= 1
        z = np.exp(-log_a) - 1
        step = (np.log(growth_factor(z, omega_m)) - target) / growth_rate(z, omega_m)
        log_a = log_a - step
        if np.all(np.abs(step) < 1e-14):
            break
    return np.exp(log_a)


@lru_cache(maxsize=1)
def _second_order_solution() -> Any:
    """E / (-3/7 D^2) and its derivative as a dense solution in ln a, with x = a^3.

    E'' + (2 + dlnH/dlna) E' = 3/2 Omega_m(a) (E - D^2), primes d/dln a (Bouchet et al. 1995,
    A&A 296, 575). D is an exact function, so only E is integrated; the state is (E / D^2, its
    derivative), which is of order one over the whole range.
    """

    def derivative(log_a: float, state: np.ndarray) -> list[float]:
        a = np.exp(log_a)
        x = a**3
        omega = 1 / (1 + x)
        f = 1 - 6 / 11 * x * hyp2f1(2, 4 / 3, 17 / 6, -x) / hyp2f1(1, 1 / 3, 11 / 6, -x)
        friction = 2 - 1.5 * omega
        df = 1.5 * omega - f**2 - friction * f  # Riccati form of the linear growth equation
        g, dg = state
        # E = G D^2: E' = D^2 (G' + 2 f G); insert in the equation above.
        ddg = 1.5 * omega * (g - 1) - (friction + 4 * f) * dg - (2 * df + 4 * f**2) * g
        return [dg, ddg - 2 * friction * f * g]

    start = np.log(_X_START) / 3
    first = [-3 / 7 * (1 + _X_START / 143), -3 / 7 * 3 * _X_START / 143]
    end = np.log(_X_END) / 3
    return solve_ivp(
        derivative, (start, end), first, method="DOP853", rtol=1e-11, atol=1e-13, dense_output=True
    ).sol


def second_order_growth(growth: ArrayLike, omega_m: float) -> tuple[Any, Any]:
    """Second order growth E and dE/dD at growth factor D: x = q + D psi1 + E psi2.

    E tends to -3/7 D^2 early, and equals it in an Einstein-de Sitter universe.

    Args:
        growth: D in [0, 1], any shape.
        omega_m: matter density in (0, 1].
    """
    d = np.asarray(growth, dtype=float)
    safe = np.maximum(d, 1e-12)  # D = 0 is a legal start; its a is only needed inside ratios
    a = scale_factor(safe, omega_m)
    x = np.asarray(_lambda_over_matter(a, omega_m))
    f = growth_rate(1 / a - 1, omega_m)
    log_a = np.log(np.clip(x, _X_START, _X_END)) / 3
    g, dg = _second_order_solution()(log_a.reshape(-1)).reshape(2, *x.shape)
    early = x < _X_START
    g = np.where(early, -3 / 7 * (1 + x / 143), g)
    dg = np.where(early, -9 / 7 * x / 143, dg)
    return g * d**2, d * (2 * g + dg / f)


@dataclass(frozen=True)
class Cosmology:
    """One flat LCDM cosmology; the defaults are the fiducial one of the Quijote simulations.

    Args:
        Omega_m: matter density, in (0, 1].
        sigma_8: rms linear density contrast in spheres of 8 Mpc/h at redshift 0.
        Omega_b: baryon density, in (0, Omega_m).
        h: Hubble constant in 100 km/s/Mpc.
        n_s: spectral index of the primordial fluctuations.

    References:
        | The Quijote simulations (Villaescusa-Navarro et al., 2020), arXiv:1909.05273
    """

    Omega_m: float = 0.3175
    sigma_8: float = 0.834
    Omega_b: float = 0.049
    h: float = 0.6711
    n_s: float = 0.9624

    def __post_init__(self) -> None:
        ok = 0 < self.Omega_b < self.Omega_m <= 1 and self.sigma_8 > 0 and self.h > 0
        if not (ok and np.isfinite(self.n_s) and np.isfinite(self.sigma_8 * self.h)):
            raise ParameterError(
                "Cosmology", expected="0 < Omega_b < Omega_m <= 1, sigma_8 > 0, h > 0, n_s finite",
                got=f"{self}", fix="correct the parameter, or narrow its prior",
            )  # fmt: skip

    def linear_power(self, k: ArrayLike, redshift: float = 0.0) -> np.ndarray:
        """Linear matter power spectrum in (Mpc/h)^3.

        P(k) = A k^n_s T(k)^2 D^2, A from sigma_8; T from Eisenstein & Hu 1998.

        Args:
            k: wavenumber in h/Mpc, > 0, any shape.
            redshift: z >= 0.
        """
        k = np.asarray(k, dtype=float)
        growth = float(growth_factor(redshift, self.Omega_m))
        return _amplitude(self) * growth**2 * self._shape(k)

    def _shape(self, k: np.ndarray) -> np.ndarray:
        transfer = eisenstein_hu(k, self.Omega_m, self.Omega_b, self.h)
        return k**self.n_s * transfer**2


@lru_cache(maxsize=256)
def _amplitude(cosmology: Cosmology) -> float:
    """A of P = A k^n T^2 from sigma_8^2 = int dlnk k^3 P W(8k)^2 / (2 pi^2)."""
    # 120 points per e-fold resolve the oscillations of W as far as k = 20 h/Mpc, beyond which less
    # than 1e-6 of the integral lies.
    log_k = np.linspace(np.log(1e-5), np.log(20.0), 1800)
    k = np.exp(log_k)
    x = 8 * k
    window = np.where(x < 1e-2, 1 - x**2 / 10, 3 * (np.sin(x) - x * np.cos(x)) / x**3)
    integrand = k**3 * cosmology._shape(k) * window**2 / (2 * np.pi**2)
    return cosmology.sigma_8**2 / float(np.trapezoid(integrand, log_k))
