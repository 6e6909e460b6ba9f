"""Quantiles of cells, and of steps between neighbours: what power says badly of skewed fields."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["N_QUANTILES", "cell_quantiles"]

_CELLS = (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)
_STEPS = (0.5, 0.9)
_MOST = 1 << 13  # cells or steps that are sorted; of more, every other one or fewer
_LEAST = 1e-3

N_QUANTILES = len(_CELLS) + len(_STEPS)
"""Numbers that each map gives."""


@torch.no_grad()
def cell_quantiles(x: Tensor, periodic: Sequence[bool]) -> Tensor:
    """Of fields (B, maps, *shape) of about unit size, to (B, maps N_QUANTILES).

    Half the cells differ from their neighbours by less than a number that says how much noise
    there is, however many peaks lie upon it. No gradients pass: nothing in it is learned.

    Args:
        x: fields.
        periodic: whether each axis closes on itself, so that its ends are neighbours.
    """
    steps = [
        (x.roll(-1, axis) - x if around else torch.diff(x, dim=axis)).flatten(2)
        for axis, around in enumerate(periodic, start=2) if x.shape[axis] > 1
    ]  # fmt: skip
    size = _quantiles(torch.cat(steps, 2).abs(), _STEPS) if steps else x.new_zeros(
        *x.shape[:2], len(_STEPS)
    )  # fmt: skip
    cells = torch.asinh(_quantiles(x.flatten(2), _CELLS))
    return torch.cat([cells, torch.log(size + _LEAST)], 2).flatten(1)


def _quantiles(values: Tensor, shares: tuple[float, ...]) -> Tensor:
    n = values.shape[2]
    ordered = values[:, :, :: -(-n // _MOST)].float().sort(2).values
    last = ordered.shape[2] - 1
    return ordered[:, :, [round(share * last) for share in shares]]
