"""The last layers of a network for fields: from statistics that were pooled to features."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .ridge import ridge

__all__ = ["Head"]

_WIDTH = 128
_LEAST = 1e-3  # standard deviation: statistics that vary less now may vary more when trained
_FEWEST = 10  # fields that a guess is made from


class Head(nn.Module):
    """Statistics of fields to features, by way of their scale, and by a first guess.

    Logarithms of power lie around 9 and differ between fields by a few per cent, means of filtered
    fields by a ten-thousandth: layers that are given them as they are spend their training on the
    scales. They are centred and scaled by what they are over some fields before training, once.
    The first features, one for each parameter, are then what a ridge regression on statistics that
    training does not change says of it; the other features are learned.

    Args:
        fixed: numbers that come in first, functions of the field that are not learned.
        learned: numbers that come in after them.
        features: numbers that come out.
    """

    centre: Tensor
    spread: Tensor
    slopes: Tensor
    guessed: Tensor

    def __init__(self, fixed: int, learned: int, features: int) -> None:
        super().__init__()
        self.fixed, statistics = fixed, fixed + learned
        self.register_buffer("centre", torch.zeros(statistics))
        self.register_buffer("spread", torch.ones(statistics))
        self.register_buffer("slopes", torch.zeros(features, fixed))
        self.register_buffer("guessed", torch.zeros(features, dtype=torch.bool))
        self.layers = nn.Sequential(
            nn.Linear(statistics, _WIDTH), nn.SiLU(), nn.Linear(_WIDTH, features)
        )

    def forward(self, statistics: Tensor) -> Tensor:
        """(B, fixed + learned) to (B, features)."""
        z = (statistics - self.centre) / self.spread
        with torch.autocast(z.device.type, enabled=False):  # its terms cancel
            guess = z[:, : self.fixed].float() @ self.slopes.T
        return torch.where(self.guessed, guess, self.layers(z).float())

    @torch.no_grad()
    def settle(
        self, batches: Iterable[tuple[Tensor, Tensor]], known: int | None = None
    ) -> tuple[Tensor, Tensor] | None:
        """Begin with the scale of statistics, and with what is linear in them.

        Args:
            batches: what statistics tell about, (B, P), of zero mean and unit variance or so, and
                statistics of the network as it is now, (B, fixed + learned).
            known: how many of the first numbers a guess is made from; None for `fixed`.

        Returns:
            All that they tell about, (n, P), and what would be guessed for each from the others;
            None if there are too few of them, or no other features, for a guess.
        """
        targets, every = (torch.cat(parts).double() for parts in zip(*batches, strict=True))
        self.centre.copy_(every.mean(0))
        self.spread.copy_(every.std(0, correction=0).clamp(min=_LEAST))
        p, known = targets.shape[1], self.fixed if known is None else known
        if p >= len(self.guessed) or len(targets) < _FEWEST or not known:
            return None
        z = ((every - self.centre) / self.spread)[:, :known]
        slopes, guess = ridge(z, targets)
        self.slopes[:p, :known], self.guessed[:p] = slopes.T.float(), True
        return targets, guess
