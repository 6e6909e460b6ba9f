"""Convolutions that keep the grid, with the wanted boundary of each axis."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .periodic import circular_pad

__all__ = ["PaddedConv"]

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class PaddedConv(nn.Module):
    """A convolution with an odd kernel whose output is as large as its input.

    Args:
        a: channels in.
        b: channels out.
        size: of the kernel, odd.
        boundaries: one word per axis; ``"periodic"`` wraps around, every other one pads with
            zeros.
    """

    def __init__(self, a: int, b: int, size: int, boundaries: Sequence[str]) -> None:
        super().__init__()
        p, axes = size // 2, len(boundaries)
        around = [axis for axis, word in enumerate(boundaries) if word == "periodic"]
        self.wrap = p if len(around) == axes else 0
        self.wrapped = tuple(2 + axis for axis in around) if p and not self.wrap else ()
        open_padding = tuple(0 if axis in around else p for axis in range(axes))
        self.conv = _CONV[axes](a, b, size, padding=open_padding)

    def forward(self, x: Tensor) -> Tensor:
        """(B, a, *n) to (B, b, *n)."""
        if self.wrap:
            return self.conv(circular_pad(x, self.wrap))
        for axis in self.wrapped:
            p = self.conv.kernel_size[axis - 2] // 2
            last = x.narrow(axis, x.shape[axis] - p, p)
            x = torch.cat([last, x, x.narrow(axis, 0, p)], dim=axis)
        return self.conv(x)
