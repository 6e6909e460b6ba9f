"""A source field as what fields are predicted from: on their grid, of unit size.

Values as they are, or made about normal as fields are (`cells`: of a mask, how deep within it a
cell is), are brought to the grid of the field by the modes that they have. Which of these it is,
the likelihood of held-out fields says (`whitening`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.fft import dct, idct, irfft, rfft

from .cells import cell_map, inner_channels
from .layout import Layout
from .marginal import Marginal

__all__ = ["Source", "features", "refined"]

_FLAT = 1e-9  # spread, in units of the size, of a channel that says nothing


@dataclass(frozen=True)
class Source:
    """A map of source fields (B, *shape) to features (B, F, *space), float64.

    Args:
        layout: of source fields.
        space: cells of the fields that follow from them, along each axis.
        marginals: of each channel.
        points: cells of a coarse source are values at the first of the cells that they stand for,
            not at their middle.
        kept: channels, of all that the marginals make, that are not the same everywhere.
        center: subtracted from these, (F,).
        scale: divides them then.
    """

    layout: Layout
    space: tuple[int, ...]
    marginals: tuple[Marginal, ...]
    points: bool
    kept: tuple[int, ...]
    center: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def candidates(
        cls, source: np.ndarray | None, layout: Layout, space: Sequence[int]
    ) -> list[tuple[Self, np.ndarray]]:
        """What may be made of source fields (n, *shape): maps, and what they make of them.

        Every other simulation is held out.
        """
        if source is None:
            return []
        folded, held = layout.fold(source), np.arange(len(source)) % 2 == 1
        shaped = [cell_map(folded[:, c], held) for c in range(layout.channels)]
        plain = [m.straight(folded[:, c]) for c, m in enumerate(shaped)]
        same = all(m.kind == "none" and not m.zeros for m in shaped)
        coarse = layout.space != tuple(space)
        maps = [
            cls._fit(folded, layout, tuple(space), tuple(way), points)
            for way in ([plain] if same else [plain, shaped])
            for points in ((False, True) if coarse else (False,))
        ]
        return [(m, m(source)) for m in maps]

    @classmethod
    def _fit(
        cls, folded: np.ndarray, layout: Layout, space: tuple[int, ...],
        marginals: tuple[Marginal, ...], points: bool,
    ) -> Self:  # fmt: skip
        inner = np.stack([inner_channels(f, marginals, layout.periodic) for f in folded])
        axes = (0, *range(2, inner.ndim))
        center, scale, size = inner.mean(axes), inner.std(axes), np.abs(inner).max(axes)
        kept = np.flatnonzero(scale > _FLAT * np.maximum(size, 1e-300))
        return cls(
            layout, space, marginals, points, tuple(kept.tolist()), tuple(center[kept].tolist()),
            tuple(scale[kept].tolist()),
        )  # fmt: skip

    @property
    def channels(self) -> int:
        """F."""
        return len(self.kept)

    @property
    def steps(self) -> tuple[int, ...]:
        """Cells of the field for one of the source, along each axis."""
        return tuple(n // m for n, m in zip(self.space, self.layout.space, strict=True))

    def __call__(self, source: np.ndarray) -> np.ndarray:
        """Features of source fields."""
        out = np.empty((len(source), self.channels, *self.space))
        for i, folded in enumerate(self.layout.fold(source)):
            inner = inner_channels(folded, self.marginals, self.layout.periodic)
            for f, (k, center, scale) in enumerate(
                zip(self.kept, self.center, self.scale, strict=True)
            ):
                flat = (inner[k] - center) / scale
                out[i, f] = refined(flat, self.space, self.layout.periodic, self.points)
        return out

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON, but for the two grids."""
        return {
            "marginals": [m.to_dict() for m in self.marginals], "points": self.points,
            "kept": list(self.kept), "center": list(self.center), "scale": list(self.scale),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], layout: Layout, space: Sequence[int]) -> Self:
        """Inverse of `to_dict`."""
        maps = tuple(Marginal.from_dict(m) for m in values["marginals"])
        kept, center, scale = (tuple(values[k]) for k in ("kept", "center", "scale"))
        return cls(layout, tuple(space), maps, values["points"], kept, center, scale)


def features(given: Source | None, source: np.ndarray | None) -> np.ndarray | None:
    """What fields are predicted from; None for fields without a source."""
    return None if given is None or source is None else given(source)


def refined(
    x: np.ndarray, space: Sequence[int], periodic: Sequence[bool], points: bool = False
) -> np.ndarray:
    """A field (*m) on a grid of as many cells or a multiple, with no mode that it does not have.

    Args:
        x: the field.
        space: cells of the finer grid.
        periodic: whether each axis closes on itself.
        points: see `Source`.
    """
    for axis, (n, around) in enumerate(zip(space, periodic, strict=True)):
        m = x.shape[axis]
        if n == m:
            continue
        x = np.moveaxis(x, axis, -1)
        if around:
            x = _around(x, n, points)
        elif points:
            x = _straight(x, n)
        else:  # cosines have their zero of phase at the end of the axis, whatever the cells
            x = idct(dct(x, norm="ortho"), n=n, norm="ortho") * np.sqrt(n / m)  # pyright: ignore
        x = np.moveaxis(x, -1, axis)
    return x


def _around(x: np.ndarray, n: int, points: bool) -> np.ndarray:
    m = x.shape[-1]
    modes = np.asarray(rfft(x))
    if m % 2 == 0:
        modes[..., -1] *= 0.5  # which is both the highest and the lowest frequency
    middle = 0.0 if points else 0.5 / n - 0.5 / m
    modes = modes * np.exp(2j * np.pi * np.arange(modes.shape[-1]) * middle)
    return np.asarray(irfft(modes, n=n)) * (n / m)


def _straight(x: np.ndarray, n: int) -> np.ndarray:
    """Straight lines from point to point, and on as the last one."""
    at = np.arange(n) / (n // x.shape[-1])
    low = np.minimum(at.astype(int), x.shape[-1] - 1)
    high = np.minimum(low + 1, x.shape[-1] - 1)
    return x[..., low] + (at - low) * (x[..., high] - x[..., low])
