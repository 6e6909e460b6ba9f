"""A residual convolutional network for maps on the HEALPix sphere.

A filter sees a pixel and its eight neighbours. There is no direction on a sphere that all pixels
share, so filters know none: the value of a pixel, the mean of the four neighbours across its
edges and the mean of the four at its corners each have weights (rings), and orientation enters
through the length of a gradient, which no turn or reflection of the pixel's frame changes.
Features are then the same for a map and for the map turned by 90 degrees about the axis or
mirrored, up to rounding, and nothing happens at the seams between faces.

Every level of the nested hierarchy is pooled to the mean and the log-variance of its channels,
and the power of the map itself in each level's details (a coarse, mask-proof C_l, with the
correlations between maps) is given to the last layers as well.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sbitools.errors import ConfigError, ObservationError

from .head import Head
from .moments import varies
from .scale import Pairs, Scaled
from .scaled import pooled
from .sphere import Faces, face_order, pixels_to_nside

__all__ = ["HealpixCNN"]

_MAX_CHANNELS = 64
# healpy.UNSEEN, and what float32 makes of it.
_UNSEEN = (-1.6375e30, float(torch.tensor(-1.6375e30, dtype=torch.float32)))
# Nothing that is measured lies so many times the spread of a map away from it: it is UNSEEN, too,
# in another unit or after an average.
_ABSURD = 1e20


class HealpixCNN(Scaled):
    """HEALPix maps to features.

    The maps of several channels, such as T, Q and U, share the pixels. Q and U are taken as two
    scalar maps in the frame they come in: the invariance under turns about the axis holds for
    them, that under reflections does not. Give E and B maps where both should hold.

    Args:
        shape: ``(n_pixels,)`` or ``(n_maps, n_pixels)``, n_pixels = 12 Nside^2 and Nside a power
            of two.
        features: numbers that come out.
        channels: width at full resolution; it doubles with every level, up to 64.
        ordering: of the pixels, ``"ring"`` or ``"nested"``.
        mask: shape (n_pixels,) or that of the maps; True or non-zero where they are seen. Other
            values are never read. `set_scale` masks the pixels that never change in training too,
            such as those that are `healpy.UNSEEN` in every map.

    Raises:
        ConfigError: if the shape is not that of HEALPix maps, or the mask does not fit it.
    """

    order: Tensor

    def __init__(
        self, shape: tuple[int, ...], features: int, channels: int = 16, ordering: str = "ring",
        mask: Tensor | None = None,
    ) -> None:  # fmt: skip
        nside, maps = _geometry(shape), math.prod(shape[:-1])
        super().__init__((maps, 1), (maps, shape[-1]))
        if ordering not in ("ring", "nested"):
            raise ConfigError(
                "ordering of a HEALPix embedding", expected="'ring' or 'nested'",
                got=repr(ordering), fix="say how the map's pixels are ordered",
            )  # fmt: skip
        self.maps, self.n_features = maps, features
        self.seen = _check_mask(mask, shape, maps)
        order = torch.from_numpy(face_order(nside, ordering))
        self.register_buffer("order", order, persistent=False)

        sizes = [nside >> i for i in range(max(1, nside.bit_length() - 1))]  # down to Nside 2
        widths = [min(channels << i, max(channels, _MAX_CHANNELS)) for i in range(len(sizes))]
        self.faces = nn.ModuleList(Faces(n) for n in sizes)
        self.stem = _RingConv(maps, widths[0], 0)
        self.blocks = nn.ModuleList(_Residual(w) for w in widths)
        self.widen = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in itertools.pairwise(widths))
        powers = len(sizes) * maps * (maps + 1) // 2
        self.head = Head(powers + maps, 2 * sum(widths), features)
        self._weigh()
        self.register_load_state_dict_post_hook(_after_loading)

    def set_scale(self, mean: Tensor, std: Tensor, common: Tensor | None = None) -> None:
        """Scale each map by its training data, and mask the pixels that never change in it.

        Args:
            mean: of each pixel over the training maps, in the shape of the maps.
            std: standard deviation of each pixel.
            common: pixels that did not change by chance, see `Moments`: they are seen.

        Raises:
            ObservationError: if a pixel is NaN, infinite or `healpy.UNSEEN` in some of the maps.
        """
        mean, std = (t.detach().reshape(self.maps, -1) for t in (mean, std))
        seen = varies(mean, std)  # NaN varies, and is refused
        if common is not None:
            seen = seen | common.reshape(self.maps, -1)
        seen = self.seen & seen.to(self.seen.device)
        bad = seen & ~_measured(mean.double(), std.double(), seen)
        if bool(bad.any()):
            raise _unseen(f"{int(bad.any(0).sum())} such pixels in the training maps")
        self._assign(*pooled(mean, std, seen, [-1]), seen if bool(seen.any()) else self.seen)
        self._weigh()

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape) to (B, n_features).

        Raises:
            ObservationError: if a pixel that is not masked holds NaN, infinity or
                `healpy.UNSEEN`.
        """
        return self.head(self.statistics(x))

    def settle(self, batches: Pairs) -> tuple[Tensor, Tensor] | None:
        """See `Scaled.settle`."""
        return self.head.settle((u, self.statistics(x)) for u, x in batches())

    def statistics(self, x: Tensor) -> Tensor:
        """What is pooled from every level, and the power of maps: what the head sees."""
        x = x.reshape(len(x), self.maps, -1)
        if not self._readable(x.detach()):
            raise _unseen("such values in the maps of this batch")
        x = self.standardise(x).index_select(2, self.order).transpose(1, 2)
        faces = [f for f in self.faces if isinstance(f, Faces)]
        x = faces[0].unflat(x)
        pooled = _level_powers(x, faces)
        # asinh is the identity for small fluctuations and tames the rare high peaks.
        y = F.silu(self.stem(faces[0].pad(torch.asinh(x))))
        for i, (block, level) in enumerate(zip(self.blocks, faces, strict=True)):
            y = block(y, level)
            mean, variance = level.moments(y)
            pooled += [mean, torch.log(variance + 1e-4)]
            if i < len(self.widen):
                y = self.widen[i](level.pool(y))
        return torch.cat(pooled, dim=1)

    def _choose(self, seen: Tensor) -> None:
        self.seen = seen.clone()

    def _readable(self, x: Tensor) -> bool:
        """Whether the pixels that are seen hold numbers."""
        least = self.mean.to(x)[None].expand(len(x), -1, 1)
        x = torch.where(self.seen, x, least)
        ends = x.amax(-1, keepdim=True), x.amin(-1, keepdim=True)
        # NaN is not less than anything.
        near = all(bool(((end - self.mean).abs() / self.std < _ABSURD).all()) for end in ends)
        return near and not any(bool((x == value).any()) for value in _UNSEEN)

    def _weigh(self) -> None:
        """Tell every level which of its pixels are seen, and how much of each."""
        weights = self.seen.any(0)[self.order].float()
        for level in self.faces:
            assert isinstance(level, Faces)  # noqa: S101  (for the type checker)
            level.set_weights(weights)
            if level.nside > 1:
                plane = weights.view(12, 1, level.nside, level.nside)
                weights = F.avg_pool2d(plane, 2).flatten()


def _after_loading(module: nn.Module, _: Any) -> None:
    assert isinstance(module, HealpixCNN)  # noqa: S101  (for the type checker)
    module._weigh()


def _measured(mean: Tensor, std: Tensor, seen: Tensor) -> Tensor:
    """Pixels whose values are of the order of the others'."""
    typical = std[seen].nanmedian() if bool(seen.any()) else std.new_zeros(())
    sane = torch.isfinite(mean) & ((std < _ABSURD * typical) | (std == 0))
    return sane & ~torch.isin(mean, mean.new_tensor(_UNSEEN))


def _geometry(shape: tuple[int, ...]) -> int:
    nside = pixels_to_nside(shape[-1]) if 1 <= len(shape) <= 2 else None
    if nside is None:
        raise ConfigError(
            "HEALPix embedding",
            expected="a field of shape (12 Nside^2,) or (n_maps, 12 Nside^2), Nside a power of 2",
            got=f"shape {tuple(shape)}",
            fix="choose another embedding, or healpy.ud_grade the maps",
        )  # fmt: skip
    return nside


def _check_mask(mask: Tensor | None, shape: tuple[int, ...], maps: int) -> Tensor:
    if mask is None:
        return torch.ones(maps, shape[-1], dtype=torch.bool)
    mask = torch.as_tensor(mask)
    fits = tuple(mask.shape) in (tuple(shape), (shape[-1],))
    if not fits or not bool(torch.isfinite(mask).all()) or not bool(mask.any()):
        raise ConfigError(
            "mask of a HEALPix embedding",
            expected=f"finite values of shape {tuple(shape)} or ({shape[-1]},), some not 0",
            got=f"shape {tuple(mask.shape)}, {int((mask != 0).sum())} not 0",
            fix="give True where the maps are seen, in the ordering of the maps",
        )  # fmt: skip
    return (mask != 0).expand(maps, -1).clone()


def _unseen(got: str) -> ObservationError:
    return ObservationError(
        "HEALPix maps", expected="no NaN, infinity or healpy.UNSEEN in pixels that are seen",
        got=got, fix="add a mask step to the observation, or give the embedding a mask",
    )  # fmt: skip


def _level_powers(x: Tensor, faces: list[Faces]) -> list[Tensor]:
    """Log-variances and correlations of the maps in the details of each level, and their means."""
    maps, features = x.shape[1], []
    one, two = torch.triu_indices(maps, maps, 1, device=x.device)
    for i, level in enumerate(faces):
        if i + 1 < len(faces):
            coarse = level.pool(x)
            details = level.flat(x - F.interpolate(coarse, scale_factor=2, mode="nearest"))
            x = coarse
        else:
            details = level.flat(x)
            mean = level.average(details)
            details = details - mean[:, None]
            features.append(mean)
        power = level.average(details**2) + 1e-8
        cross = level.average(details[..., one] * details[..., two])
        features += [torch.log(power), cross / (power[:, one] * power[:, two]).sqrt()]
    return features


class _RingConv(nn.Module):
    """3 x 3 filters of rings, and beside them `slopes` lengths of gradients.

    (B, a, n + 2, n + 2) to (B, b + slopes, n, n): the last channels are the gradient lengths.
    """

    basis: Tensor

    def __init__(self, a: int, b: int, slopes: int) -> None:
        super().__init__()
        self.b, self.slopes = b, slopes
        self.rings = nn.Parameter(torch.empty(b, a, 3))
        self.bias = nn.Parameter(torch.zeros(b))
        self.gradient = nn.Parameter(torch.empty(slopes, a)) if slopes else None
        bound = 1 / math.sqrt(3 * a)
        nn.init.uniform_(self.rings, -bound, bound)
        if self.gradient is not None:
            nn.init.uniform_(self.gradient, -3 * bound, 3 * bound)
        basis = torch.zeros(5, 3, 3)
        basis[0, 1, 1] = 1
        for i, j in ((0, 1), (1, 0), (1, 2), (2, 1)):
            basis[1, i, j] = 0.25
        for i, j in ((0, 0), (0, 2), (2, 0), (2, 2)):
            basis[2, i, j] = 0.25
        basis[3, 2, 1], basis[3, 0, 1] = 0.5, -0.5
        basis[4, 1, 2], basis[4, 1, 0] = 0.5, -0.5
        self.register_buffer("basis", basis, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel = torch.einsum("oar,rij->oaij", self.rings, self.basis[:3])
        if self.gradient is None:
            return F.conv2d(x, kernel, self.bias)
        slope = self.gradient[:, :, None, None]
        kernel = torch.cat([kernel, slope * self.basis[3], slope * self.basis[4]])
        bias = F.pad(self.bias, (0, 2 * self.slopes))  # one of a gradient would point somewhere
        value, along, across = F.conv2d(x, kernel, bias).split([self.b, *2 * [self.slopes]], 1)
        return torch.cat([value, (along**2 + across**2 + 1e-6).sqrt()], dim=1)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        slopes = max(1, width // 4)
        self.first = _RingConv(width, width, slopes)
        self.second = _RingConv(width + slopes, width, 0)
        nn.init.zeros_(self.second.rings)  # starts as the identity: no normalisation needed

    def forward(self, x: Tensor, faces: Faces) -> Tensor:
        hidden = F.silu(self.first(faces.pad(x)))
        return x + self.second(faces.pad(hidden))
