"""The styled V-Net: vector fields on a lattice to others, conditional on a few numbers.

Of Jamieson et al. (2023, arXiv:2206.04594; 2024, arXiv:2408.07699) with circular instead of valid
convolutions and a smooth activation, so that the derivative along a tangent of input and style
comes with the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from sbitools.networks.styled import Pair, StyledConv3d, StyledResidual3d, silu

__all__ = ["StyledVNet"]


class StyledVNet(nn.Module):
    """Encoder and decoder of styled residual blocks, joined at every level.

    Args:
        channels: of each level, finest first; every level but the first halves the grid.
        generator: of the initial weights.
        style: numbers that modulate every filter.
        fields: channels in and out.
    """

    def __init__(
        self, channels: Sequence[int], generator: torch.Generator, style: int, fields: int = 3
    ) -> None:
        super().__init__()
        s, g, c = style, generator, list(channels)
        steps = list(pairwise(c))
        self.entry = StyledResidual3d(fields, c[0], s, g)
        self.widen = StyledResidual3d(c[0], c[0], s, g)
        self.down = nn.ModuleList(StyledConv3d(a, b, s, 2, g, "down") for a, b in steps)
        self.encode = nn.ModuleList(StyledResidual3d(b, b, s, g) for _, b in steps)
        self.up = nn.ModuleList(StyledConv3d(b, a, s, 2, g, "up") for a, b in steps)
        self.decode = nn.ModuleList(StyledResidual3d(2 * a, a, s, g) for a, _ in steps)
        self.exit = StyledResidual3d(c[0], fields, s, g, last=True)

    def forward(
        self, x: Tensor, style: Tensor, dx: Tensor | None = None, dstyle: Tensor | None = None
    ) -> Pair:
        """(B, fields, *grid) to the same, with tangent; every axis a multiple of 2^(levels-1)."""
        y, dy = self.entry(x, style, dx, dstyle)
        y, dy = self.widen(y, style, dy, dstyle)
        kept: list[Pair] = []
        for down, encode in zip(self.down, self.encode, strict=True):
            kept.append((y, dy))
            y, dy = silu(*down(y, style, dy, dstyle))
            y, dy = encode(y, style, dy, dstyle)
        for up, decode in zip(reversed(self.up), reversed(self.decode), strict=True):
            y, dy = silu(*up(y, style, dy, dstyle))
            y, dy = _join(kept.pop(), (y, dy))
            y, dy = decode(y, style, dy, dstyle)
        return self.exit(y, style, dy, dstyle)


def _join(kept: Pair, new: Pair) -> Pair:
    (a, da), (b, db) = kept, new
    tangent = None if da is None or db is None else torch.cat([da, db], dim=1)
    return torch.cat([a, b], dim=1), tangent
