"""A residual convolutional network for fields of one to three axes.

Every level is pooled to the mean and the log-variance of its channels, so that the features hold
one-point and two-point statistics of learned filters on every scale; the network is invariant
under translations by its coarsest cell, as a homogeneous field wants. The field's own power
spectrum is given to the last layers as well: a network learns it slowly, and it carries much of
what a homogeneous field says.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from sbitools.networks.periodic import circular_pad

__all__ = ["FieldCNN"]

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_POOL = {1: nn.functional.avg_pool1d, 2: nn.functional.avg_pool2d, 3: nn.functional.avg_pool3d}
_MAX_CHANNELS = 64


class FieldCNN(nn.Module):
    """Fields to features.

    Args:
        shape: of one field, one to three axes.
        features: numbers that come out.
        channels: width at full resolution; it doubles with every level, up to 64.
        boundary: ``"periodic"`` wraps around, ``"open"`` pads with zeros.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, shape: tuple[int, ...], features: int, channels: int = 16, boundary: str = "periodic"
    ) -> None:
        super().__init__()
        self.n_features, self.axes = features, len(shape)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))
        levels = max(1, int(math.log2(max(2, min(shape)))) - 1)  # the coarsest has 4 cells or less
        widths = [min(channels << i, max(channels, _MAX_CHANNELS)) for i in range(levels)]
        self.stem = _Conv(1, widths[0], 3, self.axes, boundary)
        self.blocks = nn.ModuleList(_Residual(w, self.axes, boundary) for w in widths)
        self.widen = nn.ModuleList(
            _Conv(a, b, 1, self.axes, boundary) for a, b in itertools.pairwise(widths)
        )
        self.power = _LogPower(shape)
        self.head = nn.Sequential(
            nn.Linear(2 * sum(widths) + self.power.n_bins, 128),
            nn.SiLU(),
            nn.Linear(128, features),
        )

    def set_scale(self, mean: Tensor, std: Tensor) -> None:
        """Mean and standard deviation of the training data per cell; one number each is kept."""
        spread = (std**2 + (mean - mean.mean()) ** 2).mean().sqrt()
        self.mean.copy_(mean.mean())
        self.std.copy_(spread.where(spread > 0, torch.ones_like(spread)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape) to (B, n_features)."""
        # asinh is the identity for small fluctuations and tames the rare high peaks.
        x = (x - self.mean) / self.std
        y = torch.asinh(x)[:, None]
        if self.axes == 3:
            y = y.contiguous(memory_format=torch.channels_last_3d)
        y = nn.functional.silu(self.stem(y))
        pooled = [self.power(x)]
        for i, block in enumerate(self.blocks):
            y = block(y)
            pooled += self._pool(y)
            if i < len(self.widen):
                y = self.widen[i](_POOL[self.axes](y, 2, ceil_mode=True))
        return self.head(torch.cat(pooled, dim=1))

    @staticmethod
    def _pool(y: Tensor) -> list[Tensor]:
        cells = y.flatten(2).float()
        return [cells.mean(2), torch.log(cells.var(2, unbiased=False) + 1e-4)]


class _LogPower(nn.Module):
    """Log of the mean power in shells one fundamental wide, up to the Nyquist frequency."""

    bins: Tensor
    counts: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        n = min(shape)
        self.n_bins = n // 2
        k2 = torch.zeros(*shape[:-1], shape[-1] // 2 + 1)
        for axis, size in enumerate(shape):
            last = axis == len(shape) - 1
            k = torch.fft.rfftfreq(size) if last else torch.fft.fftfreq(size)
            k2 = k2 + (n * k.view([-1 if a == axis else 1 for a in range(len(shape))])) ** 2
        bins = (k2.sqrt() + 0.5).long().flatten()
        bins[bins > self.n_bins] = 0  # shell 0 holds the mean and the corners; it is dropped
        self.register_buffer("bins", bins, persistent=False)
        counts = torch.bincount(bins, minlength=self.n_bins + 1).float()
        self.register_buffer("counts", counts * math.prod(shape), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        modes = torch.fft.rfftn(x.float(), dim=tuple(range(1, x.ndim)))
        power = (modes.real**2 + modes.imag**2).flatten(1)
        total = torch.zeros(len(x), len(self.counts), dtype=power.dtype, device=x.device)
        mean = total.index_add(1, self.bins, power) / self.counts
        return torch.log(mean[:, 1:] + 1e-8)


class _Conv(nn.Module):
    """A convolution that keeps the grid, with the wanted boundary."""

    def __init__(self, a: int, b: int, size: int, axes: int, boundary: str) -> None:
        super().__init__()
        self.wrap = size // 2 if boundary == "periodic" else 0
        self.conv = _CONV[axes](a, b, size, padding=0 if self.wrap else size // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(circular_pad(x, self.wrap) if self.wrap else x)


class _Residual(nn.Module):
    def __init__(self, width: int, axes: int, boundary: str) -> None:
        super().__init__()
        self.first = _Conv(width, width, 3, axes, boundary)
        self.second = _Conv(width, width, 3, axes, boundary)
        nn.init.zeros_(self.second.conv.weight)  # starts as the identity: no normalisation needed

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(nn.functional.silu(self.first(x)))
