"""The symmetries of a periodic cube, applied to vector fields on its lattice."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["transform"]


def transform(field: Tensor, axes: Sequence[int], flips: Sequence[bool], shift: int) -> Tensor:
    """One symmetry of the periodic cube, applied to vector fields.

    Args:
        field: (..., 3 m, n, n, n), m vector fields on top of each other.
        axes: new axis i is old axis axes[i].
        flips: which of the new axes are mirrored.
        shift: cells by which every axis is rolled first, in base n digit by digit.

    Returns:
        The same shape: positions moved, components permuted and their signs changed alike.
    """
    n, lead = field.shape[-1], field.ndim - 4
    cells = [shift // n**i % n for i in range(3)]
    space = [lead + 1 + i for i in range(3)]
    moved = torch.roll(field, cells, space)
    moved = moved.permute(*range(lead + 1), *(space[a] for a in axes))
    moved = moved.unflatten(lead, (-1, 3)).index_select(lead + 1, torch.tensor(axes))
    signs = torch.tensor([-1.0 if flip else 1.0 for flip in flips], dtype=field.dtype)
    moved = moved * signs.view(3, 1, 1, 1)
    mirrored = [axis + 1 for axis, flip in zip(space, flips, strict=True) if flip]
    return torch.flip(moved, mirrored).flatten(lead, lead + 1).contiguous()
