"""The scale of a data vector: what the densities see of x."""

from __future__ import annotations

import torch
from torch import Tensor

from sbitools.embeddings.scale import Scaled

__all__ = ["Standardise"]


class Standardise(Scaled):
    """x in units of its spread, and an inverse hyperbolic sine of it that tames long tails.

    Args:
        n: length of x.
    """

    def __init__(self, n: int) -> None:
        super().__init__((n,), (n,))
        self.n_features = 2 * n

    def forward(self, x: Tensor) -> Tensor:
        """(B, n) to (B, 2 n)."""
        return self.expand(self.standardise(x))

    @staticmethod
    def expand(scaled: Tensor) -> Tensor:
        """Features of standardised x."""
        return torch.cat([scaled, torch.arcsinh(3 * scaled)], dim=-1)
