"""Gain errors of detectors, and gains as they are estimated from the solar dipole.

An error g is constant in a ring: the data are (1 + g) s + n. From ring to ring it is an
Ornstein-Uhlenbeck process sampled at equal steps, z_r = rho z_(r-1) + sqrt(1 - rho^2) e_r with
rho = exp(-interval / correlation time), or independent where that time is 0. Heavy tails come
from a Gaussian copula: g = t^-1(Phi(z)), a Student variable in every ring, scaled to the stated
rms.

Calibration against the dipole is what Planck does (Planck 2013 results V, arXiv:1303.5066):
1 + g_hat = <d, D> / <D, D> over one or more rings, D the dipole without its mean in each ring.
Noise and every part of the sky that resembles the dipole along a circle go into g_hat, and the
data are divided by it: the map is not linear in gains and noise any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.linalg import toeplitz
from scipy.signal import lfilter
from scipy.special import ndtr, stdtrit

from sbitools.errors import ConfigError, ShapeError
from sbitools.seeds import check_seed

__all__ = ["Distribution", "GainModel", "dipole_gains"]

Distribution = Literal["gaussian", "student"]

_ORDERS = 101  # Hermite polynomials in the correlation of Student gains
_GRID = np.linspace(
    -20.0, 20.0, 8001
)  # of z: the integrands are below 1e-17 outside for dof > 2.5


@dataclass(frozen=True)
class GainModel:
    """The distribution of one detector's gain errors; detectors are independent.

    Args:
        rms: standard deviation of g, dimensionless.
        correlation_time: in days; 0 for rings that are independent.
        distribution: ``"gaussian"`` or ``"student"``, of g in one ring.
        dof: degrees of freedom of the Student distribution, above 2.

    Raises:
        ConfigError: for an argument that cannot be used.

    Example:
        >>> GainModel(rms=1e-4, correlation_time=5.0).draw(7, 4, 512, interval=0.7).shape
        (4, 512)
    """

    rms: float
    correlation_time: float = 0.0
    distribution: Distribution = "gaussian"
    dof: float = 5.0

    def __post_init__(self) -> None:
        rules = {
            "rms": (0 <= self.rms < np.inf, "0 or more"),
            "correlation_time": (0 <= self.correlation_time < np.inf, "0 or more, in days"),
            "distribution": (
                self.distribution in ("gaussian", "student"), "'gaussian' or 'student'",
            ),
            "dof": (2 < self.dof < np.inf, "more than 2: the rms is infinite otherwise"),
        }  # fmt: skip
        for name, (ok, expected) in rules.items():
            if not ok:
                raise ConfigError(
                    f"GainModel {name}", expected=expected, got=repr(getattr(self, name)),
                    fix=f"correct {name}",
                )  # fmt: skip

    def draw(self, seed: int, n_detectors: int, n_rings: int, interval: float) -> np.ndarray:
        """Gain errors, dimensionless, float64, shape (n_detectors, n_rings).

        Args:
            seed: of the draw.
            n_detectors: number of detectors.
            n_rings: number of rings.
            interval: days from one ring to the next.
        """
        rng = np.random.Generator(np.random.PCG64(check_seed(seed)))
        z = rng.standard_normal((n_detectors, n_rings))
        rho = self._step(interval)
        if rho:
            z[:, 1:] *= np.sqrt(-np.expm1(2 * np.log(rho)))
            z = np.asarray(lfilter([1.0], [1.0, -rho], z, axis=1))
        return self.rms * self._marginal(z)

    def covariance(self, n_rings: int, interval: float) -> np.ndarray:
        """Exact covariance of one detector's gain errors, shape (n_rings, n_rings).

        The correlation of Student gains follows from that of z by Mehler's formula: it is
        sum of c_k^2 rho^k, where c_k are the coefficients of t^-1(Phi(z)) in normalised Hermite
        polynomials.
        """
        rho = self._step(interval) ** np.arange(n_rings)
        if self.distribution == "student":
            rho = _polynomial(self._hermite_squares(), rho)
        return self.rms**2 * toeplitz(rho)

    def _step(self, interval: float) -> float:
        """Correlation of z between two rings that follow each other."""
        return float(np.exp(-interval / self.correlation_time)) if self.correlation_time else 0.0

    def _marginal(self, z: np.ndarray) -> np.ndarray:
        """Unit-variance variables of the wanted distribution at standard normal z."""
        if self.distribution == "gaussian":
            return z
        scale = np.sqrt((self.dof - 2) / self.dof)
        return -np.sign(z) * scale * stdtrit(self.dof, ndtr(-np.abs(z)))  # accurate in both tails

    def _hermite_squares(self) -> np.ndarray:
        """c_k^2 for k = 0 .. `_ORDERS`, of sum 1: what is left goes to the last order."""
        weight = np.exp(-0.5 * _GRID**2) * (_GRID[1] - _GRID[0]) / np.sqrt(2 * np.pi)
        target = self._marginal(_GRID) * weight
        before, now = np.zeros_like(_GRID), np.ones_like(_GRID)
        out = np.empty(_ORDERS + 1)
        for k in range(len(out)):
            out[k] = (target @ now) ** 2
            following = (_GRID * now - np.sqrt(k) * before) / np.sqrt(k + 1)
            before, now = now, following
        out[-1] += 1 - out.sum()
        return out


def dipole_gains(tod: np.ndarray, dipole: np.ndarray, rings: int = 1) -> np.ndarray:
    """Gain errors g_hat as the dipole shows them: 1 + g_hat = <d, D> / <D, D>.

    Args:
        tod: data d of every detector in K or uK, shape (n_detectors, n_rings, samples).
        dipole: the dipole that was observed, in the same unit, shape (n_rings, samples).
        rings: that share one gain: rings 0 .. rings - 1, and so on.

    Returns:
        Dimensionless, float64, shape (n_detectors, n_rings). The mean of each ring has no effect.

    Raises:
        ConfigError: for less than one ring.
        ShapeError: for shapes that do not match.
    """
    if rings < 1:
        raise ConfigError(
            "rings", expected="1 or more", got=repr(rings), fix="say how many share a gain"
        )
    if tod.ndim != 3 or tod.shape[1:] != dipole.shape:
        raise ShapeError(
            "tod", expected=f"shape (n_detectors, {str(dipole.shape)[1:]}", got=f"{tod.shape}",
            fix="observe the dipole along the same pointing",
        )  # fmt: skip
    template = dipole - dipole.mean(axis=1, keepdims=True)
    starts = np.arange(0, tod.shape[1], rings)
    above = np.add.reduceat(np.einsum("drt,rt->dr", tod, template), starts, axis=1)
    below = np.add.reduceat(np.einsum("rt,rt->r", template, template), starts)
    return np.repeat(above / below - 1, rings, axis=1)[:, : tod.shape[1]]


def _polynomial(coefficients: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Sum of coefficients[k] x^k."""
    return np.polynomial.polynomial.polyval(x, coefficients)
