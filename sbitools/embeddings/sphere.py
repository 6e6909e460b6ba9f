"""The HEALPix sphere as twelve square faces, so that planar convolutions run on it.

In nested order a pixel of a face has coordinates (x, y), x towards north-east and y towards
north-west, and two by two pixels make one of the next coarser map. A face is padded by the pixels
beyond its edges (Karlbauer et al. 2023, arXiv:2311.06253); a 3 x 3 window then holds a pixel and
its eight neighbours, in the frame of its own face. At eight points of the sphere only three faces
meet: 24 pixels have seven neighbours, and the window's empty corner is given the mean of its
other corners.

Górski et al. 2005 (astro-ph/0409513) defines the pixels. Tables are made for the edges of faces
and masks alone, never for all pixels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["Faces", "face_order", "pixels_to_nside"]

_FACES = 12
# Neighbours as healpy lists them: SW, W, NW, N, NE, E, SE, S.
_STEPS = np.array([(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)])
_CORNERS = [1, 3, 5, 7]


def pixels_to_nside(n_pixels: int) -> int | None:
    """Nside of a map of so many pixels if it is a power of two, else None."""
    nside = math.isqrt(n_pixels // _FACES)
    whole = nside > 0 and _FACES * nside**2 == n_pixels
    return nside if whole and nside & (nside - 1) == 0 else None


def face_order(nside: int, ordering: str = "nested") -> np.ndarray:
    """Pixel numbers (12 * nside^2,) of the cells of the faces in the order (face, x, y).

    Args:
        nside: a power of two.
        ordering: of the map, ``"ring"`` or ``"nested"``.
    """
    spread = np.zeros(nside, dtype=np.int64)  # the bits of a coordinate, one place apart
    for bit in range(nside.bit_length()):
        spread |= ((np.arange(nside) >> bit) & 1) << (2 * bit)
    inside = spread[:, None] | (spread[None, :] << 1)
    nested = (np.arange(_FACES)[:, None, None] * nside**2 + inside).ravel()
    if ordering == "nested":
        return nested
    import healpy

    return healpy.nest2ring(nside, nested)


class Faces(nn.Module):
    """Padding and averages of maps (B * 12, C, nside, nside), of which some pixels are not seen.

    Args:
        nside: of the maps.
    """

    halo_cells: Tensor
    halo_sources: Tensor
    corner_cells: Tensor
    corner_sources: Tensor
    corner_weights: Tensor
    rim_cells: Tensor
    rim_sources: Tensor
    rim_weights: Tensor
    weights: Tensor

    def __init__(self, nside: int) -> None:
        super().__init__()
        self.nside, self.masked = nside, False
        self._order = face_order(nside)
        self._cell_of = np.argsort(self._order)
        for name, table in (self._halo() | self._rim(np.ones(len(self._order), bool))).items():
            self.register_buffer(name, torch.from_numpy(table), persistent=False)
        even = torch.full((len(self._order),), 1.0 / len(self._order))
        self.register_buffer("weights", even, persistent=False)

    def set_weights(self, weights: Tensor) -> None:
        """Give every cell (12 * nside^2,) its weight: the fraction of it that is seen."""
        device = self.weights.device
        self.masked = bool((weights != weights[0]).any())
        self.weights = (weights / weights.sum()).float().to(device)
        for name, table in self._rim(weights.cpu().numpy() > 0).items():
            setattr(self, name, torch.from_numpy(table).to(device))

    def pad(self, x: Tensor) -> Tensor:
        """(B * 12, C, n, n) to (B * 12, C, n + 2, n + 2).

        Unseen pixels that touch seen ones are set to the mean of these; other unseen ones are
        passed on and touch nothing that is seen.
        """
        n, channels = self.nside, x.shape[1]
        flat = self.flat(x)
        if self.masked:
            filled = _means(flat, self.rim_sources, self.rim_weights)
            flat = flat.index_copy(1, self.rim_cells, filled)
        padded: Tensor = _Frame.apply(  # pyright: ignore[reportAssignmentType]
            flat.view(-1, n, n, channels), self.halo_cells, self.halo_sources,
            self.corner_cells, self.corner_sources, self.corner_weights,
        )  # fmt: skip
        return padded.permute(0, 3, 1, 2)

    def flat(self, x: Tensor) -> Tensor:
        """(B * 12, C, n, n) to (B, 12 * n * n, C)."""
        return x.permute(0, 2, 3, 1).reshape(-1, _FACES * self.nside**2, x.shape[1])

    def unflat(self, x: Tensor) -> Tensor:
        """Inverse of `flat`, with channels last in memory."""
        return x.reshape(-1, self.nside, self.nside, x.shape[2]).permute(0, 3, 1, 2)

    def pool(self, x: Tensor) -> Tensor:
        """Mean over the seen part of each 2 x 2 block: (B * 12, C, n / 2, n / 2)."""
        if not self.masked:
            return F.avg_pool2d(x, 2)
        weights = self.weights.view(_FACES, 1, self.nside, self.nside)
        total = F.avg_pool2d(x * weights.repeat(len(x) // _FACES, 1, 1, 1), 2)
        share = F.avg_pool2d(weights, 2)
        inverse = torch.where(share > 0, 1 / share.clamp(min=torch.finfo(torch.float32).tiny), 0.0)
        return total * inverse.repeat(len(x) // _FACES, 1, 1, 1)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (B, C) over the seen pixels."""
        cells = self.flat(x).float()
        if not self.masked:
            variance, mean = torch.var_mean(cells, 1, correction=0)
            return mean, variance
        mean = self.average(cells)
        return mean, self.average((cells - mean[:, None]) ** 2)

    def average(self, cells: Tensor) -> Tensor:
        """Mean (B, C) over the seen pixels of (B, 12 * n * n, C)."""
        return (self.weights[:, None] * cells).sum(1)  # no matrix product: bfloat16 would do it

    def _neighbours(self, cells: np.ndarray) -> np.ndarray:
        """Cells (n, 8) around `cells` (n,) in healpy's order; -1 where there is none."""
        import healpy

        found = healpy.get_all_neighbours(self.nside, self._order[cells], nest=True).T
        return np.where(found < 0, -1, self._cell_of[found])

    def _halo(self) -> dict[str, np.ndarray]:
        """Cells of the padded faces outside the faces, and what they are filled from."""
        n = self.nside
        face, x, y = np.unravel_index(np.arange(_FACES * n * n), (_FACES, n, n))
        edge = np.flatnonzero((x % n == 0) | (x == n - 1) | (y == 0) | (y == n - 1))
        around = self._neighbours(edge)
        px = x[edge, None] + 1 + _STEPS[:, 0]
        py = y[edge, None] + 1 + _STEPS[:, 1]
        padded = (face[edge, None] * (n + 2) + px) * (n + 2) + py
        outside = (px == 0) | (px == n + 1) | (py == 0) | (py == n + 1)
        cells, first = np.unique(padded[outside & (around >= 0)], return_index=True)
        pixel, step = np.nonzero(outside & (around < 0))
        others = around[pixel][:, _CORNERS]
        weights = (others >= 0) / np.maximum(1, (others >= 0).sum(1, keepdims=True))
        return {
            "halo_cells": cells, "halo_sources": around[outside & (around >= 0)][first],
            "corner_cells": padded[pixel, step], "corner_sources": np.maximum(others, 0),
            "corner_weights": weights.astype(np.float32),
        }  # fmt: skip

    def _rim(self, seen: np.ndarray) -> dict[str, np.ndarray]:
        """Unseen cells that touch seen ones, and the weights of these in their mean."""
        hidden = np.flatnonzero(~seen)
        around = self._neighbours(hidden) if len(hidden) else np.empty((0, 8), dtype=np.int64)
        good = (around >= 0) & seen[around]
        touch = good.any(1)
        weights = good[touch] / good[touch].sum(1, keepdims=True)
        return {
            "rim_cells": hidden[touch], "rim_sources": np.maximum(around[touch], 0),
            "rim_weights": weights.astype(np.float32),
        }  # fmt: skip


def _means(flat: Tensor, sources: Tensor, weights: Tensor) -> Tensor:
    """Weighted means (B, n, C) of cells `sources` (n, k) of `flat` (B, cells, C)."""
    picked = flat.index_select(1, sources.flatten())
    picked = picked.view(len(flat), *sources.shape, flat.shape[2])
    return (picked * weights.to(flat.dtype)[:, :, None]).sum(2)


class _Frame(torch.autograd.Function):
    """Faces (B * 12, n, n, C) in a frame one cell wide: copies, and means at the odd corners.

    Index operations on whole maps would do the same with several times the copies.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, *tables: Tensor) -> Tensor:
        cells, sources, corners, corner_sources, corner_weights = tables
        ctx.save_for_backward(*tables)
        b, n, _, c = x.shape
        out = x.new_zeros(b, n + 2, n + 2, c)
        out[:, 1:-1, 1:-1] = x
        flat, framed = (t.view(b // _FACES, -1, c) for t in (x, out))
        framed.index_copy_(1, cells, flat.index_select(1, sources))
        framed.index_copy_(1, corners, _means(flat, corner_sources, corner_weights))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        cells, sources, corners, corner_sources, corner_weights = ctx.saved_tensors
        b, c = len(g) // _FACES, g.shape[3]
        dx, framed = g[:, 1:-1, 1:-1].contiguous(), g.reshape(b, -1, c)
        flat = dx.view(b, -1, c)
        flat.index_add_(1, sources, framed.index_select(1, cells))
        shares = (
            framed.index_select(1, corners)[:, :, None] * corner_weights.to(g.dtype)[..., None]
        )
        flat.index_add_(1, corner_sources.flatten(), shares.flatten(1, 2))
        return dx, None, None, None, None, None
