"""The shape of one-dimensional residuals: skewness and tails.

References:
    | Sinh-arcsinh distributions (Jones & Pewsey 2009, Biometrika 96, 761)
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Shape"]

_MOST_SKEWED, _TAILS = 1.0, (-0.7, 0.7)  # of ln delta
_ROWS = 5000
_STEPS = 30
_NODES, _WEIGHTS = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(40))


class Shape(nn.Module):
    """e of mean 0 and variance 1 from a standard normal z, entry by entry.

    Args:
        n: number of entries.
    """

    skew: Tensor
    tail: Tensor

    def __init__(self, n: int) -> None:
        super().__init__()
        self.register_buffer("skew", torch.zeros(n, dtype=torch.float64))
        self.register_buffer("tail", torch.zeros(n, dtype=torch.float64))

    @classmethod
    def fit(cls, e: Tensor, own: bool) -> Shape:
        """The most likely shape of residuals e (N, n): one for all entries, or each its own."""
        shape = cls(e.shape[1])
        e = e[:: -(-len(e) // _ROWS)]
        free = torch.zeros(2, e.shape[1] if own else 1, dtype=e.dtype, requires_grad=True)
        search = torch.optim.LBFGS([free], max_iter=_STEPS, line_search_fn="strong_wolfe")

        def limited() -> tuple[Tensor, Tensor]:
            wide = free.expand(2, e.shape[1])
            low, high = _TAILS
            return _MOST_SKEWED * wide[0].tanh(), high * (wide[1] / high).tanh() + 0 * low

        def closure() -> Tensor:
            search.zero_grad()
            loss = -_log_density(e, *limited()).sum() / e.numel()
            loss.backward()
            return loss

        with torch.enable_grad():
            search.step(closure)
        skew, tail = limited()
        if bool(torch.isfinite(skew).all() & torch.isfinite(tail).all()):
            shape.skew.copy_(skew.detach())
            shape.tail.copy_(tail.detach())
        return shape

    def forward(self, z: Tensor) -> Tensor:
        """e (N, n) of z (N, n)."""
        mean, sd = _moments(self.skew, self.tail)
        return (((z.asinh() + self.skew) / self.tail.exp()).sinh() - mean) / sd

    def normal(self, e: Tensor) -> Tensor:
        """Inverse of `forward`."""
        return _normal(e, self.skew, self.tail)[0]

    def log_density(self, e: Tensor) -> Tensor:
        """Log density of e (N, n), entry by entry."""
        return _log_density(e, self.skew, self.tail)


def _normal(e: Tensor, skew: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
    """z, and log dz/de."""
    mean, sd = _moments(skew, tail)
    y = mean + sd * e
    inner = tail.exp() * y.asinh() - skew
    slope = sd.log() + tail + inner.cosh().log() - 0.5 * torch.log1p(y**2)
    return inner.sinh(), slope


def _log_density(e: Tensor, skew: Tensor, tail: Tensor) -> Tensor:
    z, slope = _normal(e, skew, tail)
    return -0.5 * z**2 - 0.5 * math.log(2 * math.pi) + slope


def _moments(skew: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of sinh((asinh z + skew) / delta), by quadrature."""
    nodes, weights = _NODES, _WEIGHTS / _WEIGHTS.sum()
    nodes, weights = nodes.to(skew), weights.to(skew)
    y = ((nodes[:, None].asinh() + skew) / tail.exp()).sinh()
    mean = weights @ y
    return mean, (weights @ (y - mean) ** 2).sqrt()
