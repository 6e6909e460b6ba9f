"""Loss and gradient of several pieces of a batch at the same time, one Python thread per piece.

Torch's own threads split every layer, and wait for each other after each; on small grids that
costs more than it gains, and ten times more if another program wants a core. Whole pieces need no
waiting. Torch releases the interpreter while it computes, and gradients are added in the order of
the pieces, so the result does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

__all__ = ["mean_loss"]


def mean_loss(
    loss: Callable[[int], Tensor], n: int, parameters: Sequence[Tensor], workers: int
) -> Tensor:
    """Mean of loss(0) ... loss(n - 1), differentiable once in `parameters`.

    Args:
        loss: of one piece, a scalar.
        n: number of pieces, all of the same weight.
        parameters: leaves; the gradient flows to nothing else.
        workers: pieces at the same time.
    """
    if not torch.is_grad_enabled():
        return torch.stack([loss(i) for i in range(n)]).mean()

    # Threads begin with torch's defaults, whatever the caller's modes: hand them over.
    device = parameters[0].device.type
    autocast = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def work(i: int) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        with torch.enable_grad(), torch.autocast(device, autocast[1], autocast[0]):
            value = loss(i)
            return value.detach(), torch.autograd.grad(value, parameters, allow_unused=True)

    if min(workers, n) > 1:
        with ThreadPoolExecutor(min(workers, n)) as pool:
            done = list(pool.map(work, range(n)))
    else:
        done = [work(i) for i in range(n)]
    values = torch.stack([value for value, _ in done])
    gradients = [_mean(parts, n) for parts in zip(*(g for _, g in done), strict=True)]
    return _Known.apply(values.mean(), gradients, *parameters)  # pyright: ignore[reportReturnType]


def _mean(parts: Sequence[Tensor | None], n: int) -> Tensor | None:
    used = [part for part in parts if part is not None]
    return sum(used[1:], used[0]) / n if used else None


class _Known(torch.autograd.Function):
    """A value whose gradient is known already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor | None], *_: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None, None, *(None if d is None else g * d for d in ctx.gradients)
