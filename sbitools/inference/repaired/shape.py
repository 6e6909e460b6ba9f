"""The sinh-arcsinh family: how normal scores of truths are distributed, in four numbers.

A score s of a truth is s = shift + width sinh((asinh(z) + skew) / tail) with z standard normal
(Jones & Pewsey 2009, "Sinh-arcsinh distributions", Biometrika 96, 761). An exact posterior has
shift 0, width 1, skew 0, tail 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["ScoreShape"]


@dataclass(frozen=True)
class ScoreShape:
    """One distribution of the family for each parameter.

    Args:
        numbers: shift, log width, skew and log tail, shape (P, 4).
    """

    numbers: np.ndarray

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """s (..., P) and log ds/dz (..., P) of z (..., P)."""
        shift, log_width, skew, log_tail = torch.from_numpy(self.numbers).T
        inner = (torch.asinh(z) + skew) * torch.exp(-log_tail)
        slope = log_width - log_tail + _log_cosh(inner) - 0.5 * torch.log1p(z**2)
        return shift + torch.exp(log_width) * torch.sinh(inner), slope

    def inverse(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """z (..., P) and log dz/ds (..., P) of s (..., P)."""
        shift, log_width, skew, log_tail = torch.from_numpy(self.numbers).T
        y = (s - shift) * torch.exp(-log_width)
        inner = torch.exp(log_tail) * torch.asinh(y) - skew
        slope = log_tail - log_width + _log_cosh(inner) - 0.5 * torch.log1p(y**2)
        return torch.sinh(inner), slope


def _log_cosh(x: Tensor) -> Tensor:
    return x.abs() + torch.log1p(torch.exp(-2 * x.abs())) - float(np.log(2.0))
