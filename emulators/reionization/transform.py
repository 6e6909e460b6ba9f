"""Brightness temperature to channels that a diffusion model learns well, and back.

A third of the cells is ionised and has exactly no signal: a spike in the distribution that a
smooth generator smears. A channel of its own therefore says how deep within an ionised bubble a
cell is, or how far from the nearest one: a smooth field that changes sign at the bubbles' edges,
and keeps all of their shapes. (With ones and zeros instead, the same network with the same
training leaves 1.5 times the error in P(k).) The other one is the temperature after the transform
of Yeo & Johnson (2000, Biometrika 87, 954), which takes the skewness out. What it is within
bubbles never shows, but decides what the network makes of the neutral cells beside them:

- Where these are like the others (cells of 2 Mpc), the temperature goes on smoothly into bubbles
  and fades to the mean. A jump to the value of no signal at every edge would be smeared (after the
  same short training, 2.5 times the error in the values of neutral cells).
- Where they fade (cells of 4 Mpc, which bubbles too small to be seen ionise partly), the channel
  falls to the value of no signal. Going on would make a ditch around every bubble, one cell wide,
  which is left half filled: P(k) a quarter too small (see the card).

The depth has zero mean and unit variance over the training set, the temperature over its neutral
cells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emulators.methods.diffusion.zeros import signed_distance

__all__ = ["CODE", "FieldTransform"]

CODE = 3
"""To be raised whenever the same fields give other channels."""

_FEWEST = 1e-3  # share of cells without signal from which on they are a channel
_MOST = 200_000  # cells that the skewness is measured on
_EDGE = 2.0  # cells
_SATURATED = 4  # edges away from a bubble's, depth is within 1e-3 of its limit
_REACH = 1.5  # cells: standard deviation of the weights of neutral cells around an ionised one
_FADING = 0.9  # of the signal one cell farther: in planes of 2 Mpc it is 0.99, in cubes of 4 0.83
_FAINT = 0.01  # sum of these weights at which the temperature has faded half way to its mean


@dataclass(frozen=True)
class FieldTransform:
    """An exact map of fields to channels of about unit variance, on the processor.

    Args:
        scale: in mK, divides first.
        exponent: of Yeo & Johnson, 0 to 2: a bijection of the real line.
        mean: of the transformed temperature of cells with a signal.
        std: of the transformed temperature of cells with a signal.
        depth: mean of the second channel; None: there is none, all cells have a signal.
        spread: standard deviation of the second channel.
        positive: the signal is never negative, as without a spin temperature.
        edge: cells from a bubble's edge over which depth saturates.
        open_end: fields do not wrap around along their last axis, as light cones.
        continued: temperature goes on into bubbles, instead of falling to that of no signal.
    """

    scale: float
    exponent: float
    mean: float
    std: float
    depth: float | None
    spread: float
    positive: bool
    edge: float = _EDGE
    open_end: bool = False
    continued: bool = True

    @classmethod
    def fit(cls, fields: Tensor, open_end: bool = False) -> FieldTransform:
        """From training fields in mK, (B, *n)."""
        from scipy.stats import yeojohnson_normmax

        cells = fields.flatten().double().numpy()
        share = float((cells == 0).mean())
        shown = cells[cells != 0]
        scale = (float(shown.std()) if shown.size else 0.0) or 1.0
        few = shown[:: max(1, shown.size // _MOST)] / scale
        exponent = float(np.clip(yeojohnson_normmax(few), 0.0, 2.0)) if few.size > 2 else 1.0
        seen = shown if shown.size else cells
        values = _forward(torch.from_numpy(seen / scale), exponent)
        found = cls(
            scale, exponent, float(values.mean()), float(values.std(correction=0)) or 1.0, None,
            1.0, bool((cells >= 0).all()), open_end=open_end,
        )  # fmt: skip
        if share <= _FEWEST:
            return found
        depth = found._signed_depth(fields).double()
        return replace(
            found, depth=float(depth.mean()), spread=float(depth.std()) or 1.0,
            continued=not found._fades(fields, depth),
        )  # fmt: skip

    @property
    def channels(self) -> int:
        """1, or 2 with the ionised cells."""
        return 1 if self.depth is None else 2

    def forward(self, x: Tensor) -> Tensor:
        """Fields (B, *n) in mK to channels (B, C, *n)."""
        value = (_forward(x / self.scale, self.exponent) - self.mean) / self.std
        if self.depth is None:
            return value[:, None]
        depth = (self._signed_depth(x) - self.depth) / self.spread
        if self.continued:
            value = self._go_on(value, x == 0)
        return torch.stack([value, depth], dim=1)

    def inverse(self, channels: Tensor) -> Tensor:
        """Channels (B, C, *n) to fields (B, *n) in mK."""
        x = self.scale * _inverse(channels[:, 0] * self.std + self.mean, self.exponent)
        if self.positive:
            x = x.clamp(min=0)
        if self.depth is None:
            return x
        return x.masked_fill(channels[:, 1] * self.spread + self.depth > 0, 0.0)

    def _fades(self, x: Tensor, depth: Tensor) -> bool:
        """Whether neutral cells beside bubbles have less signal than those one farther."""
        near, far = (math.tanh(-cells / self.edge) for cells in (0.75, 1.75))
        beside = x[(depth < 0) & (depth > near)].abs().mean()
        farther = x[(depth < near) & (depth > far)].abs().mean()
        return bool(beside < _FADING * farther)

    def _go_on(self, value: Tensor, ionised: Tensor) -> Tensor:
        """Values (B, *n), those of ionised cells replaced by the weighted mean around them."""
        from scipy.ndimage import gaussian_filter

        modes = ["wrap"] * (value.ndim - 2) + ["constant" if self.open_end else "wrap"]
        axes = tuple(range(1, value.ndim))
        total, weight = (
            # A mode for each axis is what scipy documents, and its signature does not say.
            gaussian_filter(part.numpy(), _REACH, mode=modes, axes=axes)  # pyright: ignore[reportArgumentType]
            for part in (value.masked_fill(ionised, 0), (~ionised).to(value))
        )
        return torch.where(ionised, torch.from_numpy(total / (weight + _FAINT)), value)

    def _signed_depth(self, x: Tensor) -> Tensor:
        """How deep cells are in ionised bubbles, -1 to 1, as x."""
        ionised = (x == 0).numpy()
        pad = math.ceil(_SATURATED * self.edge)
        widths = [(pad, pad)] * (x.ndim - 2) + [(0, 0) if self.open_end else (pad, pad)]
        inner = tuple(slice(a, a + n) for (a, _), n in zip(widths, x.shape[1:], strict=True))
        out = np.empty(x.shape, dtype=np.float32)
        for field, bubbles in zip(out, ionised, strict=True):
            distance = signed_distance(np.pad(bubbles, widths, mode="wrap"))
            field[:] = np.tanh(distance[inner] / self.edge)
        return torch.from_numpy(out).to(x)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FieldTransform:
        """Inverse of `to_dict`."""
        return cls(**values)


def _forward(x: Tensor, p: float) -> Tensor:
    up, down = x.clamp(min=0), (-x).clamp(min=0)
    q = 2 - p
    high = torch.log1p(up) if p == 0 else ((1 + up) ** p - 1) / p
    low = torch.log1p(down) if q == 0 else ((1 + down) ** q - 1) / q
    return high - low


def _inverse(y: Tensor, p: float) -> Tensor:
    up, down = y.clamp(min=0), (-y).clamp(min=0)
    q = 2 - p
    high = torch.expm1(up) if p == 0 else (1 + p * up) ** (1 / p) - 1
    low = torch.expm1(down) if q == 0 else (1 + q * down) ** (1 / q) - 1
    return high - low
