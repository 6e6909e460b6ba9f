"""Log power in shells of wavenumber: networks learn it slowly, fields say much by it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["SEGMENTS", "LogPower", "SegmentPower", "typical_size"]

SEGMENTS = 8
"""Parts of an evolving axis, at most, each with statistics of its own."""


def typical_size(shape: tuple[int, ...]) -> int:
    """Geometric mean of the axes, rounded down: the axis itself for a cube."""
    return int(math.prod(shape) ** (1 / len(shape)) + 1e-6)


class LogPower(nn.Module):
    """Log of the mean power in shells one fundamental wide, up to the Nyquist frequency.

    The fundamental is that of an axis as long as the geometric mean of all. Several maps give
    the power of each, then the correlation coefficient of each pair in every shell.

    Args:
        shape: of one field, without channels.
        maps: number of fields in one simulation.
    """

    bins: Tensor
    counts: Tensor

    def __init__(self, shape: tuple[int, ...], maps: int = 1) -> None:
        super().__init__()
        n = typical_size(shape)
        self.n_bins, self.maps = n // 2, maps
        self.n_features = self.n_bins * maps * (maps + 1) // 2
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
        self.axes = len(shape)

    def forward(self, x: Tensor) -> Tensor:
        """(B, maps, *shape) to (B, n_features)."""
        modes = torch.fft.rfftn(x.float(), dim=tuple(range(2, 2 + self.axes)))
        power = self._shells(modes.real**2 + modes.imag**2)
        logs = torch.log(power + 1e-8).flatten(1)
        if self.maps == 1:
            return logs
        one, two = torch.triu_indices(self.maps, self.maps, 1, device=x.device)
        a, b = modes[:, one], modes[:, two]
        cross = self._shells(a.real * b.real + a.imag * b.imag)
        both = ((power[:, one] + 1e-8) * (power[:, two] + 1e-8)).sqrt()
        return torch.cat([logs, (cross / both).flatten(1)], dim=1)

    def _shells(self, power: Tensor) -> Tensor:
        """Mean over each shell, (B, C, n_bins)."""
        flat = power.flatten(2)
        rows = flat.flatten(0, 1)
        total = torch.zeros(len(rows), len(self.counts), dtype=flat.dtype, device=flat.device)
        mean = total.index_add(1, self.bins, rows) / self.counts
        return mean[:, 1:].view(*flat.shape[:2], self.n_bins)


class SegmentPower(nn.Module):
    """`LogPower` of equal parts of a field, in their order along the axis on which it evolves.

    Args:
        shape: of one field, without channels.
        maps: number of fields in one simulation.
        axis: that is cut into up to 8 parts; None leaves the field whole.
    """

    def __init__(self, shape: tuple[int, ...], maps: int = 1, axis: int | None = None) -> None:
        super().__init__()
        self.axis = axis
        self.segments = 1 if axis is None else min(SEGMENTS, shape[axis])
        cut = [n // self.segments if a == axis else n for a, n in enumerate(shape)]
        self.power = LogPower(tuple(cut), maps)
        self.n_features = self.segments * self.power.n_features

    def forward(self, x: Tensor) -> Tensor:
        """(B, maps, *shape) to (B, n_features)."""
        if self.axis is None:
            return self.power(x)
        axis = 2 + self.axis
        size = x.shape[axis] // self.segments
        starts = range(0, size * self.segments, size)
        return torch.cat([self.power(x.narrow(axis, start, size)) for start in starts], dim=1)
