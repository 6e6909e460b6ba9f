"""Fields cut into patches, each of which a linear map turns into a token."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sbitools.errors import ConfigError

__all__ = ["Patches", "patch_sides", "token_grid"]

# Tokens of one field: what a patch is chosen for, and the most that a patch of the user's may
# leave, as the time of attention goes with their square.
_FEW_TOKENS = 512
_MAX_TOKENS = 1 << 14

# Cells of the largest patch that is chosen: the linear map of a larger one sees a scene, not a
# detail, and holds more weights than all layers after it.
_MAX_CELLS = 1 << 15

_Patch = int | Sequence[int] | None


def patch_sides(shape: tuple[int, ...], boundaries: tuple[str, ...], patch: _Patch) -> list[int]:
    """Cells per side of a patch, one number per axis.

    Args:
        shape: of one field.
        boundaries: one word per axis, see `axis_boundaries`.
        patch: for all axes (those that are shorter are one patch long), or one per axis. None
            takes the same for all axes: the smallest from 2 that leaves 512 tokens or less; if a
            number that is up to half larger divides all periodic axes, then the first such.

    Raises:
        ConfigError: for a patch that does not fit the field, one that leaves more than 16,384
            tokens, or none where more than 32^3 cells would have to be one patch.
    """
    if patch is None:
        sides = _chosen(shape, boundaries)
        if math.prod(sides) > _MAX_CELLS:
            raise _refused("None", shape, f"a field that patches of {_MAX_CELLS:,} cells or less "
                           f"cut into {_FEW_TOKENS} tokens")  # fmt: skip
        return sides
    sides = [min(patch, n) for n in shape] if isinstance(patch, int) else list(patch)
    fits = len(sides) == len(shape) and all(1 <= p <= n for p, n in zip(sides, shape, strict=True))
    if not fits or math.prod(token_grid(shape, sides)) > _MAX_TOKENS:
        raise _refused(repr(patch), shape, "one number of cells or one per axis, none longer than "
                       f"its axis, that leave {_MAX_TOKENS:,} tokens or less")  # fmt: skip
    return sides


def _chosen(shape: tuple[int, ...], boundaries: tuple[str, ...]) -> list[int]:
    def sides(p: int) -> list[int]:
        return [min(p, n) for n in shape]

    p = 2
    while math.prod(token_grid(shape, sides(p))) > _FEW_TOKENS:
        p += 1
    around = [n for n, word in zip(shape, boundaries, strict=True) if word == "periodic" and n > p]
    even = (q for q in range(p, 3 * p // 2 + 1) if not any(n % q for n in around))
    return sides(next(even, p))


def token_grid(shape: Sequence[int], sides: Sequence[int]) -> tuple[int, ...]:
    """Patches along each axis; the last may stick out."""
    return tuple(-(-n // p) for n, p in zip(shape, sides, strict=True))


def _refused(patch: str, shape: tuple[int, ...], expected: str) -> ConfigError:
    return ConfigError(
        "patch of a transformer", expected=expected, got=f"{patch} for a field of shape {shape}",
        fix="set patch, e.g. 8, or (4, 4, 16) with one number per axis; or coarsen the field in "
        "the observation model",
    )  # fmt: skip


class Patches(nn.Module):
    """Fields to tokens: disjoint patches, and one linear map for all of them.

    An axis that is no multiple of its patch is padded at its end: by the cells at its beginning
    if it is periodic, else by repeating its last cell.

    Args:
        shape: of one field, without channels.
        sides: cells per side of a patch, see `patch_sides`.
        boundaries: one word per axis.
        maps: number of fields in one simulation.
        width: of a token.
    """

    def __init__(
        self, shape: tuple[int, ...], sides: Sequence[int], boundaries: tuple[str, ...],
        maps: int, width: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.sides, self.grid = tuple(sides), token_grid(shape, sides)
        self.linear = nn.Linear(maps * math.prod(sides), width)
        self.padded: list[str] = [""] * len(shape)
        for axis, (n, p, word) in enumerate(zip(shape, sides, boundaries, strict=True)):
            if n % p:
                cells = torch.arange(self.grid[axis] * p)
                cells = cells % n if word == "periodic" else cells.clamp(max=n - 1)
                self.padded[axis] = f"cells_{axis}"
                self.register_buffer(self.padded[axis], cells, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, maps, *shape) to (B, T, width), the last axis the fastest."""
        for axis, name in enumerate(self.padded, start=2):
            if name:
                x = x.index_select(axis, getattr(self, name))
        axes = len(self.sides)
        cut = [n for pair in zip(self.grid, self.sides, strict=True) for n in pair]
        x = x.reshape(*x.shape[:2], *cut)
        order = [0, *range(2, 2 + 2 * axes, 2), 1, *range(3, 3 + 2 * axes, 2)]
        tokens = math.prod(self.grid)
        return self.linear(x.permute(order).reshape(len(x), tokens, self.linear.in_features))
