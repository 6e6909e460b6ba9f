"""Channels of fields to those that are about normal: values, and where they are exactly 0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .marginal import Marginal, fit_marginal
from .zeros import filled, signed_depth

__all__ = ["cell_map", "inner_channels", "outer_channels"]

_CELLS = 2048  # of each channel and simulation, that its map is chosen by


def cell_map(x: np.ndarray, held: np.ndarray) -> Marginal:
    """The map of one channel, of fields (n, *space) of which some are `held` out, (n,)."""
    cells = x.reshape(len(x), -1)
    if cells.shape[1] > _CELLS:
        rng = np.random.default_rng(0)
        cells = cells[:, np.sort(rng.choice(cells.shape[1], _CELLS, replace=False))]
    cells = cells.astype(np.float64)
    found = fit_marginal(cells[~held], cells[held])
    return found.reaching(x)


def inner_channels(
    folded: np.ndarray, marginals: Sequence[Marginal], periodic: Sequence[bool]
) -> np.ndarray:
    """Channels (C, *n) of one field to those that are about normal, (K, *n)."""
    out = []
    for m, x in zip(marginals, folded, strict=True):
        y = m.forward(x)
        if not m.zeros:
            out.append(y)
            continue
        empty = x == 0
        mean = float(y[~empty].mean()) if not empty.all() else 0.0
        out.append(filled(y - mean, empty, periodic) + mean)
        out.append(signed_depth(empty, periodic))
    return np.stack(out)


def outer_channels(
    inner: np.ndarray, marginals: Sequence[Marginal], edges: np.ndarray
) -> np.ndarray:
    """Inverse of `inner_channels`, (K, *n) to (C, *n)."""
    out, rest = [], iter(inner)
    for m, edge in zip(marginals, edges, strict=True):
        x = m.inverse(next(rest))
        out.append(np.where(next(rest) > edge, 0.0, x) if m.zeros else x)
    return np.stack(out)
