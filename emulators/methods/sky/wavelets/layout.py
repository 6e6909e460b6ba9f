"""The twelve HEALPix faces as padded squares in one row of memory.

A cell of a face has its eight neighbours at eight fixed distances in memory, also across the
edges of faces, whose cells are repeated in a frame one cell wide. A 3 x 3 filter is then nine
shifted multiplications of contiguous memory: no table of neighbours is read while it runs.

At eight points of the sphere only three faces meet: 24 pixels have seven neighbours, and the
frame's cell of the missing one belongs to no pixel. Weights there are zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sbitools.embeddings.sphere import face_order

from .kernels import BLOCK

__all__ = ["Layout", "layout"]

_FACES = 12
# Neighbours as healpy lists them: SW, W, NW, N, NE, E, SE, S; x is north-east, y north-west.
_STEPS = np.array([(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)])


@dataclass(frozen=True)
class Layout:
    """Where the pixels of maps of one Nside are.

    Attributes:
        nside: of the maps.
        cells: number of cells, 12 (nside + 2)^2 and a block that is nowhere.
        inside: cell of every pixel in nested order, (12 nside^2,).
        halo: cells of the frames that repeat a pixel.
        source: the cell each of them repeats.
        shifts: distance in memory from a cell to itself and its eight neighbours, (9,).
    """

    nside: int
    cells: int
    inside: np.ndarray
    halo: np.ndarray
    source: np.ndarray
    shifts: np.ndarray

    def pad(self, values: np.ndarray) -> np.ndarray:
        """Maps (..., 12 nside^2) in nested order to cells (..., cells); no pixel, no value."""
        out = np.zeros((*values.shape[:-1], self.cells), dtype=values.dtype)
        out[..., self.inside] = values
        out[..., self.halo] = out[..., self.source]
        return out


@lru_cache(maxsize=32)
def layout(nside: int) -> Layout:
    """The layout of maps with `nside`, a power of two."""
    import healpy

    width = nside + 2
    face, x, y = np.unravel_index(np.arange(_FACES * nside**2), (_FACES, nside, nside))
    cell = (face * width + x + 1) * width + y + 1
    order = face_order(nside)
    inside = np.empty_like(cell)
    inside[order] = cell

    edge = np.flatnonzero((x == 0) | (x == nside - 1) | (y == 0) | (y == nside - 1))
    around = healpy.get_all_neighbours(nside, order[edge], nest=True).T
    px, py = (c[edge, None] + 1 + s for c, s in zip((x, y), _STEPS.T, strict=True))
    padded = (face[edge, None] * width + px) * width + py
    outside = (px == 0) | (px == nside + 1) | (py == 0) | (py == nside + 1)
    repeated = outside & (around >= 0)
    halo, first = np.unique(padded[repeated], return_index=True)
    source = inside[around[repeated][first]]
    shifts = np.array([0, *(_STEPS[:, 0] * width + _STEPS[:, 1])])
    return Layout(nside, _FACES * width**2 + BLOCK, inside, halo, source, shifts)
