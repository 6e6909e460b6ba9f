"""Curves along a data vector: how smooth they are, the data say.

References:
    | Some comments on C_p (Mallows 1973); a perfect smoother (Eilers 2003)
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Smoother", "neighbours"]

_STRENGTHS = tuple(10.0 ** (k / 2) for k in range(-4, 14))
_LEAST = 6  # entries in a row from which on there is a curve


def neighbours(index: Tensor, length: int, kind: Tensor) -> Tensor:
    """Second differences (K, n) of entries that follow each other along the last axis.

    Args:
        index: places (n,) of the entries in the flattened vector, ascending.
        length: of its last axis.
        kind: of each entry, (n,): those of different kinds are no neighbours.
    """
    n = len(index)
    out = torch.zeros(max(n - 2, 0), n, dtype=torch.float64)
    if n < 3 or length < _LEAST:
        return out[:0]
    first = torch.arange(n - 2)
    out[first, first], out[first, first + 1], out[first, first + 2] = 1.0, -2.0, 1.0
    row = index // length
    together = (index[2:] - index[:-2] == 2) & (row[2:] == row[:-2])
    alike = (kind[2:] == kind[:-2]) & (kind[1:-1] == kind[:-2])
    return out[together & alike]


class Smoother:
    """Curves with known noise to smoother ones, as far as that noise allows.

    Args:
        differences: (K, n), see `neighbours`.
        unit: of each entry, (n,): curves are smooth after multiplication by it.
    """

    def __init__(self, differences: Tensor, unit: Tensor) -> None:
        self.unit = unit
        self.penalty = differences.T @ differences if len(differences) >= _LEAST - 2 else None

    def __call__(self, curves: Tensor, noise: Tensor) -> Tensor:
        """The smooth parts of curves (K, n) with independent errors `noise` (n,)."""
        if self.penalty is None or not len(curves):
            return curves
        scale = (noise * self.unit).clamp(min=1e-150)
        scale = scale / scale.median()
        # In units of the noise, curves are sums of modes from smooth to rough.
        roughness, modes = torch.linalg.eigh(scale[:, None] * self.penalty * scale)
        seen = (curves / noise.clamp(min=1e-150)) @ modes
        strength = torch.tensor(_STRENGTHS, dtype=curves.dtype)[:, None]
        share = 1 / (1 + strength * roughness.clamp(min=0))
        risk = seen**2 @ ((1 - share) ** 2).T + 2 * share.sum(1)
        best = share[risk.argmin(1)]
        best = torch.where(risk.min(1, keepdim=True).values < 2 * len(noise), best, 1.0)
        return (seen * best) @ modes.T * noise
