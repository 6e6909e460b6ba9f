"""Scattering covariances of maps on the sphere, as Gram matrices.

At every level j and orientation g the columns A are the filtered fields I * psi and the filtered
moduli |I * psi_l2| * psi of this level and all finer ones. One Hermitian matrix <A^H A> then
holds S2 (fields with fields), S3 (fields with moduli) and S4 (moduli with moduli) of all maps and
of all their pairs (Cheng et al. 2023, arXiv:2306.17210, eq. 8 to 11; Campeti et al. 2025,
arXiv:2503.11643). Maps are real or complex; what differs is in `turns`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from emulators.parallel import for_each
from sbitools.errors import ConfigError, ShapeError

from . import kernels
from .filters import Frame, build_levels
from .layout import layout
from .turns import build_turns, times_i

__all__ = ["ScatteringCovariance", "Statistics"]

# healpy.UNSEEN is -1.6375e30: nothing that is measured comes near.
_UNSEEN = 1e29


@dataclass(frozen=True)
class Statistics:
    """Statistics of B maps of C components in R regions, L orientations.

    A Gram matrix is packed into a real one: real parts above and on the diagonal, imaginary parts
    below, at [k', k] that of <conj(A_k) A_k'>.

    A complex field z is two components. They are its real and imaginary part in the means and
    squares; z * psi and conj(z * conj(psi)) in the rest: orientation g and, conjugated, g + L.

    Attributes:
        means: (B, R, C), in the maps' unit.
        squares: (B, R, C, C), mean products of the components.
        moduli: S1 of every level, (B, R, L, C).
        gram: of every level, (B, R, L, K, K).
    """

    means: Tensor
    squares: Tensor
    moduli: list[Tensor]
    gram: list[Tensor]


class ScatteringCovariance:
    """Scattering covariances of maps, and their gradient, in the memory of one map.

    Args:
        nside: of the maps, a power of two.
        fields: maps that belong together, such as 2 for Q and U.
        levels: dyadic scales J; None goes down to Nside 2.
        orientations: L, angles g pi / L.
        frame: what the orientations are measured from.
        regions: weights (R, 12 nside^2), nested, not negative; None is the whole sky.
        dtype: float32 or float64; complex maps consist of two such numbers.
        spin: None if maps are real; of complex maps 0 if their values are scalars, 2 if they are
            Q + i U against the meridians, as in healpy.

    Raises:
        ConfigError: if nside, levels or orientations do not fit, or a region is empty.
    """

    def __init__(
        self, nside: int, fields: int = 1, levels: int | None = None, orientations: int = 4,
        frame: Frame | None = None, regions: Tensor | None = None,
        dtype: torch.dtype = torch.float32, spin: int | None = None,
    ) -> None:  # fmt: skip
        self.nside, self.fields, self.orientations, self.spin = nside, fields, orientations, spin
        self.components = fields if spin is None else 2 * fields  # real numbers of a pixel
        self._complex = 0 if spin is None else self.components  # first rows that are complex
        self.levels = max(1, nside.bit_length() - 1) if levels is None else levels
        _check_sizes(nside, fields, self.levels, orientations, dtype, spin)
        self.dtype = dtype
        name = str(dtype).removeprefix("torch.")
        frame = frame or Frame()
        tables = build_levels(nside, self.levels, orientations, frame, name)
        self._layouts = [layout(nside >> j) for j in range(self.levels)]
        shifts = [tuple(grid.shifts.tolist()) for grid in self._layouts]
        weights = [f.weights.reshape(-1, *f.weights.shape[2:]) for f in tables]
        turns = self._turns(orientations, frame, name)
        # What the kernels filter and smooth a level with: weights (F, 9, cells), distances, turns.
        self._filters = list(zip(weights, shifts, [t[0] for t in turns], strict=True))
        self._smoothers = [(f.smoother[None], s) for f, s in zip(tables, shifts, strict=True)]
        self._turning = [[(w[None], s) for w in t[1]] for t, s in zip(turns, shifts, strict=True)]
        self._masks = self._region_weights(regions, name)
        self.n_regions = len(self._masks[0])
        self.block_sizes = self._block_sizes()
        self.size = sum(self.block_sizes) * self.n_regions

    def rows(self, level: int) -> int:
        """Fields and moduli that are filtered at a level."""
        return self.components * (1 + self.orientations * (level + 1))

    def modulus_row(self, level: Any, orientation: Any, field: Any) -> Any:
        """Row and column, in the Gram matrices, of a modulus; fields have the first ones.

        A complex field c is 2 c, and 2 c + 1 at the opposite orientations.
        """
        return self.components * (1 + self.orientations * level + orientation) + field

    def __call__(self, x: Tensor) -> Tensor:
        """Statistics (B, size), real, of maps (B, fields, 12 nside^2) in nested order.

        Raises:
            ShapeError: for another shape or dtype, or values that are not finite.
        """
        dtype = self.dtype if self.spin is None else self.dtype.to_complex()
        _check_maps(x, (self.fields, 12 * self.nside**2), dtype)
        if self.spin is not None:
            x = torch.stack([x.real, x.imag], 2).flatten(1, 2)
        return _Statistics.apply(x, self)  # pyright: ignore[reportReturnType]

    def split(self, s: Tensor) -> Statistics:
        """The parts of statistics (B, size)."""
        b, r, c, g = len(s), self.n_regions, self.components, self.orientations
        parts = list(s.view(b, r, -1).split(self.block_sizes, 2))
        moduli, gram = [], []
        for j in range(self.levels):
            k = self.rows(j)
            moduli.append(parts[2 + 2 * j].reshape(b, r, g, c))
            gram.append(parts[3 + 2 * j].reshape(b, r, g, k, k))
        return Statistics(parts[0], parts[1].reshape(b, r, c, c), moduli, gram)

    def effective_pixels(self) -> Tensor:
        """(sum w)^2 / sum w^2 of every region, (R,)."""
        return torch.from_numpy(1 / (self._masks[0][:, self._layouts[0].inside] ** 2).sum(1))

    def _block_sizes(self) -> list[int]:
        sizes = [self.components, self.components**2]
        for j in range(self.levels):
            sizes += [self.orientations * self.components, self.orientations * self.rows(j) ** 2]
        return sizes

    def _region_weights(self, regions: Tensor | None, dtype: str) -> list[np.ndarray]:
        """Weights of every level, of sum 1: (R, cells)."""
        pixels = 12 * self.nside**2
        weights = np.ones((1, pixels)) if regions is None else _check_regions(regions, pixels)
        out = []
        for grid in self._layouts:
            cells = np.zeros((len(weights), grid.cells), dtype)
            cells[:, grid.inside] = weights / weights.sum(1, keepdims=True)
            out.append(cells)
            weights = weights.reshape(len(weights), -1, 4).sum(2) if grid.nside > 1 else weights
        return out

    def _turns(self, orientations: int, frame: Frame, dtype: str) -> Any:
        """For every level what complex fields are turned with, to filter and to smooth."""
        if self.spin is None:
            return [(None, ())] * self.levels
        return build_turns(self.nside, self.levels, orientations, frame, dtype, self.spin)

    def _coarsen_fields(self, j: int, x: np.ndarray, out: np.ndarray) -> None:
        """Complex fields of level j (C, cells), smoothed and averaged, to those of the next."""
        for smoother, z in zip(self._turning[j], (x, times_i(x)), strict=True):
            part = np.zeros_like(out)
            kernels.coarsen(z, *smoother, self._layouts[j].nside, part)
            out += part

    def _refine_fields(self, j: int, gradient: np.ndarray, out: np.ndarray) -> None:
        """Adjoint of `_coarsen_fields`: adds to `out`."""
        for smoother, z in zip(self._turning[j], (gradient, -times_i(gradient)), strict=True):
            kernels.refine(z, *smoother, self._layouts[j].nside, out)

    def _rows(self, x: np.ndarray, pieces: list[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
        """What every level filters, of one map (C, pixels); means of the moduli into `pieces`."""
        kept: list[np.ndarray] = []
        for j, grid in enumerate(self._layouts):
            rows = np.zeros((self.rows(j), grid.cells), x.dtype)
            known = self.rows(j) - self.components * self.orientations
            if j == 0:
                rows[: self.components, grid.inside] = x
            else:
                fine, c = kept[-1], self._complex
                kernels.coarsen(fine[c:], *self._smoothers[j - 1], 2 * grid.nside, rows[c:])
                if c:
                    self._coarsen_fields(j - 1, fine[:c], rows[:c])
            kernels.moduli(
                rows, self.components, known, *self._filters[j], grid.halo, grid.source,
                self._masks[j], grid.nside, pieces[1 + j][0],
            )  # fmt: skip
            kept.append(rows)
        return kept

    def _forward(self, x: np.ndarray) -> np.ndarray:
        """Statistics (size,) of one map (C, pixels)."""
        out = np.zeros((self.n_regions, sum(self.block_sizes)), x.dtype)
        pieces = self._pieces(out)
        weights = self._masks[0][:, self._layouts[0].inside]
        pieces[0][0][:] = weights @ x.T
        pieces[0][1][:] = np.einsum("rp,ap,bp->rab", weights, x, x)
        for j, rows in enumerate(self._rows(x, pieces)):
            kernels.products(
                rows, self.components, *self._filters[j], self._masks[j], self._layouts[j].nside,
                pieces[1 + j][1],
            )  # fmt: skip
        return out.reshape(-1)

    def _backward(self, x: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """Gradient (C, pixels) of one map for the gradient (size,) of its statistics."""
        slopes = slope.reshape(self.n_regions, -1)
        kept = self._rows(x, self._pieces(np.zeros_like(slopes)))
        pieces = self._pieces(slopes)
        finer: list[np.ndarray] = []
        c = self._complex
        for j in reversed(range(self.levels)):
            grid = self._layouts[j]
            up = np.zeros_like(kept[j])
            for gradient in finer:
                kernels.refine(gradient[c:], *self._smoothers[j], grid.nside, up[c:])
                if c:
                    self._refine_fields(j, gradient[:c], up[:c])
            known = self.rows(j) - self.components * self.orientations
            kernels.backward(
                kept[j], self.components, known, *self._filters[j], grid.halo, grid.source,
                self._masks[j], grid.nside, *pieces[1 + j], up,
            )  # fmt: skip
            finer = [up[:known]]
        inside = self._layouts[0].inside
        weights = self._masks[0][:, inside]
        out = finer[0][: self.components, inside] + pieces[0][0].T @ weights
        square = pieces[0][1] + pieces[0][1].transpose(0, 2, 1)
        return out + np.einsum("rp,rab,bp->ap", weights, square, x)

    def _pieces(self, values: np.ndarray) -> list[tuple[np.ndarray, ...]]:
        """Views of the blocks of (R, sum of sizes), contiguous per region."""
        r, c, g = self.n_regions, self.components, self.orientations
        at, out = 0, []
        for size in self.block_sizes:
            out.append(values[:, at : at + size])
            at += size
        views: list[tuple[np.ndarray, ...]] = [(out[0], out[1].reshape(r, c, c))]
        for j in range(self.levels):
            k = self.rows(j)
            views.append((out[2 + 2 * j].reshape(r, g, c), out[3 + 2 * j].reshape(r, g, k, k)))
        return views


class _Statistics(torch.autograd.Function):
    """Forward keeps the maps alone; backward makes the levels of one map after the other again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, transform: ScatteringCovariance) -> Tensor:
        ctx.transform = transform
        ctx.save_for_backward(x)
        maps = x.detach().cpu().numpy()
        out = np.empty((len(maps), transform.size), maps.dtype)

        def one(i: int) -> None:
            out[i] = transform._forward(maps[i])

        for_each(one, len(maps))
        return torch.from_numpy(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors
        transform: ScatteringCovariance = ctx.transform
        maps, slopes = x.detach().cpu().numpy(), slope.contiguous().numpy()
        out = np.empty(maps.shape, maps.dtype)

        def one(i: int) -> None:
            out[i] = transform._backward(maps[i], slopes[i])

        for_each(one, len(maps))
        return torch.from_numpy(out), None


def _check_sizes(
    nside: int, fields: int, levels: int, orientations: int, dtype: Any, spin: Any
) -> None:
    power = nside > 0 and nside & (nside - 1) == 0
    if not power or dtype not in (torch.float32, torch.float64):
        raise ConfigError(
            "scattering covariance", expected="Nside a power of two, dtype float32 or float64",
            got=f"Nside {nside}, {dtype}", fix="healpy.ud_grade the maps, or convert them",
        )  # fmt: skip
    if not (1 <= levels <= nside.bit_length() and orientations >= 1 and fields >= 1):
        raise ConfigError(
            "scattering covariance",
            expected=f"1 to {nside.bit_length()} levels at Nside {nside}, and at least one "
            "orientation and field",
            got=f"{levels} levels, {orientations} orientations, {fields} fields",
            fix="leave levels out to go down to Nside 2",
        )

    if spin is not None and not isinstance(spin, int):
        raise ConfigError(
            "scattering covariance", expected="spin None, or an integer for complex maps",
            got=f"{spin!r}", fix="give 2 for Q + i U, 0 for scalars",
        )  # fmt: skip


def _check_regions(regions: Tensor, pixels: int) -> np.ndarray:
    weights = np.asarray(regions, dtype=float)
    fits = weights.ndim == 2 and weights.shape[1] == pixels
    if not fits or not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ConfigError(
            "regions of the scattering covariance",
            expected=f"finite weights >= 0 of shape (regions, {pixels}) in nested order",
            got=f"shape {weights.shape}", fix="give 0 where a pixel does not count",
        )  # fmt: skip
    if not (weights.sum(1) > 0).all():
        raise ConfigError(
            "regions of the scattering covariance", expected="a pixel of weight > 0 in each",
            got=f"nothing in region {int(np.argmin(weights.sum(1)))}", fix="leave it out",
        )  # fmt: skip
    return weights


def _check_maps(x: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> None:
    if x.dim() != 3 or tuple(x.shape[1:]) != shape or x.dtype != dtype:
        raise ShapeError(
            "maps of the scattering covariance", expected=f"{dtype}, shape (batch, {shape[0]}, "
            f"{shape[1]}) in nested order", got=f"{x.dtype}, shape {tuple(x.shape)}",
            fix="put the batch axis first, then the fields; healpy.reorder RING maps",
        )  # fmt: skip
    values = torch.view_as_real(x.detach().resolve_conj()) if x.is_complex() else x.detach()
    low, high = torch.aminmax(values) if x.numel() else (0, 0)  # NaN if there is one
    if not (low > -_UNSEEN and high < _UNSEEN):
        raise ShapeError(
            "maps of the scattering covariance", expected="no NaN, infinity or healpy.UNSEEN",
            got="such values", fix="set masked pixels to 0 and give them weight 0 in `regions`",
        )  # fmt: skip
