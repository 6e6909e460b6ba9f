"""Oriented wavelets and smoothing of 3 x 3 pixels, for every level of a HEALPix pyramid.

The wavelet of orientation g at pixel p weighs the neighbour at the tangent vector d by
exp(-N^2 d^2) (exp(i pi N u / sqrt(2)) - m), with u = d . e_g, N the level's Nside and m such that
the sum is zero. Every pixel's wavelet is then scaled so that unit white noise in the map, carried
down to the level, has response variance 1: pixels of other shapes respond alike.

Allys et al. 2019 (arXiv:1905.01372) and Delouis et al. 2022 (arXiv:2207.12527) use filters of
this kind; the scaling is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp

from .layout import layout

__all__ = ["Frame", "Level", "build_levels", "neighbours"]

_WAVE = np.pi / np.sqrt(2)


@dataclass(frozen=True)
class Frame:
    """The direction that orientation 0 has in every pixel.

    No field of directions is smooth on the whole sphere: "meridian" points along the meridians
    and has its vortices at the two poles, "stereographic" has none at the north pole and a
    double one at the south pole. There is no seam elsewhere.

    Args:
        kind: ``"meridian"`` or ``"stereographic"``.
        pole: longitude and latitude in degrees of the north pole of the frame, in the maps'
            coordinates; the ecliptic pole makes the meridians those of a scan around it.
    """

    kind: Literal["meridian", "stereographic"] = "meridian"
    pole: tuple[float, float] = (0.0, 90.0)

    def axes(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Two tangent unit vectors (n, 3) at unit vectors (n, 3): south and east, turned."""
        lon, lat = np.deg2rad(self.pole)
        pole = np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
        first = np.array([np.sin(lat) * np.cos(lon), np.sin(lat) * np.sin(lon), -np.cos(lat)])
        second = np.cross(pole, first)
        a, b = vectors @ first, vectors @ second
        phi = np.arctan2(b, a)
        east = np.cos(phi)[:, None] * second - np.sin(phi)[:, None] * first
        south = np.cross(east, vectors)
        if self.kind == "meridian":
            return south, east
        cos, sin = np.cos(phi)[:, None], np.sin(phi)[:, None]
        return cos * south - sin * east, sin * south + cos * east


@dataclass(frozen=True)
class Level:
    """Filters of one level.

    Attributes:
        nside: of the level.
        weights: (orientations, 2, 9, cells), real and imaginary part.
        smoother: (9, cells), of sum 1 at every pixel.
    """

    nside: int
    weights: np.ndarray
    smoother: np.ndarray


@lru_cache(maxsize=8)
def build_levels(
    nside: int, levels: int, orientations: int, frame: Frame, dtype: str
) -> tuple[Level, ...]:
    """Filters at Nside, Nside / 2, ...: computed once per process and kept."""
    noise: Any = sp.identity(12 * nside**2, format="csr")
    out = []
    for j in range(levels):
        envelope, waves = _geometry(nside >> j, orientations, frame)
        smoother = envelope / envelope.sum(0)
        scale = 1 / np.sqrt(_noise_response(waves, noise, nside >> j))
        grid = layout(nside >> j)
        weights = np.zeros((orientations, 2, 9, grid.cells), dtype)
        weights[:, 0][..., grid.inside] = np.real(waves) * scale[:, None]
        weights[:, 1][..., grid.inside] = np.imag(waves) * scale[:, None]
        smooth = np.zeros((9, grid.cells), dtype)
        smooth[:, grid.inside] = smoother
        out.append(Level(nside >> j, weights, smooth))
        if j + 1 < levels:
            down = _down_matrix(nside >> j, smoother)
            noise = (down @ noise @ down.T).tocsr()
    return tuple(out)


def neighbours(nside: int) -> np.ndarray:
    """Pixel and its neighbours (9, pixels) in nested order, -1 where there is none."""
    grid = layout(nside)
    number = np.full(grid.cells, -1)
    number[grid.inside] = np.arange(12 * nside**2)
    number[grid.halo] = number[grid.source]
    return number[grid.inside[None] + grid.shifts[:, None]]


def _geometry(nside: int, orientations: int, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Envelope (9, pixels) and wavelets (orientations, 9, pixels), complex, not scaled."""
    import healpy

    vectors = np.stack(healpy.pix2vec(nside, np.arange(12 * nside**2), nest=True), -1)
    near = neighbours(nside)
    apart = vectors[near] - vectors
    envelope = np.where(near >= 0, np.exp(-(nside**2) * (apart**2).sum(-1)), 0.0)
    e1, e2 = frame.axes(vectors)
    along, across = (apart * e1).sum(-1), (apart * e2).sum(-1)
    waves = np.empty((orientations, *envelope.shape), complex)
    for g in range(orientations):
        angle = np.pi * g / orientations
        phase = np.exp(1j * _WAVE * nside * (np.cos(angle) * along + np.sin(angle) * across))
        mean = (envelope * phase).sum(0) / envelope.sum(0)
        waves[g] = envelope * (phase - mean)
    return envelope, waves


def _noise_response(waves: np.ndarray, noise: Any, nside: int) -> np.ndarray:
    """Variance (orientations, pixels) of the wavelets' response to noise of this covariance."""
    near, pixels = neighbours(nside), np.arange(12 * nside**2)
    out = np.empty((len(waves), len(pixels)))
    rows = np.broadcast_to(pixels, near.shape)
    there = near >= 0
    for g, wave in enumerate(waves):
        w: Any = sp.csr_matrix((wave[there], (rows[there], near[there])), shape=noise.shape)
        out[g] = np.real(np.asarray((w @ noise).multiply(w.conj()).sum(1)).ravel())
    return out


def _down_matrix(nside: int, smoother: np.ndarray) -> Any:
    """Smoothing and the mean of four, as a sparse matrix."""
    near, pixels = neighbours(nside), np.arange(12 * nside**2)
    there = near >= 0
    rows = np.broadcast_to(pixels // 4, near.shape)
    entries = (smoother[there] / 4, (rows[there], near[there]))
    return sp.csr_matrix(entries, shape=(3 * nside**2, 12 * nside**2))
