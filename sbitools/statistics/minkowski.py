"""Minkowski functionals of maps on the sphere.

For the part of the sky where u > nu, per unit area (Schmalzing & Górski 1998, astro-ph/9710185,
equations 13 to 19; u_;i are covariant derivatives):

    V0 = <Theta(u - nu)>, the fraction of the area,
    V1 = <delta(u - nu) |grad u|> / 4, a quarter of the length of its boundary (1 / rad),
    V2 = <delta(u - nu) (2 u_;1 u_;2 u_;12 - u_;1^2 u_;22 - u_;2^2 u_;11) / |grad u|^2> / 2 pi,
         its boundary's curvature (1 / rad^2).

Derivatives come from harmonic coefficients. The Hessian is taken as its trace, the Laplacian, and
its traceless part, which is a field of spin 2: nothing is divided by sin(theta).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sbitools.errors import ConfigError, ShapeError

from .sphere_maps import stacked_maps

__all__ = ["Minkowski", "gaussian_minkowski", "minkowski_functionals", "spectral_moments"]


class Minkowski(NamedTuple):
    """Minkowski functionals of n maps.

    Attributes:
        thresholds: shape (n_thresholds,).
        v0: fraction of the area above each threshold, shape (n, n_thresholds).
        v1: in 1 / rad, same shape.
        v2: in 1 / rad^2, same shape.
        sigma0: standard deviation of each map, shape (n,).
        sigma1: root mean square of the length of its gradient, per radian, shape (n,).
    """

    thresholds: np.ndarray
    v0: np.ndarray
    v1: np.ndarray
    v2: np.ndarray
    sigma0: np.ndarray
    sigma1: np.ndarray


def minkowski_functionals(
    maps: np.ndarray, thresholds: np.ndarray, *, ordering: str, absolute: bool = False,
    width: float | None = None, lmax: int | None = None, mask: np.ndarray | None = None,
) -> Minkowski:  # fmt: skip
    """V0, V1 and V2 of each map; what is measured is the map's part up to lmax.

    Args:
        maps: shape (n, n_pixels).
        thresholds: nu, shape (n_thresholds,), as (u - mean) / standard deviation of each map.
        ordering: of the pixels, ``"ring"`` or ``"nested"``.
        absolute: thresholds are values of the maps instead, in their unit.
        width: of the bins around the thresholds by which the delta function is replaced, in the
            unit of the thresholds; their smallest distance if None.
        lmax: largest multipole; 2 nside if None, up to which derivatives are exact.
        mask: pixels that count, shape (n_pixels,), or weights from 0 to 1. Others may be UNSEEN;
            derivatives near these are wrong, so that a mask should stay away from them.

    Raises:
        ConfigError: for an unknown ordering, a width or an lmax that is none.
        ShapeError: for shapes that do not fit, pixels that are not finite, or a constant map.
    """
    if mask is None and np.ndim(maps) != 2:
        raise _not_maps(maps)
    values, weights = stacked_maps(maps, ordering, mask)
    if values.ndim != 2:
        raise _not_maps(maps)
    nu = _thresholds(thresholds)
    step = _width(nu, width)
    top = 2 * math.isqrt(values.shape[1] // 12) if lmax is None else lmax
    if top < 1:
        raise ConfigError("lmax", expected="1 or more", got=f"{lmax}", fix="pass 2 nside, say")
    rows = [_functionals(u, weights / weights.sum(), nu, step, absolute, top) for u in values]
    v0, v1, v2, sigma0, sigma1 = (np.stack(column) for column in zip(*rows, strict=True))
    return Minkowski(nu, v0, v1, v2, sigma0, sigma1)


def gaussian_minkowski(
    thresholds: np.ndarray, sigma0: float, sigma1: float, width: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """V0, V1, V2 of a Gaussian field, each (n_thresholds,).

    Schmalzing & Górski 1998, equation 20 with sigma = sigma0^2 and tau = sigma1^2 / 2.

    Args:
        thresholds: nu in units of sigma0, from the mean.
        sigma0: standard deviation of the field.
        sigma1: root mean square of the length of its gradient, per radian.
        width: of the bins, over which V1 and V2 are averaged as measured ones are.
    """
    nu, ratio = _thresholds(thresholds), sigma1 / sigma0
    if width:
        below, above = nu - width / 2, nu + width / 2
        bell = math.sqrt(math.pi / 2) * (_erf(above) - _erf(below)) / width
        slope = (np.exp(-0.5 * below**2) - np.exp(-0.5 * above**2)) / width
    else:
        bell = np.exp(-0.5 * nu**2)
        slope = nu * bell
    v1 = ratio / (8 * math.sqrt(2)) * bell
    return 0.5 * (1 - _erf(nu)), v1, ratio**2 / (2 * (2 * math.pi) ** 1.5) * slope


def spectral_moments(cl: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sigma0, sigma1) of fields with spectra C_l (..., lmax + 1), l from 0, monopole left out."""
    cl = np.asarray(cl, dtype=np.float64)
    degree = np.arange(cl.shape[-1])
    modes = (2 * degree + 1) / (4 * math.pi) * (degree > 0)
    return np.sqrt(cl @ modes), np.sqrt(cl @ (modes * degree * (degree + 1)))


def _functionals(
    u: np.ndarray, weights: np.ndarray, nu: np.ndarray, width: float, absolute: bool, lmax: int
) -> tuple[np.ndarray, ...]:
    """V0, V1, V2, sigma0, sigma1 of one map in ring order; weights sum to 1."""
    field, slope, bend = _derivatives(u - weights @ u, lmax)
    mean = weights @ field
    sigma0 = math.sqrt(weights @ (field - mean) ** 2)
    if not sigma0 > 1e-12 * np.abs(u).max():
        raise ShapeError(
            "maps", expected="maps that vary", got="a constant one", fix="leave it out"
        )
    shift = weights @ u if absolute else -mean
    level = field + shift if absolute else (field + shift) / sigma0
    v0 = np.array([weights @ (level > threshold) for threshold in nu])
    density = 1 / width if absolute else 1 / (width * sigma0)  # of the delta function, in u
    near = [np.abs(level - threshold) <= width / 2 for threshold in nu]
    v1 = np.array([weights[k] @ slope[k] for k in near]) * density / 4
    v2 = np.array([weights[k] @ bend[k] for k in near]) * density / (2 * math.pi)
    return v0, v1, v2, np.asarray(sigma0), np.sqrt(weights @ slope**2)


def _derivatives(u: np.ndarray, lmax: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The map up to lmax, |grad u|, and the curvature of its level lines times |grad u|."""
    import healpy

    nside = math.isqrt(len(u) // 12)
    alm = healpy.map2alm(u, lmax=lmax, iter=3, pol=False)
    field, along, across = healpy.alm2map_der1(alm, nside, lmax=lmax)
    degree = np.arange(lmax + 1.0)
    trace = healpy.alm2map(healpy.almxfl(alm, -degree * (degree + 1)), nside, lmax=lmax, pol=False)
    spin = healpy.almxfl(
        alm, np.sqrt(np.maximum((degree + 2) * (degree + 1) * degree * (degree - 1), 0))
    )
    # Q + i U of this E is -(u_;11 - u_;22 + 2 i u_;12), healpy's sign of E.
    difference, mixed = healpy.alm2map_spin([-spin, 0 * spin], nside, 2, lmax)
    square = along**2 + across**2
    bend = (
        along * across * mixed + 0.5 * (along**2 - across**2) * difference - 0.5 * square * trace
    )
    return field, np.sqrt(square), bend / np.maximum(square, np.finfo(float).tiny)


def _erf(nu: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    return erf(nu / math.sqrt(2))


def _thresholds(thresholds: np.ndarray) -> np.ndarray:
    nu = np.asarray(thresholds, dtype=np.float64)
    if nu.ndim != 1 or not len(nu) or not np.isfinite(nu).all():
        raise ShapeError(
            "thresholds", expected="finite numbers (n_thresholds,)", got=f"shape {nu.shape}",
            fix="pass numpy.linspace(-3, 3, 25), say",
        )  # fmt: skip
    return nu


def _width(nu: np.ndarray, width: float | None) -> float:
    """Width of the bins around the thresholds."""
    if width is None and len(nu) > 1:
        width = float(np.diff(np.sort(nu)).min())
    if width is None or not width > 0:
        raise ConfigError(
            "width", expected="a positive width of the bins, or two or more thresholds",
            got=f"{width}", fix="pass width=0.25, say",
        )  # fmt: skip
    return width


def _not_maps(maps: np.ndarray) -> ShapeError:
    return ShapeError(
        "maps", expected="scalar maps (n, n_pixels)", got=f"shape {np.shape(maps)}",
        fix="give Q and U one after the other, a single map as maps[None]",
    )  # fmt: skip
