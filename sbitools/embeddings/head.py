"""The last layers of a network for fields: from statistics that were pooled to features."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["Head"]

_WIDTH = 128
_LEAST = 1e-3  # standard deviation: statistics that vary less now may vary more when trained


class Head(nn.Module):
    """Statistics of fields to features, by way of their scale.

    Logarithms of power lie around 9 and differ between fields by a few per cent, means of filtered
    fields by a ten-thousandth: layers that are given them as they are spend their training on the
    scales. They are centred and scaled by what they are over some fields before training, once.

    Args:
        statistics: numbers that come in.
        features: numbers that come out.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, statistics: int, features: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(statistics))
        self.register_buffer("spread", torch.ones(statistics))
        self.layers = nn.Sequential(
            nn.Linear(statistics, _WIDTH), nn.SiLU(), nn.Linear(_WIDTH, features)
        )

    def forward(self, statistics: Tensor) -> Tensor:
        """(B, statistics) to (B, features)."""
        return self.layers((statistics - self.centre) / self.spread)

    def settle(self, batches: Iterable[Tensor]) -> None:
        """Take the scale of statistics, (B, statistics) each, of the network as it is now."""
        every = torch.cat([batch.detach().double() for batch in batches])
        self.centre.copy_(every.mean(0))
        self.spread.copy_(every.std(0, correction=0).clamp(min=_LEAST))
