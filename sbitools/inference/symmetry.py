"""Symmetries of cubes and light cones, as augmentation of statistically isotropic fields."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

__all__ = ["LINE_OF_SIGHT", "Symmetry", "random_symmetry"]

Symmetry = Literal["none", "cube", "sky"]

LINE_OF_SIGHT = "los"
"""Name of an axis along which fields evolve: mirrored, they are no longer what they were."""


def random_symmetry(x: Tensor, rng: torch.Generator, kind: Symmetry = "cube") -> Tensor:
    """Permute and flip the axes of a batch (B, n, ..., n), one element of the group for all.

    Only axes of equal length are exchanged.

    Args:
        x: fields.
        rng: what it is drawn from.
        kind: ``"sky"`` leaves the last axis as it is.
    """
    axes = x.ndim - 1 - (kind == "sky")
    order = torch.randperm(axes, generator=rng).tolist()
    flips = torch.rand(axes, generator=rng) < 0.5
    if len(set(x.shape[1 : 1 + axes])) == 1:
        x = x.permute(0, *(1 + a for a in order), *range(1 + axes, x.ndim))
    chosen = [1 + a for a in range(axes) if flips[a]]
    return x.flip(chosen) if chosen else x
