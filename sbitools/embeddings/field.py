"""A residual convolutional network for fields of one to three axes.

Every level is pooled to the mean and the log-variance of its channels, so that the features hold
one-point and two-point statistics of learned filters on every scale; the network is invariant
under translations by its coarsest cell, as a homogeneous field wants. The field's own power
spectrum and quantiles are given to the last layers as well: a network learns them slowly, they
carry much of what a homogeneous field says, and parameters are guessed from them before training
begins (`Head`). Along an axis on which the field evolves (the line of sight of a
light cone) all of this is pooled in segments, so that the features know where they are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sbitools.errors import ConfigError
from sbitools.networks.convolution import PaddedConv

from .head import Head
from .power import SEGMENTS, SegmentStatistics, typical_size
from .scale import Pairs
from .scaled import ScaledField

__all__ = ["FieldCNN", "axis_boundaries", "evolving_axis"]

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_MAX_CHANNELS = 64
_BOUNDARIES = ("periodic", "open", "evolving")

# Numbers in the first level's activations of one field. Training holds some ten times as many for
# each field of a batch: larger fields are merged into patches before the first level.
_MAX_ACTIVATIONS = 1 << 22


def axis_boundaries(boundary: str | Sequence[str], axes: int) -> tuple[str, ...]:
    """One word per axis.

    Args:
        boundary: ``"periodic"``, ``"open"`` or ``"evolving"``, for all axes or one per axis.
        axes: how many there are.

    Raises:
        ConfigError: for another word, the wrong number of them, or two evolving axes.
    """
    words = (boundary,) * axes if isinstance(boundary, str) else tuple(boundary)
    known = len(words) == axes and all(word in _BOUNDARIES for word in words)
    if not known or words.count("evolving") > 1:
        raise ConfigError(
            "boundary",
            expected=f"one of {', '.join(_BOUNDARIES)}, or one for each of {axes} axes, with one "
            "evolving axis at most",
            got=repr(boundary), fix="e.g. ['periodic', 'periodic', 'evolving'] for a light cone",
        )  # fmt: skip
    return words


def evolving_axis(boundaries: tuple[str, ...]) -> int | None:
    """Which axis evolves, None if none does."""
    return boundaries.index("evolving") if "evolving" in boundaries else None


class FieldCNN(ScaledField):
    """Fields to features.

    Args:
        shape: of one field, one to three axes.
        features: numbers that come out.
        channels: width at full resolution; it doubles with every level, up to 64.
        boundary: ``"periodic"`` wraps around, ``"open"`` pads with zeros, ``"evolving"`` does
            too, scales each cell of that axis by itself and pools in up to 8 segments along it;
            one word for all axes, or one each.
        maps: fields in one simulation, on an axis before those of `shape`; None if there is no
            such axis.
        patch: cells per side that the first convolution merges into one, for all axes (those that
            are shorter are one patch long) or one number per axis; None takes 1, or the power of
            two with which the first level has 4 million numbers per field at most. The power
            spectrum is that of the field itself.

    Raises:
        ConfigError: if the boundary or the patch does not fit the axes, or the field has no or
            too many axes.
    """

    def __init__(
        self, shape: tuple[int, ...], features: int, channels: int = 16,
        boundary: str | Sequence[str] = "periodic", maps: int | None = None,
        patch: int | Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        if len(shape) not in _CONV:
            raise ConfigError(
                "convolutional embedding", expected="fields of one to three axes",
                got=f"shape {tuple(shape)}", fix="choose another embedding",
            )  # fmt: skip
        words = axis_boundaries(boundary, len(shape))
        axis = evolving_axis(words)
        super().__init__(shape, maps, axis)
        self.n_features = features
        self.evolving = None if axis is None else 2 + axis
        self.patch = _sides(shape, _patch(shape, channels) if patch is None else patch)
        sizes = [[-(-n // p) for n, p in zip(shape, self.patch, strict=True)]]
        levels = max(1, int(math.log2(max(2, typical_size(tuple(sizes[0]))))) - 1)
        for _ in range(levels - 1):  # the coarsest has about 4 cells per side or less
            sizes.append([-(-n // 2) for n in sizes[-1]])
        widths = [min(channels << i, max(channels, _MAX_CHANNELS)) for i in range(levels)]
        inputs = maps or 1
        if max(self.patch) > 1:
            self.stem = _Patches(inputs, widths[0], self.patch, words)
        else:
            self.stem = PaddedConv(inputs, widths[0], 3, words)
        self.blocks = nn.ModuleList(_Residual(w, words) for w in widths)
        self.widen = nn.ModuleList(
            PaddedConv(a, b, 1, words) for a, b in itertools.pairwise(widths)
        )
        segments = [self._segments(size) for size in sizes]
        self.given = SegmentStatistics(shape, inputs, axis, [w == "periodic" for w in words])
        pooled = 2 * sum(w * s for w, s in zip(widths, segments, strict=True))
        self.head = Head(
            self.given.n_few, self.given.n_features - self.given.n_few + pooled, features
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape), or (B, maps, *shape), to (B, n_features)."""
        return self.head(self.statistics(x))

    def statistics(self, x: Tensor) -> Tensor:
        """What is pooled from every level, and the power of x: what the head sees."""
        # asinh is the identity for small fluctuations and tames the rare high peaks.
        x = self.standardise(x)
        y = torch.asinh(x)
        if self.axes == 3:
            y = y.contiguous(memory_format=torch.channels_last_3d)
        y = F.silu(self.stem(y))
        pooled = [self.given(x)]
        for i, block in enumerate(self.blocks):
            y = block(y)
            pooled += self._pool(y)
            if i < len(self.widen):
                y = self.widen[i](_POOL[self.axes](y, 2, ceil_mode=True))
        return torch.cat(pooled, dim=1)

    def settle(self, batches: Pairs) -> tuple[Tensor, Tensor] | None:
        """See `Scaled.settle`."""
        return self.head.settle((u, self.statistics(x)) for u, x in batches())

    def _segments(self, shape: Sequence[int]) -> int:
        return 1 if self.evolving is None else min(SEGMENTS, shape[self.evolving - 2])

    def _pool(self, y: Tensor) -> list[Tensor]:
        if self.evolving is None:
            parts = [y[:, :, None]]
        else:
            n, segments = y.shape[self.evolving], self._segments(y.shape[2:])
            if n % segments == 0:  # all at once
                parts = [y.unflatten(self.evolving, (segments, -1)).movedim(self.evolving, 2)]
            else:
                parts = [part[:, :, None] for part in y.tensor_split(segments, self.evolving)]
        out = []
        for part in parts:  # (B, C, segments, ...)
            cells = part.flatten(3).float()
            mean = cells.mean(3, keepdim=True)
            variance = (cells - mean).square().mean(3)
            out += [mean.flatten(1), torch.log(variance + 1e-4).flatten(1)]
        return out


def _patch(shape: tuple[int, ...], channels: int) -> int:
    patch = 1
    while math.prod(-(-n // patch) for n in shape) * channels > _MAX_ACTIVATIONS:
        patch *= 2
    return patch


def _sides(shape: tuple[int, ...], patch: int | Sequence[int]) -> tuple[int, ...]:
    """Of a patch, one number per axis."""
    sides = tuple(min(patch, n) for n in shape) if isinstance(patch, int) else tuple(patch)
    if len(sides) != len(shape) or not all(1 <= p <= n for p, n in zip(sides, shape, strict=True)):
        raise ConfigError(
            "patch of a CNN", expected="one number of cells, or one per axis and none longer than "
            "its axis", got=f"{patch} for a field of shape {shape}", fix="e.g. patch=2",
        )  # fmt: skip
    return sides


class _Patches(nn.Module):
    """Boxes of cells become one cell each.

    A box that sticks out goes round a periodic axis, and repeats the last cell of another.
    """

    def __init__(
        self, a: int, b: int, sides: tuple[int, ...], boundaries: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.sides, self.boundaries = sides, boundaries
        self.conv = _CONV[len(sides)](a, b, sides, stride=sides)

    def forward(self, x: Tensor) -> Tensor:
        for axis, (p, word) in enumerate(zip(self.sides, self.boundaries, strict=True), start=2):
            n, missing = x.shape[axis], -x.shape[axis] % p
            if missing:
                first, count = (0, missing) if word == "periodic" else (n - 1, 1)
                more = x.narrow(axis, first, count)
                x = torch.cat([x, *[more] * (missing // count)], dim=axis)
        return self.conv(x)


class _Residual(nn.Module):
    def __init__(self, width: int, boundaries: tuple[str, ...]) -> None:
        super().__init__()
        self.first = PaddedConv(width, width, 3, boundaries)
        self.second = PaddedConv(width, width, 3, boundaries)
        nn.init.zeros_(self.second.conv.weight)  # starts as the identity: no normalisation needed

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(x)))
