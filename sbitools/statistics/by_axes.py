"""What is measured of a field, chosen from what its axes are.

- One to three axes of space, or more: power spectra of the channels and correlation coefficients
  of their pairs (`grid_spectra`), and scattering coefficients of small periodic squares and cubes.
- Pixels of a HEALPix map: C_l of every map as a scalar.
- No space, or one short axis alone: the entries themselves, of which mean, scatter and correlation
  say all that a spectrum would.
- Always: the distribution of values.

Values are measured in units of the scatter of cells in a sample, so that the unit of a field does
not matter; float64 throughout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import numpy as np

from sbitools.axes import HEALPIX, SPACE
from sbitools.simulator import FieldSpec

from .grid_spectra import GridSpectra, widening_edges
from .scattering import FINEST, scattering_2d, scattering_3d
from .sphere_maps import ring_order

__all__ = ["BLANK", "AxesPlan", "ByAxes", "chosen", "plan_axes"]

SHORT = 64  # cells: one axis of at most so many is a vector
_CHANNELS, _ENTRIES, _PAIRS = 8, 512, 15  # measured at most
_SCATTERING_CELLS = 2**15  # larger fields would take longer to measure than to emulate
_LEVELS = np.concatenate([[0.0005, 0.002, 0.005], np.linspace(0.01, 0.99, 41),
                          [0.995, 0.998, 0.9995]])  # fmt: skip
BLANK = 1e-12
"""Variance and power, in units of the scatter of cells, that count as none."""
_UNSEEN = np.float32(-1.6375e30)  # healpy's mark of pixels without a value


def chosen(n: int, most: int) -> np.ndarray:
    """At most `most` of n numbers, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int))


@dataclass(frozen=True)
class AxesPlan:
    """How a field is cut into channels of cells.

    Attributes:
        kind: of what is measured.
        space: numbers of the axes of space or pixels, in the order of the field.
        shape: of one channel; of a vector, the number of its entries.
        periodic: for each of the axes of space.
        channels: numbers of those that are measured, of a field of `n_channels`.
        ordering: of pixels.
    """

    kind: Literal["grid", "sphere", "vector"]
    space: tuple[int, ...]
    shape: tuple[int, ...]
    periodic: tuple[bool, ...]
    channels: np.ndarray
    n_channels: int
    ordering: str = ""

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Channels whose correlation is measured: all pairs, or neighbours where they are many."""
        n = len(self.channels)
        every = list(combinations(range(n), 2))
        return every if len(every) <= _PAIRS else [(i, i + 1) for i in range(n - 1)]

    def cut(self, x: np.ndarray) -> np.ndarray:
        """Fields (B, *shape) as float64 channels (B, n_channels measured, *space)."""
        x = np.asarray(x)
        x = np.stack([np.real(x), np.imag(x)], 1) if np.iscomplexobj(x) else x[:, None]
        rest = [i + 2 for i in range(x.ndim - 2) if i not in self.space]
        x = x.transpose(0, 1, *rest, *(i + 2 for i in self.space))
        x = x.reshape(len(x), self.n_channels, *self.shape)
        return x[:, self.channels].astype(np.float64)


def plan_axes(spec: FieldSpec) -> AxesPlan:
    """What is measured of fields of this specification."""
    parts = 2 if spec.dtype == "complex64" else 1
    size = parts * math.prod(spec.shape)
    sphere = [i for i, kind in enumerate(spec.kinds) if kind == "healpix"]
    if len(sphere) == 1 and spec.shape[sphere[0]] > SHORT and _is_map(spec.shape[sphere[0]]):
        n = spec.shape[sphere[0]]
        channels = chosen(size // n, _CHANNELS)
        ordering = HEALPIX.get(spec.dims[sphere[0]]) or "ring"
        return AxesPlan("sphere", tuple(sphere), (n,), (), channels, size // n, ordering)
    space = tuple(i for i in spec.space if spec.shape[i] > 1)
    if not space or (len(space) == 1 and parts * math.prod(spec.shape) <= SHORT):
        # Each entry is a channel of one cell.
        return AxesPlan("vector", (), (), (), chosen(size, _ENTRIES), size)
    shape = tuple(spec.shape[i] for i in space)
    n = size // math.prod(shape)
    periodic = tuple(spec.kinds[i] == SPACE[0] for i in space)
    return AxesPlan("grid", space, shape, periodic, chosen(n, _CHANNELS), n)


def _is_map(n: int) -> bool:
    nside = math.isqrt(n // 12)
    return 12 * nside**2 == n and nside & (nside - 1) == 0


@dataclass
class ByAxes:
    """The statistics of fields of one kind.

    Args:
        plan: from `plan_axes`.
        sample: cells of reference fields by channel, (n_channels measured, n): what values are
            measured in units of, and where the distribution is read.
    """

    plan: AxesPlan
    sample: np.ndarray
    x: np.ndarray = field(init=False)
    centre: np.ndarray = field(init=False)
    scale: np.ndarray = field(init=False)
    edges: list[np.ndarray] = field(init=False)
    logarithmic: bool = field(init=False)

    def __post_init__(self) -> None:
        self.least = self.sample.min(1)
        self.logarithmic = self.plan.kind == "vector" and _spans(self.sample)
        sample = np.log(self.sample) if self.logarithmic else self.sample
        cells = [row[_seen(row)] if _seen(row).any() else row[:1] for row in sample]
        # Of the largest number first, so that no square overflows.
        largest = np.array([np.abs(row).max() or 1.0 for row in cells])
        self.centre = np.array([np.median(row) for row in cells])
        spread = np.array([float((r / s).std()) * s for r, s in zip(cells, largest, strict=True)])
        self.scale = np.where(spread > 1e-12 * largest, spread, largest)
        levels = [(row - c) / s for row, c, s in zip(cells, self.centre, self.scale, strict=True)]
        levels = [np.concatenate(levels)] if self.plan.kind == "vector" else levels
        self.edges = [_edges(row) for row in levels]
        if self.plan.kind == "grid":
            self._grid = GridSpectra(self.plan.shape, self.plan.periodic)
            self.x = self._grid.frequency
        elif self.plan.kind == "sphere":
            self.lmax = 2 * math.isqrt(self.plan.shape[0] // 12)
            self._limits = widening_edges(0.5, self.lmax + 0.5, 1.0, 1.2)
            self.x = self._mean_l(np.arange(self.lmax + 1.0))
        else:
            self.x = self.plan.channels + 1.0

    def __call__(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Statistics by name, each with the batch first.

        Args:
            x: fields, (B, *shape).

        Returns:
            Of vectors: ``"entries"`` (B, n), and ``"cdf"`` (B, 1, n_levels), the share of entries
            below each level; of positive ones that theta moves by large factors, of their
            logarithms. Of others: ``"power"``, ln P (B, C, n_bins), ``"cross"``, the
            correlation coefficients (B, n_pairs, n_bins), ``"mean"`` and ``"variance"``, its
            logarithm, (B, C), ``"cdf"`` (B, C, n_levels), and ``"scattering"`` (B, C, n) where
            there is one. All of values from which the centre is taken and which are divided by
            the scale.
        """
        cells = self.standard(x)
        flat = cells.reshape(*cells.shape[:2], -1)
        if self.plan.kind == "vector":
            return {"entries": flat[..., 0], "cdf": self._shares(flat.reshape(len(flat), 1, -1))}
        pairs, n = self.plan.pairs, len(self.plan.channels)
        measured = self._grid if self.plan.kind == "grid" else self._sphere
        spectra = measured(cells, pairs)
        power = np.maximum(spectra[:, :n], BLANK)
        out = {"power": np.log(power), "mean": flat.mean(2), "cdf": self._shares(flat),
               "variance": np.log(np.maximum(flat.var(2), BLANK))}  # fmt: skip
        if pairs:
            first, second = np.array(pairs).T
            out["cross"] = spectra[:, n:] / np.sqrt(power[:, first] * power[:, second])
        if self._scatters():
            out["scattering"] = self._scattering(cells)
        return out

    def standard(self, x: np.ndarray) -> np.ndarray:
        """Fields (B, *shape) without the centre, over the scale: (B, n_channels, *space)."""
        cells = self.plan.cut(x)
        if self.logarithmic:  # an emulator may fall below zero: that is far off, and finite
            cells = np.log(np.maximum(cells, 1e-3 * self.least))
        shape = (-1, *[1] * len(self.plan.shape))
        missing = ~_seen(cells) if self.plan.kind == "sphere" else None
        cells -= self.centre.reshape(shape)
        cells /= self.scale.reshape(shape)
        if missing is not None:
            cells[missing] = 0.0
        return cells

    def _shares(self, flat: np.ndarray) -> np.ndarray:
        """Share of values below each level, (B, C, n_levels); levels beyond the last are 1."""
        out = np.ones((*flat.shape[:2], max(map(len, self.edges))))
        for c, edges in enumerate(self.edges):
            for b, values in enumerate(flat[:, c]):
                counts = np.bincount(np.searchsorted(edges, values, "right"),
                                     minlength=len(edges) + 1)  # fmt: skip
                out[b, c, : len(edges)] = counts.cumsum()[:-1] / values.size
        return out

    def _scatters(self) -> bool:
        plan, shape = self.plan, self.plan.shape
        equal = plan.kind == "grid" and len(shape) in (2, 3) and len(set(shape)) == 1
        small = shape[0] >= 8 and math.prod(shape) <= _SCATTERING_CELLS if shape else False
        return equal and small and all(plan.periodic)

    def _scattering(self, cells: np.ndarray) -> np.ndarray:
        shape, measured = self.plan.shape, scattering_2d if cells.ndim == 4 else scattering_3d
        cells = cells[:, :2]  # it takes longer than all else together
        n_scales = min(4, math.floor(math.log2(FINEST * shape[0])) + 1)
        found = measured(cells.reshape(-1, *shape), n_scales, floor=BLANK**0.5)
        return found.reshape(*cells.shape[:2], -1)

    def _sphere(self, cells: np.ndarray, pairs: list[tuple[int, int]]) -> np.ndarray:
        """C_l of channels and pairs, (B, C + n_pairs, n_bins)."""
        import healpy

        nside = math.isqrt(self.plan.shape[0] // 12)
        cells = cells[..., ring_order(nside, self.plan.ordering)]
        out = []
        for maps in cells:
            alm = [healpy.map2alm(m - m.mean(), lmax=self.lmax, iter=0, pol=False) for m in maps]
            both = [(i, i) for i in range(len(alm))] + pairs
            out.append([self._mean_l(healpy.alm2cl(alm[a], alm[b])) for a, b in both])
        return np.array(out)

    def _mean_l(self, values: np.ndarray) -> np.ndarray:
        """Means over the multipoles of each bin."""
        degree = np.arange(len(values))
        index = np.digitize(degree, self._limits) - 1
        weight = np.where(index < 0, 0, 2 * degree + 1)
        index = np.maximum(index, 0)
        total = np.bincount(index, weight * values, len(self._limits) - 1)
        return total / np.bincount(index, weight, len(self._limits) - 1)


def _spans(sample: np.ndarray) -> bool:
    """Whether entries (n_entries, n) are positive and most change by factors of three."""
    if sample.min() <= 0:
        return False
    low, high = np.quantile(sample, [0.05, 0.95], axis=1)
    return bool(np.median(high / low) > 3)


def _edges(values: np.ndarray) -> np.ndarray:
    """Where shares are read: between values that are few, at quantiles of others."""
    few = np.unique(values[:4096])
    few = np.unique(values) if len(few) <= len(_LEVELS) else few
    if 1 < len(few) <= len(_LEVELS):
        ends = 1.5 * few[:2] - 0.5 * few[1::-1], 1.5 * few[-2:] - 0.5 * few[:-3:-1]
        return np.concatenate([ends[0][:1], (few[1:] + few[:-1]) / 2, ends[1][1:]])
    return np.unique(np.quantile(values, _LEVELS))


def _seen(cells: np.ndarray) -> np.ndarray:
    return ~np.isclose(cells, _UNSEEN, rtol=1e-6, atol=0)
