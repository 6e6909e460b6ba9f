"""Complex maps: their columns, and how a field of spin s is carried from pixel to pixel.

A complex field z = a + i b is two rows, a and b, and has two columns per wavelet psi: z * psi, and
conj(z * conj(psi)), the conjugate of what the opposite orientation gives. So it has 2 L
orientations over the full turn where a real field has L over the half. Its moduli are real: they
are filtered with L orientations like those of real maps. A complex field is thus as many numbers
as two real ones; only what the kernels do with the rows a and b is new.

Q + i U is not a scalar: Q and U refer to the meridian of their own pixel, and meridians turn from
pixel to pixel, most near the poles. Filters that do not know it see the poles, and mix E and B
there. Carried along the great circle from pixel q to p, a field of spin s keeps its angle to that
circle: if the circle has the angles c_q and c_p to the meridians of its ends, z_q becomes
exp(i s (c_p - c_q)) z_q (parallel transport; Q + i U has spin 2: Zaldarriaga & Seljak 1997,
arXiv:astro-ph/9609170, from south to east as in healpy). Neighbours are carried to their pixel
and turned to the frame's direction, from which orientations are measured too, before a real
wavelet filters them; smoothing carries them to the meridian of the coarser pixel. The wavelets
keep the scale of real maps: white noise of spin 2 responds alike within 2 % down to Nside 2.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .filters import Frame, build_levels, neighbours
from .layout import layout

__all__ = ["build_turns", "times_i"]


@lru_cache(maxsize=8)
def build_turns(
    nside: int, levels: int, orientations: int, frame: Frame, dtype: str, spin: int
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """What the neighbours of every level are multiplied with: twice (2, 9, cells), Re and Im.

    The first before a wavelet, the second to smooth, weights included.
    """
    out = []
    for level in build_levels(nside, levels, orientations, frame, dtype):
        grid = layout(level.nside)
        near, vectors = neighbours(level.nside), _vectors(level.nside)
        meridians = south, east = Frame().axes(vectors)
        carried = _carried(vectors[near] - vectors, meridians, (south[near], east[near])) ** spin
        own = _direction(frame.axes(vectors)[0], meridians) ** spin
        smooth = level.smoother[:, grid.inside] * carried
        if level.nside > 1:
            up = np.repeat(_vectors(level.nside // 2), 4, axis=0)
            smooth = smooth * _carried(vectors - up, Frame().axes(up), meridians) ** spin
        out.append((_cells(carried / own, level.nside, dtype), _cells(smooth, level.nside, dtype)))
    return tuple(out)


def times_i(rows: np.ndarray) -> np.ndarray:
    """i z of complex fields, real and imaginary parts in turn: (2 C, n) to (2 C, n)."""
    z = rows.reshape(-1, 2, rows.shape[-1])
    return np.stack([-z[:, 1], z[:, 0]], 1).reshape(rows.shape)


def _vectors(nside: int) -> np.ndarray:
    """Unit vectors (pixels, 3) of the pixels in nested order."""
    import healpy

    return np.stack(healpy.pix2vec(nside, np.arange(12 * nside**2), nest=True), -1)


def _carried(
    apart: np.ndarray, here: tuple[np.ndarray, ...], there: tuple[np.ndarray, ...]
) -> np.ndarray:
    """Factor for spin 1 of what comes from there, `apart` from here; axes (..., 3) of both."""
    return _direction(apart, here) * _direction(apart, there).conj()


def _direction(vectors: np.ndarray, axes: tuple[np.ndarray, ...]) -> np.ndarray:
    """exp(i angle) of vectors (..., 3) against two tangent axes; 1 if they have no direction."""
    z = (vectors * axes[0]).sum(-1) + 1j * (vectors * axes[1]).sum(-1)
    size = np.abs(z)
    return np.where(size > 1e-12, z / np.maximum(size, 1e-12), 1)


def _cells(values: np.ndarray, nside: int, dtype: str) -> np.ndarray:
    """Complex (9, pixels) to (2, 9, cells)."""
    grid = layout(nside)
    out = np.zeros((2, 9, grid.cells), dtype)
    out[0][:, grid.inside], out[1][:, grid.inside] = np.real(values), np.imag(values)
    return out
