"""Which axes of a field are space, and which count channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sbitools.axes import SPACE
from sbitools.simulator import FieldSpec

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """Fields (B, *shape) as (B, channels, *space), axes in their order.

    Args:
        output: what a field is; its axes are space or count channels.
    """

    output: FieldSpec

    @property
    def space(self) -> tuple[int, ...]:
        """Cells along each axis of space."""
        return tuple(self.output.shape[i] for i in self.output.space)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What each axis of space is."""
        return tuple(self.output.kinds[i] for i in self.output.space)

    @property
    def periodic(self) -> tuple[bool, ...]:
        """Whether each axis of space closes on itself."""
        return tuple(kind == "periodic" for kind in self.kinds)

    @property
    def channels(self) -> int:
        """Fields of one simulation."""
        return int(np.prod([self.output.shape[i] for i in self._counting], dtype=int))

    @property
    def _counting(self) -> list[int]:
        return [i for i, kind in enumerate(self.output.kinds) if kind not in SPACE]

    def fold(self, x: np.ndarray) -> np.ndarray:
        """(B, *shape) to (B, channels, *space)."""
        order = [0, *(1 + i for i in self._counting), *(1 + i for i in self.output.space)]
        return x.transpose(order).reshape(len(x), self.channels, *self.space)

    def unfold(self, y: np.ndarray) -> np.ndarray:
        """Inverse of `fold`."""
        order = [*self._counting, *self.output.space]
        shape = [self.output.shape[i] for i in order]
        return y.reshape(len(y), *shape).transpose([0, *(1 + np.argsort(order))])
