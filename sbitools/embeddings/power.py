"""Power in shells and bands of wavenumber, and all that fields say before a network is trained."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .quantiles import N_QUANTILES, cell_quantiles

__all__ = ["SEGMENTS", "LogPower", "SegmentStatistics", "typical_size"]

SEGMENTS = 8
"""Parts of an evolving axis, at most, each with statistics of its own."""

_GROWTH = 1.3  # of the ends of bands of shells


def typical_size(shape: tuple[int, ...]) -> int:
    """Geometric mean of the axes, rounded down: the axis itself for a cube."""
    return int(math.prod(shape) ** (1 / len(shape)) + 1e-6)


def _logs(power: Tensor) -> Tensor:
    return torch.log(power + 1e-8).flatten(1)


def _sizes(one: Tensor, two: Tensor) -> Tensor:
    return ((one + 1e-8) * (two + 1e-8)).sqrt()


class LogPower(nn.Module):
    """Log of the mean power in shells one fundamental wide, up to the Nyquist frequency.

    The fundamental is that of an axis as long as the geometric mean of all. Several maps give
    the power of each, then the correlation coefficient of each pair in every shell. The same of
    bands of shells, single ones up to the seventh and wider ones then.

    Args:
        shape: of one field, without channels.
        maps: number of fields in one simulation.
    """

    bins: Tensor
    counts: Tensor
    bands: Tensor

    def __init__(self, shape: tuple[int, ...], maps: int = 1) -> None:
        super().__init__()
        n = typical_size(shape)
        self.n_bins, self.maps = n // 2, maps
        k2 = torch.zeros(*shape[:-1], shape[-1] // 2 + 1)
        for axis, size in enumerate(shape):
            last = axis == len(shape) - 1
            k = torch.fft.rfftfreq(size) if last else torch.fft.fftfreq(size)
            k2 = k2 + (n * k.view([-1 if a == axis else 1 for a in range(len(shape))])) ** 2
        bins = (k2.sqrt() + 0.5).long().flatten()
        bins[bins > self.n_bins] = 0  # shell 0 holds the mean and the corners; it is dropped
        self.register_buffer("bins", bins, persistent=False)
        counts = torch.bincount(bins, minlength=self.n_bins + 1).float().clamp(min=1)
        self.register_buffer("counts", counts * math.prod(shape), persistent=False)
        self.register_buffer("bands", _bands(counts[1:]), persistent=False)
        self.n_bands = self.bands.shape[1]
        self.axes = len(shape)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, maps, *shape) to (B, pairs n_bands) and (B, pairs n_bins), of all pairs of maps."""
        modes = torch.fft.rfftn(x.float(), dim=tuple(range(2, 2 + self.axes)))
        power = self._shells(modes.real**2 + modes.imag**2)
        if self.maps == 1:
            return _logs(power @ self.bands), _logs(power)
        one, two = torch.triu_indices(self.maps, self.maps, 1, device=x.device)
        a, b = modes[:, one], modes[:, two]
        cross = self._shells(a.real * b.real + a.imag * b.imag)
        return tuple(
            torch.cat([_logs(p), (q / _sizes(p[:, one], p[:, two])).flatten(1)], dim=1)
            for p, q in ((power @ self.bands, cross @ self.bands), (power, cross))
        )  # pyright: ignore[reportReturnType]

    def _shells(self, power: Tensor) -> Tensor:
        """Mean over each shell, (B, C, n_bins)."""
        flat = power.flatten(2)
        rows = flat.flatten(0, 1)
        total = torch.zeros(len(rows), len(self.counts), dtype=flat.dtype, device=flat.device)
        mean = total.index_add(1, self.bins, rows) / self.counts
        return mean[:, 1:].view(*flat.shape[:2], self.n_bins)


def _bands(counts: Tensor) -> Tensor:
    """Weights (shells, bands) of shells in bands, single ones at first and wider ones then."""
    edges = [0]
    while edges[-1] < len(counts):
        edges.append(min(len(counts), max(edges[-1] + 1, int(_GROWTH * edges[-1]))))
    weights = torch.zeros(len(counts), len(edges) - 1)
    for i, (first, last) in enumerate(itertools.pairwise(edges)):
        weights[first:last, i] = counts[first:last] / counts[first:last].sum()
    return weights


class SegmentStatistics(nn.Module):
    """Power and quantiles of equal parts of a field, in their order along an axis that evolves.

    Those of few numbers come first, from which parameters are guessed: power in bands, quantiles.
    Power in shells follows, see `LogPower`.

    Args:
        shape: of one field, without channels.
        maps: number of fields in one simulation.
        axis: that is cut into up to 8 parts; None leaves the field whole.
        periodic: whether each axis closes on itself.
    """

    def __init__(
        self, shape: tuple[int, ...], maps: int, axis: int | None, periodic: Sequence[bool]
    ) -> None:
        super().__init__()
        self.axis, self.periodic = axis, tuple(periodic)
        self.segments = 1 if axis is None else min(SEGMENTS, shape[axis])
        cut = [n // self.segments if a == axis else n for a, n in enumerate(shape)]
        self.power = LogPower(tuple(cut), maps)
        pairs = maps * (maps + 1) // 2
        self.n_few = self.segments * (pairs * self.power.n_bands + maps * N_QUANTILES)
        self.n_features = self.n_few + self.segments * pairs * self.power.n_bins

    def forward(self, x: Tensor) -> Tensor:
        """(B, maps, *shape) to (B, n_features)."""
        parts = [x]
        if self.axis is not None:
            axis = 2 + self.axis
            size = x.shape[axis] // self.segments
            starts = range(0, size * self.segments, size)
            parts = [x.narrow(axis, start, size) for start in starts]
        with torch.autocast(x.device.type, enabled=False):
            bands, shells = zip(*map(self.power, parts), strict=True)
        cells = [cell_quantiles(part, self.periodic) for part in parts]
        return torch.cat([*bands, *cells, *shells], dim=1)
