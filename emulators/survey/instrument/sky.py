"""What the detectors see, in kelvins of CMB temperature: dipole, CMB, and maps of the user.

All maps are I, Q, U in HEALPix's polarisation convention and nested order, float64, of shape
(3, 12 Nside^2). The solar dipole is that of Planck 2018 results I (arXiv:1807.06205); the CMB
is drawn from the C_l that healpy ships (totcls.dat, D_l in uK^2 as CAMB writes them).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import healpy
import numpy as np

from sbitools.errors import ConfigError, ShapeError
from sbitools.seeds import check_seed
from sbitools.statistics.sphere_maps import check_finite, check_nside, check_ordering, nside_of

from .scan import Frame

__all__ = ["DIPOLE", "Unit", "cmb_map", "dipole_map", "regrade", "sky_map"]

Unit = Literal["K", "mK", "uK"]

DIPOLE = (3362.08e-6, 264.021, 48.253)
"""Amplitude in K, Galactic longitude and latitude in degrees, of the solar dipole."""

_KELVIN = {"K": 1.0, "mK": 1e-3, "uK": 1e-6}


def dipole_map(nside: int, frame: Frame = "galactic") -> np.ndarray:
    """The solar dipole in K, shape (3, 12 nside^2).

    Args:
        nside: of the map.
        frame: coordinates of the map, ``"galactic"`` or ``"ecliptic"``.

    Raises:
        ConfigError: for an nside that is no power of two, or another frame.
    """
    amplitude, lon, lat = DIPOLE
    direction = healpy.ang2vec(lon, lat, lonlat=True)
    if frame == "ecliptic":
        direction = np.asarray(healpy.Rotator(coord=["G", "E"]).mat) @ direction
    elif frame != "galactic":
        raise ConfigError(
            "frame", expected="'galactic' or 'ecliptic'", got=repr(frame), fix="correct frame"
        )
    pixels = np.arange(12 * check_nside(nside) ** 2)
    out = np.zeros((3, len(pixels)))
    out[0] = amplitude * direction @ np.array(healpy.pix2vec(nside, pixels, nest=True))
    return out


def cmb_map(nside: int, seed: int) -> np.ndarray:
    """A Gaussian CMB in K without beam or pixel window, multipoles 2 to 3 nside - 1.

    Args:
        nside: of the map.
        seed: of the realisation.

    Returns:
        Shape (3, 12 nside^2).

    Raises:
        ConfigError: for an nside that is no power of two.
        ParameterError: for a bad seed.
    """
    lmax = 3 * check_nside(nside) - 1
    spectra = _spectra(lmax)
    rng = np.random.Generator(np.random.PCG64(check_seed(seed)))
    # One draw per l and m in an order of l, so that small scales are added as nside grows.
    white = [rng.standard_normal((3, n + 1, 2)) for n in range(lmax + 1)]
    alm = np.zeros((3, healpy.Alm.getsize(lmax)), dtype=np.complex128)
    for ell, z in enumerate(white):
        tt, ee, bb, te = spectra[:, ell]
        root = np.sqrt(tt)
        along = te / root if root else 0.0
        factor = np.array(
            [[root, 0, 0], [along, np.sqrt(max(ee - along**2, 0.0)), 0], [0, 0, np.sqrt(bb)]]
        )
        modes = (z[..., 0] + 1j * z[..., 1]) / np.sqrt(2)
        modes[:, 0] = z[:, 0, 0]  # m = 0 is real
        alm[:, healpy.Alm.getidx(lmax, ell, np.arange(ell + 1))] = factor @ modes
    ring = np.asarray(healpy.alm2map(alm, nside, lmax=lmax, pol=True))
    return np.stack([healpy.reorder(m, r2n=True) for m in ring])


def regrade(iqu: np.ndarray, nside: int, *, ordering: str, unit: str) -> np.ndarray:
    """A map of the user's, in K, nested, at another Nside.

    Smaller maps are means of pixels, larger ones repeat them; neither turns Q and U to the new
    pixels' meridians, which matters next to the poles only.

    Args:
        iqu: shape (3, n_pixels), or (n_pixels,) for intensity alone.
        nside: of the result.
        ordering: ``"ring"`` or ``"nested"``: that of `iqu`. It is never guessed.
        unit: ``"K"``, ``"mK"`` or ``"uK"``, of CMB temperature.

    Returns:
        Float64, shape (3, 12 nside^2).

    Raises:
        ConfigError: for another ordering, unit or nside.
        ShapeError: for another shape, or pixels that are NaN, infinite or UNSEEN.
    """
    if unit not in _KELVIN:
        raise ConfigError(
            "unit", expected=f"one of {list(_KELVIN)}", got=repr(unit),
            fix="convert the map to CMB temperature and say its unit",
        )  # fmt: skip
    check_ordering(ordering)
    check_nside(nside)
    values = np.ma.filled(np.ma.asarray(iqu, dtype=np.float64), np.nan)
    if values.ndim == 1:
        values = np.stack([values, np.zeros_like(values), np.zeros_like(values)])
    if values.ndim != 2 or len(values) != 3:
        raise ShapeError(
            "sky", expected="shape (3, n_pixels)", got=f"shape {values.shape}",
            fix="pass I, Q and U in one array",
        )  # fmt: skip
    given = nside_of(values.shape[1])
    check_finite(values, "sky")
    if ordering == "ring":
        values = values[:, healpy.nest2ring(given, np.arange(values.shape[1]))]
    if nside < given:
        values = values.reshape(3, 12 * nside**2, -1).mean(axis=-1)
    elif nside > given:
        values = np.repeat(values, (nside // given) ** 2, axis=1)
    return values * _KELVIN[unit]


def sky_map(
    nside: int,
    seed: int = 0,
    *,
    frame: Frame = "galactic",
    foregrounds: np.ndarray | None = None,
) -> np.ndarray:
    """Dipole and CMB and, if given, `foregrounds`, in K, shape (3, 12 nside^2).

    Args:
        nside: of the map.
        seed: of the CMB.
        frame: coordinates of the dipole (and of the foregrounds: they are not turned).
        foregrounds: in K, nested, at this nside, as `regrade` returns them.

    Raises:
        ConfigError: for a bad nside or frame.
        ShapeError: for foregrounds of another shape.
    """
    out = dipole_map(nside, frame) + cmb_map(nside, seed)
    if foregrounds is None:
        return out
    if np.shape(foregrounds) != out.shape:
        raise ShapeError(
            "foregrounds", expected=f"shape {out.shape}", got=f"shape {np.shape(foregrounds)}",
            fix="bring them to this Nside with regrade()",
        )  # fmt: skip
    return out + foregrounds


def _spectra(lmax: int) -> np.ndarray:
    """C_l of TT, EE, BB and TE in K^2, shape (4, lmax + 1); zero where the file has none."""
    table = np.loadtxt(Path(healpy.__file__).parent / "data" / "totcls.dat")
    multipoles = table[:, 0].astype(int)
    keep = (multipoles >= 2) & (multipoles <= lmax)
    ell, columns = multipoles[keep], table[keep, 1:5]
    out = np.zeros((4, lmax + 1))
    out[:, ell] = (columns * (2e-12 * np.pi / (ell * (ell + 1)))[:, None]).T
    return out
