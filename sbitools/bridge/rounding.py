"""Theta in float32, as other packages keep them, and the ends of a prior's support.

0.3 in float32 is 0.30000001: a foreign draw at the upper end of Uniform(0, 0.3) lies beyond it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbitools.parameters import ParameterSpace

__all__ = ["ends", "from_single", "in_order", "shortest", "to_single"]

# Rounding errors of float32 at a bound, in parts of the bound.
_ROUNDING = 4 * torch.finfo(torch.float32).eps


def ends(space: ParameterSpace) -> tuple[Tensor, Tensor]:
    """Lower and upper ends of the support of each parameter, float64, shape (P,)."""
    laws: list[Any] = [p.prior for p in space]
    found = torch.tensor([(law.low, law.high) for law in laws], dtype=torch.float64)
    found = found.reshape(-1, 2)
    return found[:, 0], found[:, 1]


def in_order(space: ParameterSpace) -> bool:
    """Whether parameters bound each other: the support is then less than all their intervals."""
    return any(block.prior.rule for block in space.blocks)


def from_single(theta: Tensor, space: ParameterSpace) -> Tensor:
    """Theta (..., P) as float64; what only rounding put outside the support is at its end."""
    theta, (low, high) = theta.double(), ends(space)
    held = torch.minimum(torch.maximum(theta, low), high)
    near = (held - theta).abs() <= _ROUNDING * torch.maximum(held.abs(), theta.abs())
    return torch.where(near, held, theta)


def to_single(theta: Tensor, space: ParameterSpace) -> Tensor:
    """Theta (..., P) as float32; what is inside the support stays inside."""
    single, (low, high) = theta.float(), ends(space)
    far = torch.full_like(single, torch.inf)
    up = (single.double() < low) & (theta >= low)
    down = (single.double() > high) & (theta <= high)
    single = torch.where(up, torch.nextafter(single, far), single)
    return torch.where(down, torch.nextafter(single, -far), single)


def shortest(value: float) -> float:
    """The decimal number that was meant by a number of float32: 0.1 for 0.10000000149."""
    single = np.float32(value)
    return float(str(single)) if float(single) == float(value) else float(value)
