"""Losses of a batch of fields, a few pieces of it at the same time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from sbitools.seeds import derive, generator
from sbitools.training import mean_loss

from .denoiser import Denoiser
from .options import DiffusionOptions

__all__ = ["DenoisingLoss", "TargetLoss", "loss_now"]


class TargetLoss:
    """Of batches (x, target, sigma, condition[, position]): the denoiser is to give the target.

    Args:
        options: whose noise schedule and number of pieces are used.
    """

    def __init__(self, options: DiffusionOptions) -> None:
        self.pieces, self.schedule = options.pieces, options.make_schedule()

    def __call__(self, module: nn.Module, batch: Sequence[Tensor], rng: torch.Generator) -> Tensor:
        """Mean over the batch; nothing is random."""
        assert isinstance(module, Denoiser)  # noqa: S101  (it is what was given to the loop)
        device = next(module.parameters()).device
        rows = [t.to(device) for t in batch]
        n = self.pieces if len(rows[0]) % self.pieces == 0 and device.type == "cpu" else 1
        size = len(rows[0]) // n

        def piece(i: int) -> Tensor:
            x, target, sigma, condition, *position = (t[i * size : (i + 1) * size] for t in rows)
            place = position[0] if position else None
            return module.loss(x, target, condition, place, sigma, self.schedule).mean()

        return mean_loss(piece, n, list(module.parameters()), n)


class DenoisingLoss(TargetLoss):
    """Of batches (fields, condition[, position]): noise is added, and to be removed."""

    def __call__(self, module: nn.Module, batch: Sequence[Tensor], rng: torch.Generator) -> Tensor:
        """Mean over the batch."""
        x, *context = batch
        sigma = self.schedule.draw(len(x), rng).float()
        noise = torch.randn(x.shape, generator=rng)
        noisy = x + sigma.view(-1, *[1] * (x.ndim - 1)) * noise
        return super().__call__(module, (noisy, x, sigma, *context), rng)


@torch.no_grad()
def loss_now(
    loss: TargetLoss, module: nn.Module, batches: Iterable[Sequence[Tensor]], seed: int
) -> float:
    """What `run_training` would find as validation loss of a network as it is."""
    total, count = 0.0, 0
    for i, batch in enumerate(batches):
        rng = generator(derive(seed, 4, i))
        total += float(loss(module, batch, rng)) * len(batch[0])
        count += len(batch[0])
    return total / count
