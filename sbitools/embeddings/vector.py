"""A perceptron for data vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .scale import Scaled

__all__ = ["VectorMLP"]


class VectorMLP(Scaled):
    """Residual perceptron on standardised entries; those that never vary are 0.

    Args:
        shape: of one data vector; flattened.
        features: numbers that come out, after the standardised entries themselves if those are
            few: short data vectors are given to the estimator whole.
        hidden: width.
    """

    # Vectors up to this length reach the density estimator directly as well.
    _SHORT = 64

    def __init__(self, shape: tuple[int, ...], features: int, hidden: int) -> None:
        super().__init__(shape, shape)
        n = math.prod(shape)
        self.first, self.second = nn.Linear(n, hidden), nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, features)
        self.skip = n <= self._SHORT
        self.n_features = features + (n if self.skip else 0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape) to (B, n_features)."""
        x = self.standardise(x).reshape(len(x), -1)
        hidden = nn.functional.silu(self.first(x))
        hidden = hidden + nn.functional.silu(self.second(hidden))
        out = self.last(hidden)
        return torch.cat([x, out], dim=1) if self.skip else out
