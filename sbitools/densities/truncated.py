"""Truncated normal variables to standard normal ones and back, exact in the far tails.

v = Phi^-1((Phi(z) - Phi(a)) / (Phi(b) - Phi(a))) for a < z < b, by logarithms of Phi, on the
side of zero on which these lose no digits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["from_truncated", "log_mass", "to_truncated"]

_HALF = math.log(0.5)
_ROUNDS = 12  # of Newton's method, whose error is squared each time


def log_mass(a: Tensor, b: Tensor) -> Tensor:
    """log(Phi(b) - Phi(a)), float64, for a < b."""
    upper = a + b > 0
    low, high = torch.where(upper, -b, a), torch.where(upper, -a, b)
    log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    return log_high + torch.log(-torch.expm1((log_low - log_high).clamp(max=-1e-300)))


def from_truncated(z: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Standard normal values of z, which are normal but for lying between a and b, float64."""
    whole = log_mass(a, b)
    below, above = log_mass(a, z) - whole, log_mass(z, b) - whole
    return torch.where(below < above, _quantile(below), -_quantile(above))


def to_truncated(v: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Inverse of `from_truncated`."""
    whole = log_mass(a, b)
    below = torch.logaddexp(torch.special.log_ndtr(a), torch.special.log_ndtr(v) + whole)
    above = torch.logaddexp(torch.special.log_ndtr(-b), torch.special.log_ndtr(-v) + whole)
    z = torch.where(below < above, _quantile(below), -_quantile(above))
    return torch.minimum(torch.maximum(z, a), b)


def _quantile(log_p: Tensor) -> Tensor:
    """x for which log Phi(x) is `log_p`, at most log 1/2; that of log 1/2 where it is larger."""
    log_p = log_p.clamp(-1e6, _HALF)
    square = -2 * log_p - math.log(2 * math.pi)
    x = -(square - square.clamp(min=1).log()).clamp(min=0).sqrt()
    for _ in range(_ROUNDS):
        log = torch.special.log_ndtr(x)
        slope = torch.exp(-0.5 * x**2 - 0.5 * math.log(2 * math.pi) - log)
        x = (x - (log - log_p) / slope).clamp(max=0)
    return x
