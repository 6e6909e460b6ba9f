"""The scale of a data vector: what the densities see of x."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Standardise"]


class Standardise(nn.Module):
    """x in units of its spread, and an inverse hyperbolic sine of it that tames long tails."""

    mean: Tensor
    std: Tensor

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n_features = 2 * n
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("std", torch.ones(n))

    def set_scale(self, mean: Tensor, std: Tensor) -> None:
        """Mean and standard deviation of the training data, shape (n,)."""
        self.mean.copy_(mean)
        # An entry that never changes carries nothing; it must not be divided by zero.
        self.std.copy_(std.where(std > 0, torch.ones_like(std)))

    def scale(self, x: Tensor) -> Tensor:
        """x with mean 0 and standard deviation 1."""
        return (x.to(self.mean) - self.mean) / self.std

    def forward(self, x: Tensor) -> Tensor:
        """(B, n) to (B, 2 n)."""
        return self.expand(self.scale(x))

    @staticmethod
    def expand(scaled: Tensor) -> Tensor:
        """Features of standardised x."""
        return torch.cat([scaled, torch.arcsinh(3 * scaled)], dim=-1)
