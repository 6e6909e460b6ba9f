"""Draws of many observations, a piece at a time."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["assemble", "pieces"]

# Rows of (observation, draw) that go through the flow at once: few enough for their activations,
# 4 MB a layer, to stay in a processor's cache, and many enough for its operations to be long.
_ROWS = 1 << 14


def pieces(batch: int, n: int) -> list[tuple[slice, int, int]]:
    """(rows, first draw, last draw + 1) of pieces of at most `_ROWS` draws."""
    per = max(1, min(batch, _ROWS // max(n, 1)))
    step = n if n <= _ROWS else _ROWS
    return [
        (slice(b, min(b + per, batch)), d, min(d + step, n))
        for b in range(0, batch, per)
        for d in range(0, n, max(step, 1))
    ]


def assemble(parts: list[Tensor], batch: int, n: int, *last: int) -> Tensor:
    """Pieces in the order of `pieces`, as float64 of shape (batch, n, *last)."""
    out = torch.empty((batch, n, *last), dtype=torch.float64)
    for (rows, start, stop), part in zip(pieces(batch, n), parts, strict=True):
        out[rows, start:stop] = part.double().cpu()
    return out
