"""The linear transform between maps and harmonic coefficients as a chain of matrix products.

First the pixels of each ring: a ring in the north and its mirror image in the south have pixels at
the same azimuths, so that their sum and their difference are transformed by one matrix of cosines
and sines. Orders beyond half the pixels of a ring need no care. Then the rings: harmonics are even
or odd about the equator with l + m, and take the sum or the difference accordingly.

The adjoint is the same products, transposed, in reverse order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .sphere_maps import ring_order
from .wigner import harmonics_of_rings, ring_cosines

__all__ = ["RingTransform"]

_PARTS, _SMALLEST = 6, 12  # parts of the orders of one parity, and the fewest orders of one
_NEGLIGIBLE = 1e-3  # of the rounding error: harmonics of high order vanish on rings near the poles


class RingTransform(nn.Module):
    """Maps (B, F, n_pixels) to coefficients (M, L, 2, F, B) and back by the adjoint.

    M = L = lmax + 1 stand for order and degree, 2 for real and imaginary part; F is 1 for scalar
    maps and 2 for Q, U and E, B.

    Args:
        nside: a power of two.
        lmax: largest degree.
        ordering: of the pixels, ``"ring"`` or ``"nested"``.
        dtype: of the tables.
    """

    north: Tensor
    south: Tensor
    back: Tensor

    def __init__(self, nside: int, lmax: int, ordering: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.nside, self.n_orders = nside, lmax + 1
        order = torch.from_numpy(ring_order(nside, ordering))
        ring = _mirrored_rings(nside)
        north, south = (order[torch.from_numpy(pixels)] for pixels in ring)
        self.register_buffer("north", north, persistent=False)
        self.register_buffer("south", south, persistent=False)
        back = torch.argsort(torch.cat([north, south]))
        self.register_buffer("back", back, persistent=False)
        self.fourier = _Tables(_fourier(nside, lmax, dtype))
        self.scalar = _blocks(nside, lmax, 0, dtype)
        self.polarised = _blocks(nside, lmax, 2, dtype)

    def forward(self, maps: Tensor) -> Tensor:
        """Coefficients, differentiable; see the class."""
        return _Linear.apply(maps, self, False)  # pyright: ignore[reportReturnType]

    def analyse(self, maps: Tensor) -> Tensor:
        """Maps (B, F, n_pixels) to coefficients (M, L, 2, F, B)."""
        n_maps, n_fields, _ = maps.shape
        columns = maps.transpose(0, 1).reshape(n_fields * n_maps, -1)
        rings = self._azimuths(self._fold(columns))
        shape = (self.n_orders, self.n_orders, 2 * n_fields * n_maps)
        out = maps.new_zeros(shape)
        for block in self._blocks(n_fields):
            block.analyse(rings, out, n_fields)
        return out.view(*shape[:2], 2, n_fields, n_maps)

    def adjoint(self, coefficients: Tensor) -> Tensor:
        """The transpose of `analyse`: (M, L, 2, F, B) to (B, F, n_pixels)."""
        n_fields, n_maps = coefficients.shape[3:]
        flat = coefficients.reshape(self.n_orders, self.n_orders, -1)
        rings = flat.new_zeros(2 * self.nside, 2, self.n_orders, flat.shape[2])
        for block in self._blocks(n_fields):
            block.adjoint(flat, rings, n_fields)
        columns = self._unfold(self._pixels(rings))
        return columns.view(n_fields, n_maps, -1).transpose(0, 1)

    def _blocks(self, n_fields: int) -> Any:
        return self.scalar if n_fields == 1 else self.polarised

    def _fold(self, columns: Tensor) -> Tensor:
        """Sum and difference (2, K, half) of north and south; the equator is its own image."""
        north, south = columns.index_select(1, self.north), columns.index_select(1, self.south)
        paired, out = south.shape[1], columns.new_zeros(2, *north.shape)
        torch.add(north[:, :paired], south, out=out[0, :, :paired])
        torch.sub(north[:, :paired], south, out=out[1, :, :paired])
        out[0, :, paired:] = north[:, paired:]
        return out

    def _unfold(self, folded: Tensor) -> Tensor:
        """The transpose of `_fold`."""
        paired = len(self.south)
        even, odd = folded[0], folded[1, :, :paired]
        pixels = torch.cat([even, even[:, :paired] - odd], 1)
        pixels[:, :paired] += odd
        return pixels.index_select(1, self.back)

    def _rings(self) -> Iterator[tuple[int, slice, Tensor]]:
        """Number, pixels in the half sphere, and matrix (2 M, pixels) of each ring."""
        start, tables = 0, self.fourier.tables()
        for ring in range(2 * self.nside):
            table = tables[min(ring, self.nside - 1 + (ring - self.nside + 1) % 2)]
            yield ring, slice(start, start + table.shape[1]), table
            start += table.shape[1]

    def _azimuths(self, folded: Tensor) -> Tensor:
        """(2, K, half) to (R, 2, M, 2 K): sums over the pixels of each ring."""
        _, columns, _ = folded.shape
        out = folded.new_empty(2 * self.nside, 2, 2 * self.n_orders, columns)
        for ring, pixels, table in self._rings():
            torch.matmul(table, folded[:, :, pixels].transpose(1, 2), out=out[ring])
        return out.view(2 * self.nside, 2, self.n_orders, 2 * columns)

    def _pixels(self, rings: Tensor) -> Tensor:
        """The transpose of `_azimuths`."""
        columns = rings.shape[3] // 2
        rows = rings.view(2 * self.nside, 2, 2 * self.n_orders, columns)
        out = rings.new_empty(2, columns, len(self.north))
        for ring, pixels, table in self._rings():
            out[:, :, pixels] = torch.matmul(rows[ring].transpose(1, 2), table)
        return out


class _Tables(nn.Module):
    """Constant tensors that move with the module and are not saved."""

    def __init__(self, tables: list[Tensor]) -> None:
        super().__init__()
        for i, table in enumerate(tables):
            self.register_buffer(str(i), table, persistent=False)

    def tables(self) -> list[Tensor]:
        """In the order in which they were given."""
        return list(self.buffers())


class _Block(_Tables):
    """Harmonics of some orders m of one parity and all degrees l of one parity.

    Spin 0 has one table, Y; spin 2 has -(2Y + -2Y) / 2 and (2Y - -2Y) / 2, which are of opposite
    symmetry about the equator. E = -int (W Q + i X U), B = -int (W U - i X Q).
    """

    def __init__(
        self, tables: list[Tensor], orders: slice, degrees: slice, rings: slice, odd: bool
    ) -> None:
        super().__init__(tables)
        self.orders, self.degrees, self.rings, self.odd = orders, degrees, rings, int(odd)

    def analyse(self, rings: Tensor, out: Tensor, n_fields: int) -> None:
        """Write this block's coefficients into `out` (M, L, 2 K), from rings (R, 2, M, 2 K)."""
        tables = self.tables()
        part = torch.bmm(tables[0], self._select(rings, self.odd))
        if n_fields == 2:
            part += _turn(torch.bmm(tables[1], self._select(rings, 1 - self.odd)))
        out[self.orders, self.degrees] = part

    def adjoint(self, coefficients: Tensor, rings: Tensor, n_fields: int) -> None:
        """The transpose: add to `rings`."""
        tables, part = self.tables(), coefficients[self.orders, self.degrees]
        self._select(rings, self.odd).add_(torch.bmm(tables[0].transpose(1, 2), part))
        if n_fields == 2:
            turned = torch.bmm(tables[1].transpose(1, 2), _turn(part))
            self._select(rings, 1 - self.odd).add_(turned)

    def _select(self, rings: Tensor, odd: int) -> Tensor:
        """Orders and rings of this block, (m, r, columns), a view."""
        return rings[self.rings, odd, self.orders].transpose(0, 1)


def _turn(part: Tensor) -> Tensor:
    """(Q, U) to (-i U, i Q); its own adjoint. Columns are (re/im, Q/U, maps)."""
    parts = part.view(*part.shape[:2], 2, 2, -1).flip(2, 3)
    sign = part.new_tensor([[1.0, -1.0], [-1.0, 1.0]])
    return (parts * sign[:, :, None]).view(part.shape)


class _Linear(torch.autograd.Function):
    """A linear map whose backward is its adjoint, whose backward is the map again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, transform: RingTransform, adjoint: bool) -> Tensor:
        ctx.transform, ctx.adjoint = transform, adjoint
        return transform.adjoint(x) if adjoint else transform.analyse(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Linear.apply(g, ctx.transform, not ctx.adjoint), None, None


def _mirrored_rings(nside: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, in ring order, of the rings to the equator, and of their images but the equator."""
    counts = 4 * np.minimum(np.arange(1, 2 * nside + 1), nside)
    starts = np.cumsum(counts) - counts
    ends = 12 * nside**2 - starts
    north = np.arange(starts[-1] + counts[-1])
    south = [np.arange(end - n, end) for end, n in zip(ends[:-1], counts[:-1], strict=True)]
    return north, np.concatenate(south)


def _fourier(nside: int, lmax: int, dtype: torch.dtype) -> list[Tensor]:
    """Matrices (M x 2, pixels) of cos(m phi), -sin(m phi): one per cap ring, two for the belt.

    The first pixel of a ring is half a pixel east of phi = 0, but on every second belt ring.
    """
    m, tables = np.arange(lmax + 1)[:, None], []
    for ring in range(1, nside + 2):
        n, shift = 4 * min(ring, nside), int(ring <= nside)
        phi = math.pi / n * (m * (2 * np.arange(n) + shift) % (2 * n))
        table = np.stack([np.cos(phi), -np.sin(phi)], axis=1).reshape(-1, n)
        tables.append(torch.from_numpy(table).to(dtype))
    return tables


def _blocks(nside: int, lmax: int, spin: int, dtype: torch.dtype) -> nn.ModuleList:
    """All blocks of a spin, pixel area included."""
    cosines = ring_cosines(nside)
    area = math.pi / (3 * nside**2)
    plus = area * harmonics_of_rings(cosines, lmax, spin)
    if spin:
        minus = area * harmonics_of_rings(cosines, lmax, -spin)
        harmonics = [-(plus + minus) / 2, (plus - minus) / 2]
    else:
        harmonics = [plus]
    step = 2 * max(_SMALLEST, math.ceil((lmax + 1) / (2 * _PARTS)))
    return nn.ModuleList(
        _block(harmonics, slice(first, min(start + step, lmax + 1), 2), degree, dtype)
        for start in range(0, lmax + 1, step) for first in (start, start + 1) if first <= lmax
        for degree in (first, first + 1) if degree <= lmax
    )  # fmt: skip


def _block(harmonics: list[np.ndarray], orders: slice, degree: int, dtype: torch.dtype) -> _Block:
    degrees = slice(degree, None, 2)
    tables = [table[orders, degrees] for table in harmonics]
    size = np.max([np.abs(table).max((0, 1)) for table in tables], 0)
    matters = size > _NEGLIGIBLE * torch.finfo(dtype).eps * size.max()
    rings = slice(int(np.argmax(matters)), None)
    ready = [torch.from_numpy(table[:, :, rings].copy()).to(dtype) for table in tables]
    return _Block(ready, orders, degrees, rings, odd=bool((degree + orders.start) % 2))
