"""A perceptron for data vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["VectorMLP"]


class VectorMLP(nn.Module):
    """Residual perceptron on standardised entries.

    Args:
        shape: of one data vector; flattened.
        features: numbers that come out, after the standardised entries themselves if those are
            few: short data vectors are given to the estimator whole.
        hidden: width.
    """

    # Vectors up to this length reach the density estimator directly as well.
    _SHORT = 64

    mean: Tensor
    std: Tensor

    def __init__(self, shape: tuple[int, ...], features: int, hidden: int) -> None:
        super().__init__()
        n = math.prod(shape)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))
        self.first, self.second = nn.Linear(n, hidden), nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, features)
        self.skip = n <= self._SHORT
        self.n_features = features + (n if self.skip else 0)

    def set_scale(self, mean: Tensor, std: Tensor) -> None:
        """Mean and standard deviation of the training data, shape of one data vector."""
        self.mean.copy_(mean)
        # An entry that never changes carries nothing; it must not be divided by zero.
        self.std.copy_(std.where(std > 0, torch.ones_like(std)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape) to (B, n_features)."""
        x = ((x - self.mean) / self.std).reshape(len(x), -1)
        hidden = nn.functional.silu(self.first(x))
        hidden = hidden + nn.functional.silu(self.second(hidden))
        out = self.last(hidden)
        return torch.cat([x, out], dim=1) if self.skip else out
