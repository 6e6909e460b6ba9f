"""The simulations that maps without a network are fitted to, in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from torch import Tensor

from .layout import Layout
from .suits import FEWEST

if TYPE_CHECKING:
    from sbitools.store import SimulationStore

__all__ = ["Simulations"]

_FITTED = 1 << 26  # bytes of cells of one kind


@dataclass(frozen=True)
class Simulations:
    """Some of those in a store.

    Args:
        x: fields (n, *shape).
        theta: their parameters, (n, P).
        source: what they follow from, (n, *source.shape), or None.
    """

    x: np.ndarray
    theta: Tensor
    source: np.ndarray | None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, part: slice) -> Self:
        source = None if self.source is None else self.source[part]
        return type(self)(self.x[part], self.theta[part], source)

    @classmethod
    def read(cls, store: SimulationStore, layout: Layout, source: Layout | None) -> Self:
        """As many as memory allows, from all over the store."""
        cells = layout.channels * int(np.prod(layout.space))
        if source is not None:  # on the grid of the field, values and what is 0
            cells += 4 * source.channels * int(np.prod(layout.space))
        done = store.done
        rows = done[:: -(-len(done) // max(FEWEST, _FITTED // (8 * cells)))]

        def fields(what: str) -> np.ndarray:
            return np.concatenate([store.read([row], what).numpy() for row in rows])

        return cls(fields("x"), store.theta[rows], None if source is None else fields("source"))
