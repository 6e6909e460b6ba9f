"""The symmetries of a cube, as augmentation of statistically isotropic fields."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["random_cube_symmetry"]


def random_cube_symmetry(x: Tensor, rng: torch.Generator) -> Tensor:
    """Permute and flip the axes of a batch (B, n, ..., n), one element of the group for all.

    Only axes of equal length are exchanged.
    """
    axes = x.ndim - 1
    order = torch.randperm(axes, generator=rng).tolist()
    flips = torch.rand(axes, generator=rng) < 0.5
    if len(set(x.shape[1:])) == 1:
        x = x.permute(0, *(1 + a for a in order))
    chosen = [1 + a for a in range(axes) if flips[a]]
    return x.flip(chosen) if chosen else x
