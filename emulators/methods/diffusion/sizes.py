"""How large a network is, and how long it is trained: from the field and its simulations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Sizes", "choose_sizes", "padded"]

# By the number of axes: cells of the finest level, at most, and channels of every level. A step on
# a batch of 16 then takes about 0.1 s of one core that multiplies bfloat16.
_CELLS = {1: 1024, 2: 1024, 3: 4096}
_WIDTHS = {1: (48, 64, 96, 128), 2: (48, 64, 96), 3: (32, 48, 64)}
_PATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
_LONGER = 1.6  # times the cells there are, padding included, at most
_MARGIN = 8  # cells that a periodic axis goes on for, where it has to be made longer


@dataclass(frozen=True)
class Sizes:
    """Of a U-Net.

    Args:
        widths: channels of each level, finest first.
        blocks: residual blocks per level and way.
        patch: cells per side that are one cell of the finest level.
    """

    widths: tuple[int, ...]
    blocks: int = 1
    patch: int = 1

    @property
    def multiple(self) -> int:
        """What the network needs axes to be multiples of."""
        return self.patch * 2 ** (len(self.widths) - 1)


def padded(n: int, multiple: int, periodic: bool) -> int:
    """Cells of an axis of n cells, as the network sees it."""
    rest = n % multiple
    if not rest:
        return n
    least = n + 2 * min(_MARGIN, n) if periodic else n
    return -(-least // multiple) * multiple


def choose_sizes(
    space: Sequence[int], periodic: Sequence[bool], widths: Sequence[int] | None = None,
    patch: int | None = None, blocks: int = 1,
) -> Sizes:  # fmt: skip
    """What is not given is chosen so that 256 fields are learned within 20 minutes on two cores.

    Args:
        space: cells along each axis.
        periodic: whether each closes on itself.
        widths: as given, or None.
        patch: as given, or None.
        blocks: per level and way.
    """
    most, usual = _CELLS[len(space)], tuple(widths or _WIDTHS[len(space)])
    if patch is None:
        merged = [p for p in _PATCHES if np.prod([-(-n // p) for n in space]) <= most]
        patch = merged[0] if merged else _PATCHES[-1]
    if widths is not None:
        return Sizes(usual, blocks, patch)
    for levels in range(len(usual), 0, -1):
        sizes = Sizes(usual[:levels], blocks, patch)
        seen = [padded(n, sizes.multiple, p) for n, p in zip(space, periodic, strict=True)]
        if np.prod(seen) <= _LONGER * np.prod(space) and min(seen) >= 2 * sizes.multiple:
            return sizes
    return Sizes(usual[:1], blocks, patch)
