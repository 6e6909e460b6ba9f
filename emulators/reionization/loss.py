"""Losses of a batch of fields, a few pieces of it at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sbitools.training import mean_loss

from .diffusion import Denoiser
from .options import EmulatorOptions

__all__ = ["DenoisingLoss", "StepLoss"]


class DenoisingLoss:
    """Of batches (fields, condition[, position]): noise is added, and to be removed.

    Args:
        options: whose noise schedule and number of pieces are used.
    """

    def __init__(self, options: EmulatorOptions) -> None:
        self.pieces, self.schedule = options.pieces, options.noise()

    def __call__(self, module: nn.Module, batch: Sequence[Tensor], rng: torch.Generator) -> Tensor:
        """Mean over the batch."""
        assert isinstance(module, Denoiser)  # noqa: S101  (it is what was given to the loop)
        x = batch[0]
        sigma = self.schedule.draw(len(x), rng).float()
        noise = torch.randn(x.shape, generator=rng)

        def piece(s: Tensor, e: Tensor, x: Tensor, condition: Tensor, *position: Tensor) -> Tensor:
            noisy = x + s.view(-1, *[1] * (x.ndim - 1)) * e
            place = position[0] if position else None
            return module.loss(noisy, x, condition, place, s, self.schedule)

        return _in_pieces(piece, [sigma, noise, *batch], module, self.pieces)


class StepLoss:
    """Of batches (x, target, sigma, condition[, position]): one call is to give the target.

    Args:
        options: whose noise schedule and number of pieces are used.
    """

    def __init__(self, options: EmulatorOptions) -> None:
        self.pieces, self.schedule = options.pieces, options.noise()

    def __call__(self, module: nn.Module, batch: Sequence[Tensor], rng: torch.Generator) -> Tensor:
        """Mean over the batch; nothing is random."""
        assert isinstance(module, Denoiser)  # noqa: S101  (it is what was given to the loop)

        def piece(x: Tensor, y: Tensor, s: Tensor, condition: Tensor, *position: Tensor) -> Tensor:
            place = position[0] if position else None
            return module.loss(x, y, condition, place, s, self.schedule)

        return _in_pieces(piece, batch, module, self.pieces)


def _in_pieces(
    loss: Callable[..., Tensor], rows: Sequence[Tensor], module: nn.Module, pieces: int
) -> Tensor:
    device = next(module.parameters()).device
    rows = [t.to(device) for t in rows]
    n = pieces if len(rows[0]) % pieces == 0 and device.type == "cpu" else 1
    size = len(rows[0]) // n

    def piece(i: int) -> Tensor:
        return loss(*(t[i * size : (i + 1) * size] for t in rows)).mean()

    return mean_loss(piece, n, list(module.parameters()), n)
