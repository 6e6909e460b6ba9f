"""What networks for fields on a grid share: one scale per map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ScaledField"]


class ScaledField(nn.Module):
    """Takes out the mean and the standard deviation of the training data, one each per map.

    Args:
        axes: of space.
        maps: fields in one simulation, on an axis before those of space; None if there is no such
            axis.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, axes: int, maps: int | None) -> None:
        super().__init__()
        self.axes, self.maps = axes, maps
        shape = () if maps is None else (maps, *[1] * axes)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))

    def set_scale(self, mean: Tensor, std: Tensor) -> None:
        """Mean and standard deviation of the training data per cell; one each per map is kept."""
        axes = tuple(range(mean.ndim - self.axes, mean.ndim))
        centre = mean.mean(axes, keepdim=True)
        spread = (std**2 + (mean - centre) ** 2).mean(axes, keepdim=True).sqrt()
        self.mean.copy_(centre.view(self.mean.shape))
        self.std.copy_(spread.where(spread > 0, torch.ones_like(spread)).view(self.std.shape))

    def standardise(self, x: Tensor) -> Tensor:
        """(B, *shape), or (B, maps, *shape), to (B, maps or 1, *shape)."""
        x = (x - self.mean) / self.std
        return x[:, None] if self.maps is None else x
