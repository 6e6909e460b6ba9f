"""A transformer on patches, for fields of one to three axes.

Patches of a field are tokens (Dosovitskiy et al. 2020, arXiv:2010.11929) that attend to each
other in pre-norm blocks; the last ones are pooled to their mean and to means weighted by learned
attention. Such a network is the summary of 21cm light cones in SKATR (Ore et al. 2024,
arXiv:2410.18899). It reaches across the field in one step where a convolution needs many. Its time
and memory go with the number of tokens, that of attention with the square: small patches see more
and cost more.

Where a token is enters in two ways. Queries and keys are turned by angles that grow along the axes
(rotary position, Su et al. 2021, arXiv:2104.09864, section 3.2), so that attention depends on the
offset between two tokens. On a periodic axis every angle goes round a whole number of times, and
nothing else tells tokens apart: the features are those of the field shifted by whole patches, up
to rounding. On an open or evolving axis the tokens are also given their place, as cosines
cos(pi m s) of the position s in (0, 1): what is seen there may mean something else elsewhere.

The field's own power spectrum is given to the last layers, as in `FieldCNN`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sbitools.errors import ConfigError, ShapeError

from .field import axis_boundaries, evolving_axis
from .head import Head
from .patches import Patches, patch_sides, token_grid
from .power import SegmentStatistics
from .scale import Pairs
from .scaled import ScaledField

__all__ = ["FieldTransformer"]

_WIDTH = 8  # of a token, per channel
_MLP_RATIO = 2
_COSINES = 16  # along an axis that is not periodic, at most

# Numbers in one layer of the rows that are embedded at once without gradients: 64 MB.
_NUMBERS = 1 << 24


class FieldTransformer(ScaledField):
    """Fields to features.

    Args:
        shape: of one field, one to three axes.
        features: numbers that come out.
        channels: width of a token, times 8.
        boundary: ``"periodic"``, ``"open"`` or ``"evolving"``, one word for all axes or one each.
            Along periodic axes the features do not change when the field is shifted by whole
            patches, if these divide the axes; along the others the network knows where it is. Of
            an evolving axis each cell is scaled by itself, and the power spectrum is measured in
            up to 8 segments.
        maps: fields in one simulation, on an axis before those of `shape`; None if there is no
            such axis.
        patch: cells per side, for all axes or one per axis; None chooses, see `patch_sides`.
        depth: number of blocks.
        heads: of attention, in each block and in the pooling.

    Raises:
        ConfigError: if the boundary, the patch or the heads do not fit, or the field has no or
            too many axes.
    """

    def __init__(
        self, shape: tuple[int, ...], features: int, channels: int = 16,
        boundary: str | Sequence[str] = "periodic", maps: int | None = None,
        patch: int | Sequence[int] | None = None, depth: int = 4, heads: int = 4,
    ) -> None:  # fmt: skip
        if not 1 <= len(shape) <= 3:
            raise ConfigError(
                "transformer embedding", expected="fields of one to three axes",
                got=f"shape {tuple(shape)}", fix="choose another embedding",
            )  # fmt: skip
        words, inputs, width = axis_boundaries(boundary, len(shape)), maps or 1, _WIDTH * channels
        super().__init__(shape, maps, evolving_axis(words))
        self.n_features = features
        self.expected = tuple(shape) if maps is None else (maps, *shape)
        sides = patch_sides(shape, words, patch)
        grid = token_grid(shape, sides)
        pairs = _pairs(width, heads, grid)
        self.rows = max(1, _NUMBERS // (math.prod(grid) * max(3, _MLP_RATIO) * width))
        self.patches = Patches(shape, sides, words, inputs, width)
        self.place, self.turn = _Place(grid, words, width), _Turn(grid, words, pairs)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.scores = nn.Linear(width, heads, bias=False)
        self.given = SegmentStatistics(
            shape, inputs, evolving_axis(words), [w == "periodic" for w in words]
        )
        self.head = Head(
            self.given.n_few, self.given.n_features - self.given.n_few + 2 * width, features
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape), or (B, maps, *shape), to (B, n_features).

        Raises:
            ShapeError: for fields of another shape.
        """
        if x.shape[1:] != self.expected:
            wanted = ", ".join(map(str, self.expected))
            raise ShapeError(
                "fields for a transformer", expected=f"(batch, {wanted})",
                got=str(tuple(x.shape)), fix="build the network for the shape of these fields",
            )  # fmt: skip
        if torch.is_grad_enabled():
            return self.head(self.statistics(x))
        return torch.cat([self.head(self.statistics(rows)) for rows in x.split(self.rows)])

    def settle(self, batches: Pairs) -> tuple[Tensor, Tensor] | None:
        """See `Scaled.settle`."""
        return self.head.settle(
            (some, self.statistics(rows)) for u, x in batches()
            for some, rows in zip(u.split(self.rows), x.split(self.rows), strict=True)
        )  # fmt: skip

    def statistics(self, x: Tensor) -> Tensor:
        """Means over tokens, and the power of x: what the head sees."""
        # asinh is the identity for small fluctuations and tames the rare high peaks.
        x = self.standardise(x)
        tokens = self.place(self.patches(torch.asinh(x)))
        for block in self.blocks:
            tokens = block(tokens, self.turn.angles)
        tokens = self.norm(tokens)
        return torch.cat([self.given(x), *self._pool(tokens)], dim=1)

    def _pool(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Mean over tokens, and the mean that each head weighs for its part of the width."""
        shares = torch.softmax(self.scores(tokens).float(), dim=1)
        parts = tokens.float().unflatten(2, (shares.shape[2], -1))
        return tokens.float().mean(1), (shares[..., None] * parts).sum(1).flatten(1)


def _pairs(width: int, heads: int, grid: tuple[int, ...]) -> int:
    """Pairs of numbers in each head, that are turned together."""
    axes = sum(n > 1 for n in grid)
    if width % (2 * heads) or width // (2 * heads) < axes:
        raise ConfigError(
            "heads of a transformer", expected=f"a divisor of {width // 2}, half the width, that "
            f"leaves {axes} or more", got=str(heads), fix="e.g. heads=4 with channels=16",
        )  # fmt: skip
    return width // (2 * heads)


class _Place(nn.Module):
    """Adds to tokens (B, T, width) where they are along axes that are not periodic."""

    cosines: Tensor

    def __init__(self, grid: tuple[int, ...], boundaries: tuple[str, ...], width: int) -> None:
        super().__init__()
        columns = []
        for s, n, word in zip(_positions(grid), grid, boundaries, strict=True):
            if word != "periodic":
                m = torch.arange(1, min(n - 1, _COSINES) + 1)
                columns.append(torch.cos(math.pi * m * (s[:, None] + 0.5) / n))
        cosines = torch.cat(columns, dim=1).float() if columns else torch.empty(0, 0)
        self.register_buffer("cosines", cosines, persistent=False)
        self.linear = nn.Linear(cosines.shape[1], width) if cosines.numel() else None

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens if self.linear is None else tokens + self.linear(self.cosines)


class _Turn(nn.Module):
    """Cosines and sines of the angles by which queries and keys are turned, (2, T, pairs).

    The pairs are shared out among the axes. Angles are 2 pi k i / n for token i of n on a periodic
    axis, k a whole number up to n / 2, so that they are the same after n; and half of that, with
    k up to n - 1, on the others, whose ends must not look like neighbours. Pairs that are left are
    not turned: they compare what tokens hold wherever they are.
    """

    angles: Tensor

    def __init__(self, grid: tuple[int, ...], boundaries: tuple[str, ...], pairs: int) -> None:
        super().__init__()
        share = pairs // max(1, sum(n > 1 for n in grid))
        angle = torch.zeros(math.prod(grid), pairs, dtype=torch.float64)
        used = 0
        for s, n, word in zip(_positions(grid), grid, boundaries, strict=True):
            top, unit = (n // 2, 2 * math.pi) if word == "periodic" else (n - 1, math.pi)
            waves = torch.tensor(_spread(top, share), dtype=torch.float64)
            angle[:, used : used + len(waves)] = unit * waves * s[:, None] / n
            used += len(waves)
        table = torch.stack([angle.cos(), angle.sin()]).float()
        self.register_buffer("angles", table, persistent=False)


def _positions(grid: tuple[int, ...]) -> list[Tensor]:
    """Index along each axis of every token, float64."""
    index = torch.meshgrid(*[torch.arange(n).double() for n in grid], indexing="ij")
    return [i.flatten() for i in index]


def _spread(top: int, n: int) -> list[int]:
    """Up to n whole numbers from 1 to `top`, each about the same factor above the one before."""
    out: list[int] = []
    for j in range(min(n, top)):
        least = out[-1] + 1 if out else 1
        out.append(max(least, round(top ** (j / max(1, n - 1)))))
    return out


class _Block(nn.Module):
    """Attention and a perceptron, each after a normalisation and beside the identity."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inward, self.outward = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.first = nn.Linear(width, _MLP_RATIO * width)
        self.second = nn.Linear(_MLP_RATIO * width, width)
        nn.init.zeros_(self.outward.weight)  # starts as the identity
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        """(B, T, width) to the same."""
        split = self.inward(self.before(x)).unflatten(2, (3, self.heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each (B, heads, T, width / heads)
        query, key = (_rotate(t, angles).to(value.dtype) for t in (query, key))
        mixed = F.scaled_dot_product_attention(query, key, value)
        x = x + self.outward(mixed.transpose(1, 2).flatten(2))
        return x + self.second(F.gelu(self.first(self.between(x))))


def _rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn the pairs of x (..., T, 2 * pairs), the number i with the number i + pairs."""
    cos, sin = angles
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
