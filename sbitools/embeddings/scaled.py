"""What networks for fields on a grid share: the scale of their data."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ScaledField"]

# Cells of an evolving axis that vary less than this share of those that vary most are not blown
# up: their variation is rounding, or next to nothing.
_LEAST = 1e-3


class ScaledField(nn.Module):
    """Takes out the mean and the standard deviation of the training data, one each per map.

    Along an axis on which the field evolves they are those of each cell: a light cone varies by a
    hundred mK where the gas is cold and by a few where it is ionised, and both are to be seen.

    Args:
        shape: of one field, space alone.
        maps: fields in one simulation, on an axis before those of space; None if there is no such
            axis.
        evolving: which axis of space evolves, None if none does.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: tuple[int, ...], maps: int | None, evolving: int | None) -> None:
        super().__init__()
        self.axes, self.maps = len(shape), maps
        self._over = [a - self.axes for a in range(self.axes) if a != evolving]
        kept = [n if a == evolving else 1 for a, n in enumerate(shape)]
        size = (*([] if maps is None else [maps]), *kept)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))

    def set_scale(self, mean: Tensor, std: Tensor) -> None:
        """Mean and standard deviation of the training data per cell, in the shape of a field."""
        # An empty list of axes would be all of them.
        centre = mean.mean(self._over, keepdim=True) if self._over else mean
        square = std**2 + (mean - centre) ** 2
        spread = (square.mean(self._over, keepdim=True) if self._over else square).sqrt()
        most = spread.amax(tuple(range(-self.axes, 0)), keepdim=True)
        spread = spread.maximum(_LEAST * most)
        self.mean.copy_(centre)
        self.std.copy_(spread.where(spread > 0, torch.ones_like(spread)))

    def standardise(self, x: Tensor) -> Tensor:
        """(B, *shape), or (B, maps, *shape), to (B, maps or 1, *shape)."""
        x = (x - self.mean) / self.std
        return x[:, None] if self.maps is None else x
