"""The members of a set in an order that does not depend on how they came.

A set has no order, but sums have one, and so do the rows of a matrix product: their last digits
differ. Put in an order that is made of the members alone, they do not.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["in_own_order", "own_order", "reordered"]

# Odd, so that multiplying by it loses nothing modulo 2^64 (Knuth 1997, section 6.4: the golden
# ratio); as int64.
_MULTIPLIER = 0x9E3779B97F4A7C15 - (1 << 64)


def own_order(x: Tensor, there: Tensor | None = None) -> Tensor:
    """Numbers (B, n) of the members x (B, n, ...) of each set, by what the members' bits say.

    Args:
        x: members, of any real dtype.
        there: (B, n), False for padding, whose values do not matter and which comes last.
    """
    with torch.no_grad():
        bits = x.detach().double().reshape(*x.shape[:2], -1).contiguous().view(torch.int64)
        bits = bits ^ (bits >> 29)  # float32 leaves the last 29 bits empty
        weights = (2 * torch.arange(bits.shape[2], device=x.device) + 1) * _MULTIPLIER
        key = (bits * weights).sum(2)
        key = key ^ (key >> 32)
        if there is not None:
            key = torch.where(there, key, torch.iinfo(torch.int64).max)
        return key.argsort(dim=1, stable=True)


def reordered(x: Tensor, order: Tensor) -> Tensor:
    """Members x (B, n, ...) in an order (B, n)."""
    return x.gather(1, order.view(*order.shape, *[1] * (x.ndim - 2)).expand_as(x))


def in_own_order(x: Tensor, there: Tensor | None = None) -> Tensor:
    """Members in their `own_order`: the same for sets that differ in the order alone."""
    return reordered(x, own_order(x, there))
