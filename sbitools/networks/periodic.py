"""Circular padding of periodic fields, with its exact adjoint and tangent.

`torch.nn.functional.pad(mode="circular")` gives the same numbers, but returns channels first
whatever came in; here the memory format survives, which decides the speed of 3-D convolutions.
Padding and folding are adjoint linear maps, so each is the other's derivative to any order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sbitools.errors import ShapeError

__all__ = ["PeriodicPad1d", "PeriodicPad2d", "PeriodicPad3d", "circular_pad"]


def circular_pad(x: Tensor, p: int) -> Tensor:
    """Wrap `p` cells around every spatial axis.

    Args:
        x: shape (B, C, *spatial), one to three spatial axes, any memory format.
        p: cells per side, at most the length of the shortest spatial axis.

    Returns:
        Shape (B, C, *(n + 2 p)), in the memory format of `x`. Differentiable to any order, in
        reverse and forward mode.

    Raises:
        ShapeError: if `p` is negative or larger than an axis, or no spatial axis is there.
    """
    if p == 0:
        return x
    if not 3 <= x.ndim <= 5 or not 0 < p <= min(x.shape[2:]):
        raise ShapeError(
            "circular_pad", expected=f"(batch, channel, 1 to 3 axes of {p} or more), p >= 0",
            got=f"shape {tuple(x.shape)}, p={p}", fix="pad less, or use a larger grid",
        )  # fmt: skip
    return _Pad.apply(x, p)  # pyright: ignore[reportReturnType]


def _wrap(x: Tensor, p: int) -> Tensor:
    """The padded copy: the core first, then the faces, axis after axis, from what is there."""
    shape = [*x.shape[:2], *(n + 2 * p for n in x.shape[2:])]
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_format(x))
    core = out
    for axis in range(2, x.ndim):
        core = core.narrow(axis, p, x.shape[axis])
    core.copy_(x)
    for axis in reversed(range(2, x.ndim)):
        n, view = x.shape[axis], out
        for outer in range(2, axis):  # slower axes are not filled yet: copy their cores only
            view = view.narrow(outer, p, x.shape[outer])
        view.narrow(axis, 0, p).copy_(view.narrow(axis, n, p))
        view.narrow(axis, n + p, p).copy_(view.narrow(axis, p, p))
    return out


def _fold(g: Tensor, p: int) -> Tensor:
    """The adjoint of `_wrap`: halo cells are added to the cells they were copied from."""
    n = [m - 2 * p for m in g.shape[2:]]
    out = g.clone(memory_format=_format(g))  # never write into a gradient that others may hold
    for axis, size in enumerate(n, start=2):
        out.narrow(axis, size, p).add_(out.narrow(axis, 0, p))
        out.narrow(axis, p, p).add_(out.narrow(axis, size + p, p))
        out = out.narrow(axis, p, size)
    return out.contiguous(memory_format=_format(g))


def _format(x: Tensor) -> torch.memory_format:
    if x.ndim == 5 and x.is_contiguous(memory_format=torch.channels_last_3d):
        return torch.channels_last_3d
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


class _Pad(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, p: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _wrap(x, p)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.p = inputs[1]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Fold.apply(g, ctx.p), None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, _: None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Pad.apply(dx, ctx.p)


class _Fold(torch.autograd.Function):
    @staticmethod
    def forward(g: Tensor, p: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _fold(g, p)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.p = inputs[1]

    @staticmethod
    def backward(ctx: Any, x: Tensor) -> tuple[Any, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Pad.apply(x, ctx.p), None

    @staticmethod
    def jvp(ctx: Any, dg: Tensor, _: None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Fold.apply(dg, ctx.p)


class _PeriodicPad(nn.Module):
    axes: int

    def __init__(self, p: int) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *n) to (B, C, *(n + 2 p)); see `circular_pad`."""
        if x.ndim != self.axes + 2:
            raise ShapeError(
                type(self).__name__, expected=f"{self.axes} spatial axes after (batch, channel)",
                got=f"shape {tuple(x.shape)}", fix="add the batch and the channel axis",
            )  # fmt: skip
        return circular_pad(x, self.p)

    def extra_repr(self) -> str:
        """Padding per side."""
        return str(self.p)


class PeriodicPad1d(_PeriodicPad):
    """`circular_pad` of one spatial axis as a layer."""

    axes = 1


class PeriodicPad2d(_PeriodicPad):
    """`circular_pad` of two spatial axes as a layer."""

    axes = 2


class PeriodicPad3d(_PeriodicPad):
    """`circular_pad` of three spatial axes as a layer."""

    axes = 3
