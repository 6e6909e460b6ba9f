"""Brightness temperature to channels that a diffusion model learns well, and back.

A third of the cells is ionised and has exactly no signal: a spike in the distribution that a
smooth generator smears. Whether a cell is ionised is therefore a channel of its own; the other
one is the temperature after the transform of Yeo & Johnson (2000, Biometrika 87, 954), which
takes the skewness out. Both have zero mean and unit variance over the training set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["FieldTransform"]

_FEWEST = 1e-3  # share of cells without signal from which on they are a channel
_MOST = 200_000  # cells that the skewness is measured on


@dataclass(frozen=True)
class FieldTransform:
    """An exact map of fields to channels of unit variance.

    Args:
        scale: in mK, divides first.
        exponent: of Yeo & Johnson, 0 to 2: a bijection of the real line.
        mean: of the transformed temperature.
        std: of the transformed temperature.
        ionised: mean share of cells without signal; None: they are no channel.
        positive: the signal is never negative, as without a spin temperature.
    """

    scale: float
    exponent: float
    mean: float
    std: float
    ionised: float | None
    positive: bool

    @classmethod
    def fit(cls, fields: Tensor) -> FieldTransform:
        """From training fields in mK, any shape."""
        from scipy.stats import yeojohnson_normmax

        cells = fields.flatten().double().numpy()
        share = float((cells == 0).mean())
        shown = cells[cells != 0]
        scale = float(shown.std()) if shown.size else 1.0
        few = shown[:: max(1, shown.size // _MOST)] / (scale or 1.0)
        exponent = float(np.clip(yeojohnson_normmax(few), 0.0, 2.0)) if few.size > 2 else 1.0
        values = _forward(torch.from_numpy(cells / scale), exponent)
        return cls(
            scale, exponent, float(values.mean()), float(values.std()),
            share if share > _FEWEST else None, bool((cells >= 0).all()),
        )  # fmt: skip

    @property
    def channels(self) -> int:
        """1, or 2 with the ionised cells."""
        return 1 if self.ionised is None else 2

    def forward(self, x: Tensor) -> Tensor:
        """Fields (B, *n) in mK to channels (B, C, *n)."""
        value = (_forward(x / self.scale, self.exponent) - self.mean) / self.std
        if self.ionised is None:
            return value[:, None]
        spread = (self.ionised * (1 - self.ionised)) ** 0.5
        return torch.stack([value, ((x == 0).to(x) - self.ionised) / spread], dim=1)

    def inverse(self, channels: Tensor) -> Tensor:
        """Channels (B, C, *n) to fields (B, *n) in mK."""
        x = self.scale * _inverse(channels[:, 0] * self.std + self.mean, self.exponent)
        if self.positive:
            x = x.clamp(min=0)
        if self.ionised is None:
            return x
        spread = (self.ionised * (1 - self.ionised)) ** 0.5
        return x.masked_fill(channels[:, 1] * spread + self.ionised > 0.5, 0.0)

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
