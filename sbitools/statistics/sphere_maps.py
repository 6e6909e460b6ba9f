"""What statistics of HEALPix maps ask of the maps: ordering, Nside, and finite numbers.

Górski et al. 2005 (astro-ph/0409513) defines the pixels. healpy is imported where it is used.
"""

from __future__ import annotations

import math

import numpy as np

from sbitools.errors import ConfigError, ShapeError

__all__ = [
    "UNSEEN", "check_finite", "check_nside", "check_ordering", "check_weights", "nside_of",
    "ordered_directions", "ring_order", "stacked_maps",
]  # fmt: skip

# healpy.UNSEEN is -1.6375e30: nothing that is measured comes near.
UNSEEN = 1e29


def check_ordering(ordering: str) -> str:
    """Return `ordering`.

    Raises:
        ConfigError: unless it is ``"ring"`` or ``"nested"``.
    """
    if ordering not in ("ring", "nested"):
        raise ConfigError(
            "ordering", expected="'ring' or 'nested'", got=repr(ordering),
            fix="say which order of pixels the maps have",
        )  # fmt: skip
    return ordering


def check_nside(nside: int) -> int:
    """Return `nside` as an int.

    Raises:
        ConfigError: unless it is a power of two.
    """
    whole = isinstance(nside, int | np.integer) and not isinstance(nside, bool)
    if not whole or nside < 1 or nside & (nside - 1):
        raise ConfigError(
            "nside", expected="a power of two", got=repr(nside), fix="pass the Nside of the maps"
        )
    return int(nside)


def nside_of(n_pixels: int) -> int:
    """Nside of maps of so many pixels.

    Raises:
        ShapeError: unless n_pixels = 12 Nside^2 with Nside a power of two.
    """
    nside = math.isqrt(n_pixels // 12)
    if nside < 1 or 12 * nside**2 != n_pixels or nside & (nside - 1):
        raise ShapeError(
            "maps", expected="12 Nside^2 pixels on the last axis, Nside a power of two",
            got=f"{n_pixels}", fix="pass whole HEALPix maps, masked pixels included",
        )  # fmt: skip
    return nside


def check_finite(values: np.ndarray, what: str) -> None:
    """Refuse NaN, infinity and `healpy.UNSEEN`.

    Raises:
        ShapeError: if one of the values is none that can be measured.
    """
    if values.size == 0 or (values.max() < UNSEEN and values.min() > -UNSEEN):
        return
    bad = int((~(np.abs(values) < UNSEEN)).sum())
    raise ShapeError(
        what, expected="no NaN, infinity or healpy.UNSEEN in pixels that count",
        got=f"{bad} of {values.size} numbers", fix="leave these pixels out by a mask or weights",
    )  # fmt: skip


def check_weights(weights: np.ndarray | None, n_pixels: int) -> np.ndarray:
    """Weights of the pixels in float64, shape (n_pixels,); ones if None.

    Raises:
        ShapeError: for another shape, or weights that are negative, not finite or all zero.
    """
    given = np.ones(n_pixels) if weights is None else np.asarray(weights, dtype=np.float64)
    good = given.shape == (n_pixels,) and given.min() >= 0 and 0 < given.sum() < UNSEEN
    if not good:
        raise ShapeError(
            "weights", expected=f"({n_pixels},) numbers from 0, not all 0",
            got=f"shape {given.shape}, smallest {given.min() if given.size else None}",
            fix="pass one mask for all maps, in their ordering",
        )  # fmt: skip
    return given


def stacked_maps(
    maps: np.ndarray, ordering: str, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Maps (n, ..., n_pixels) and weights (n_pixels,) in float64 and ring order.

    Pixels of weight zero may be NaN or UNSEEN; these are set to zero.

    Raises:
        ConfigError: for an unknown ordering.
        ShapeError: for shapes that are none of maps, or numbers that are not finite.
    """
    check_ordering(ordering)
    values = np.asarray(maps)
    if values.ndim < 2 or not len(values) or values.dtype.kind not in "fiu":
        raise ShapeError(
            "maps", expected="real numbers (n_maps, ..., n_pixels)",
            got=f"shape {values.shape}, {values.dtype}", fix="give a single map as maps[None]",
        )  # fmt: skip
    order = ring_order(nside_of(values.shape[-1]), ordering)
    seen = check_weights(weights, values.shape[-1])[order]
    values = values[..., order].astype(np.float64)
    check_finite(values[..., seen > 0], "maps")
    values[~(np.abs(values) < UNSEEN)] = 0.0
    return values, seen


def ring_order(nside: int, ordering: str) -> np.ndarray:
    """Numbers, in `ordering`, of the pixels in ring order, shape (12 nside^2,)."""
    pixels = np.arange(12 * check_nside(nside) ** 2)
    if check_ordering(ordering) == "ring":
        return pixels
    import healpy

    return healpy.ring2nest(nside, pixels)


def ordered_directions(nside: int, ordering: str) -> np.ndarray:
    """Unit vectors of the centres of all pixels, shape (n_pixels, 3)."""
    nest = check_ordering(ordering) == "nested"
    import healpy

    nside = check_nside(nside)
    return np.stack(healpy.pix2vec(nside, np.arange(12 * nside**2), nest=nest), axis=1)
