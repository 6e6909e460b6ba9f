"""A U-Net for fields of one to three axes, conditional on parameters, noise level and redshift.

Convolutions wrap around on the axes of the sky. Parameters and noise level modulate every block
(feature-wise affine maps, Perez et al. 2018, arXiv:1709.07871); the redshift of each cell along a
line of sight comes in as a channel, since it differs within one field.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sbitools.networks.convolution import PaddedConv
from sbitools.seeds import initial_weights

__all__ = ["UNet"]

_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_LEVELS = 32  # random frequencies that the noise level is written in
_WIDTH = 128  # of the vector that modulates the blocks


class UNet(nn.Module):
    """Noisy fields to what `Denoiser` makes of them.

    Args:
        channels: of the fields.
        parameters: numbers of the condition.
        axes: one word per axis of space, ``"periodic"`` or ``"open"``.
        widths: of each level, finest first; every level but the first halves the grid.
        blocks: residual blocks per level, on each way.
        patch: cells per side that are one cell of the finest level.
        position: numbers per cell that say where it is, and come with each field.
        seed: of the initial weights.
        beside: channels of x that are given, after those of the fields: a source's.
    """

    frequencies: Tensor

    def __init__(
        self, channels: int, parameters: int, axes: Sequence[str], widths: Sequence[int],
        blocks: int = 1, patch: int = 2, position: int = 0, seed: int = 0,
        beside: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.axes, self.patch, self.position = len(axes), patch, position
        inner = channels * patch**self.axes
        with initial_weights(seed):
            self.register_buffer("frequencies", 2 * torch.randn(_LEVELS))
            self.level = _perceptron(2 * _LEVELS)
            self.condition = _perceptron(max(parameters, 1))
            entering = (channels + beside) * patch**self.axes + position
            self.entry = PaddedConv(entering, widths[0], 3, axes)
            ups = [*widths[1:], widths[-1]]
            kept = [w for w in widths for _ in range(blocks)]
            self.down = nn.ModuleList(
                _stack([widths[max(i - 1, 0)]] + [w] * blocks, axes) for i, w in enumerate(widths)
            )
            self.middle = _Block(widths[-1], widths[-1], axes)
            self.up = nn.ModuleList()
            for w, below in zip(reversed(widths), reversed(ups), strict=True):
                inputs = [below, *[w] * (blocks - 1)]
                self.up.append(nn.ModuleList(_Block(i + kept.pop(), w, axes) for i in inputs))
            self.norm = _norm(widths[0])
            self.exit = PaddedConv(widths[0], inner, 3, axes)
        for last in self.exit.conv.parameters():  # starts as the denoiser of white noise
            nn.init.zeros_(last)

    def forward(
        self, x: Tensor, level: Tensor, condition: Tensor, position: Tensor | None = None
    ) -> Tensor:
        """Fields (B, C, *n) of unit variance to the same shape.

        Args:
            x: and what is given beside, (B, C + beside, *n), every axis a multiple of
                patch 2^(levels - 1).
            level: ln sigma / 4, (B,).
            condition: (B, P).
            position: if the network was made for it, (B, n[-1]) along the last axis, or of each
                cell, (B or 1, positions, *n).
        """
        phase = 2 * math.pi * level[:, None] * self.frequencies
        if not condition.shape[1]:
            condition = condition.new_zeros(len(condition), 1)
        style = self.level(torch.cat([phase.cos(), phase.sin()], 1)) + self.condition(condition)
        style = F.silu(style)
        y = _merge(x, self.patch)
        if self.position:
            y = torch.cat([y, _spread(position, y, self.patch)], dim=1)
        y, kept = self.entry(y), []
        for i, blocks in enumerate(self.down):
            y = _POOL[self.axes](y, 2) if i else y
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues]
                y = block(y, style)
                kept.append(y)
        y = self.middle(y, style)
        for i, blocks in enumerate(self.up):
            y = F.interpolate(y, scale_factor=2.0, mode="nearest") if i else y
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues]
                y = block(torch.cat([y, kept.pop()], dim=1), style)
        return _split(self.exit(F.silu(self.norm(y))), self.patch)


class _Block(nn.Module):
    """Two convolutions around a modulation, beside a short cut."""

    def __init__(self, a: int, b: int, axes: Sequence[str]) -> None:
        super().__init__()
        self.first_norm, self.first = _norm(a), PaddedConv(a, b, 3, axes)
        self.second_norm, self.second = _norm(b), PaddedConv(b, b, 3, axes)
        self.modulation = nn.Linear(_WIDTH, 2 * b)
        self.short = PaddedConv(a, b, 1, axes) if a != b else nn.Identity()
        nn.init.zeros_(self.second.conv.weight)  # starts as the short cut

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        gain, shift = self.modulation(style).view(len(x), -1, *[1] * (x.ndim - 2)).chunk(2, 1)
        y = self.first(F.silu(self.first_norm(x)))
        y = torch.addcmul(shift, self.second_norm(y), 1 + gain)
        return self.short(x) + self.second(F.silu(y))


def _stack(widths: Sequence[int], axes: Sequence[str]) -> nn.ModuleList:
    return nn.ModuleList(_Block(a, b, axes) for a, b in pairwise(widths))


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(8, width), width)


def _perceptron(inputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, _WIDTH), nn.SiLU(), nn.Linear(_WIDTH, _WIDTH))


def _merge(x: Tensor, patch: int) -> Tensor:
    """(B, C, *n) to (B, C patch^d, *(n / patch)): no cell is lost."""
    if patch == 1:
        return x
    space = x.ndim - 2
    blocks = [m for n in x.shape[2:] for m in (n // patch, patch)]
    x = x.reshape(*x.shape[:2], *blocks)
    inside, outside = range(3, 3 + 2 * space, 2), range(2, 2 + 2 * space, 2)
    return x.permute(0, 1, *inside, *outside).flatten(1, 1 + space)


def _split(x: Tensor, patch: int) -> Tensor:
    """The inverse of `_merge`."""
    if patch == 1:
        return x
    space = x.ndim - 2
    x = x.reshape(len(x), -1, *[patch] * space, *x.shape[2:])
    order = [m for i in range(space) for m in (2 + space + i, 2 + i)]
    x = x.permute(0, 1, *order)
    return x.reshape(*x.shape[:2], *(x.shape[2 + 2 * i] * patch for i in range(space)))


def _spread(position: Tensor | None, y: Tensor, patch: int) -> Tensor:
    """Positions as channels (B, positions, *n) of merged cells."""
    assert position is not None  # noqa: S101  (the emulator passes it where the network wants it)
    if position.ndim > 2:
        mean = _POOL[y.ndim - 2](position.to(y), patch)
        return mean.expand(len(y), *mean.shape[1:])
    mean = position.to(y).unflatten(1, (-1, patch)).mean(2)
    return mean.view(len(y), *[1] * (y.ndim - 2), -1).expand(len(y), 1, *y.shape[2:])
