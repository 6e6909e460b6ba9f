"""What networks for fields on a grid share: the scale of their data."""

from __future__ import annotations

import torch
from torch import Tensor

from .moments import varies
from .scale import Scaled

__all__ = ["ScaledField", "pooled"]

# Cells of an evolving axis that vary less than this share of those that vary most are not blown
# up: their variation is rounding, or next to nothing.
_LEAST = 1e-3


class ScaledField(Scaled):
    """Takes out the mean and the standard deviation of the training data, one each per map.

    Along an axis on which the field evolves they are those of each cell: a light cone varies by a
    hundred mK where the gas is cold and by a few where it is ionised, and both are to be seen.
    Cells that never vary (a hole that is filled) neither count for these nor are seen.

    Args:
        shape: of one field, space alone.
        maps: fields in one simulation, on an axis before those of space; None if there is no such
            axis.
        evolving: which axis of space evolves, None if none does.
    """

    def __init__(self, shape: tuple[int, ...], maps: int | None, evolving: int | None) -> None:
        axes = len(shape)
        kept = [n if a == evolving else 1 for a, n in enumerate(shape)]
        several = () if maps is None else (maps,)
        super().__init__((*several, *kept), (*several, *shape))
        self.axes, self.maps = axes, maps
        self._over = [a - axes for a in range(axes) if a != evolving]

    def set_scale(self, mean: Tensor, std: Tensor, common: Tensor | None = None) -> None:
        """Mean and standard deviation of the training data per cell, in the shape of a field.

        Args:
            mean: of each cell.
            std: of each cell.
            common: cells that did not vary by chance, see `Moments`: they are used.
        """
        seen = varies(mean, std)
        if common is not None:
            seen = seen | common
        centre, spread = pooled(mean, std, seen, self._over)
        most = spread.amax(tuple(range(-self.axes, 0)), keepdim=True)
        self._assign(centre, spread.maximum(_LEAST * most), seen)

    def standardise(self, x: Tensor) -> Tensor:
        """(B, *shape), or (B, maps, *shape), to (B, maps or 1, *shape)."""
        x = super().standardise(x)
        return x[:, None] if self.maps is None else x


def pooled(mean: Tensor, std: Tensor, seen: Tensor, over: list[int]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of all values of the cells that are seen, float64.

    Args:
        mean: of each cell.
        std: of each cell.
        seen: cells that count; where none does, both are 0.
        over: axes that are pooled, and kept with length 1.
    """
    mean, std = (torch.where(seen, t.double(), 0.0) for t in (mean, std))
    if not over:  # an empty list of axes would be all of them
        return mean, std
    count = seen.sum(over, keepdim=True).clamp(min=1)
    centre = mean.sum(over, keepdim=True) / count
    square = torch.where(seen, std**2 + (mean - centre) ** 2, 0.0)
    return centre, (square.sum(over, keepdim=True) / count).sqrt()
