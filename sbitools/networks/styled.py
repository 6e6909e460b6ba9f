"""Convolutions whose filters are modulated by a style vector, with an exact tangent.

For a filter W[o, i, k], a style s and a learned affine map (A, c) per convolution,

    m_i = (A s)_i + c_i,   W' = W m_i,   W'' = W' / sqrt(sum_{i,k} W'^2 + eps),
    y = conv(x, W'') + b

(Karras et al. 2020, arXiv:1912.04958, section 2.2; used for N-body fields by Jamieson et al. 2024,
arXiv:2408.07699). Given tangents dx and ds, the derivative along them follows layer by layer:

    dy = conv(dx, W'') + conv(x, dW''),   dW' = W (A ds)_i,
    dW'' = dW'/norm - W' (sum W' dW')/norm^3,

which is exact, needs no automatic forward mode, and can itself be trained through.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sbitools.networks.periodic import circular_pad

__all__ = ["Pair", "StyledConv3d", "StyledResidual3d", "silu"]

Pair = tuple[Tensor, Tensor | None]
"""A value and its tangent, None where no tangent is propagated."""

Kind = Literal["same", "down", "up"]
_EPS = 1e-8  # keeps a filter whose modulation vanishes finite (StyleGAN2's value)


def silu(value: Tensor, tangent: Tensor | None) -> Pair:
    """x sigmoid(x), and its derivative times the tangent."""
    if tangent is None:
        return F.silu(value), None
    gate = torch.sigmoid(value)
    return value * gate, tangent * (gate * (1 + value * (1 - gate)))


class StyledConv3d(nn.Module):
    """One styled convolution: same size (valid, pad first), halving or doubling the grid.

    Args:
        n_in: channels in.
        n_out: channels out.
        style_size: length of the style vector.
        kernel: 1 or 3 for ``"same"``; 2 for the others.
        kind: ``"same"``, ``"down"`` (stride 2) or ``"up"`` (transposed, stride 2).
        demodulate: give each filter unit norm; False lets the last layer choose its amplitude.
        generator: of the initial weights; seeds are arguments.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        style_size: int,
        kernel: int,
        generator: torch.Generator,
        kind: Kind = "same",
        demodulate: bool = True,
    ) -> None:
        super().__init__()
        self.kind, self.demodulate = kind, demodulate
        self.weight = nn.Parameter(torch.empty(n_out, n_in, kernel, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.style = nn.Parameter(torch.empty(n_in, style_size))
        self.style_bias = nn.Parameter(torch.ones(n_in))
        with torch.no_grad():
            self.weight.normal_(0, 1 / math.sqrt(n_in * kernel**3), generator=generator)
            self.style.normal_(0, 0.3 / math.sqrt(style_size), generator=generator)

    def filters(self, style: Tensor, tangent: Tensor | None) -> Pair:
        """W'' and dW'' of shape (n_out, n_in, k, k, k) for one style (S,) and its tangent."""
        shape = (1, -1, 1, 1, 1)
        w = self.weight * (self.style @ style + self.style_bias).view(shape)
        dw = None if tangent is None else self.weight * (self.style @ tangent).view(shape)
        if not self.demodulate:
            return w, dw
        axes = (1, 2, 3, 4)
        inverse = torch.rsqrt(w.square().sum(axes, keepdim=True) + _EPS)
        if dw is not None:
            overlap = (w * dw).sum(axes, keepdim=True)
            dw = inverse * (dw - w * (overlap * inverse.square()))
        return w * inverse, dw

    def forward(
        self,
        x: Tensor,
        style: Tensor,
        dx: Tensor | None = None,
        dstyle: Tensor | None = None,
    ) -> Pair:
        """Convolve.

        Args:
            x: (B, n_in, *grid); all of the batch shares the style.
            style: (S,).
            dx: tangent of x; None propagates none.
            dstyle: tangent of the style, (S,); given when `dx` is.

        Returns:
            y (B, n_out, *grid') and its tangent (None without `dx`), in the dtype of x.
        """
        w, dw = self.filters(style, None if dx is None else dstyle)
        y = self._convolve(x, w, self.bias.to(x.dtype))
        if dx is None or dw is None:
            return y, None
        return y, self._convolve(dx, w) + self._convolve(x, dw)

    def _convolve(self, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        w = w.to(x.dtype)
        if self.kind == "up":
            return F.conv_transpose3d(x, w.transpose(0, 1), bias, stride=2)
        return F.conv3d(x, w, bias, stride=2 if self.kind == "down" else 1)


class StyledResidual3d(nn.Module):
    """Two periodic 3^3 styled convolutions beside a 1^3 one, summed; then SiLU unless last.

    Args:
        n_in: channels in.
        n_out: channels out.
        style_size: length of the style vector.
        generator: of the initial weights.
        last: no activation after the sum.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        style_size: int,
        generator: torch.Generator,
        last: bool = False,
    ) -> None:
        super().__init__()
        wide = n_out if not last else n_in
        self.first = StyledConv3d(n_in, wide, style_size, 3, generator)
        self.second = StyledConv3d(wide, n_out, style_size, 3, generator)
        self.skip = StyledConv3d(n_in, n_out, style_size, 1, generator)
        self.last = last

    def forward(
        self,
        x: Tensor,
        style: Tensor,
        dx: Tensor | None = None,
        dstyle: Tensor | None = None,
    ) -> Pair:
        """(B, n_in, *grid) to (B, n_out, *grid), with tangent; see `StyledConv3d.forward`."""
        y, dy = self.first(*_pad(x, style, dx, dstyle))
        y, dy = silu(y, dy)
        y, dy = self.second(*_pad(y, style, dy, dstyle))
        short, dshort = self.skip(x, style, dx, dstyle)
        y = y + short
        dy = None if dy is None or dshort is None else dy + dshort
        return (y, dy) if self.last else silu(y, dy)


def _pad(
    x: Tensor, style: Tensor, dx: Tensor | None, dstyle: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    return circular_pad(x, 1), style, None if dx is None else circular_pad(dx, 1), dstyle
