"""Entries of data vectors as numbers of order 1: as they are, or their (signed) logarithm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sbitools.densities.vector import MARGIN

__all__ = ["KINDS", "Entries"]

KINDS = ("plain", "log", "asinh")
_MOST = 700.0  # exponentials of more leave float64


class Entries(nn.Module):
    """An increasing map of each entry, in float64, and the range that entries stay in.

    Args:
        n: number of entries.
    """

    kind: Tensor
    unit: Tensor
    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, n: int) -> None:
        super().__init__()
        self.register_buffer("kind", torch.zeros(n, dtype=torch.int64))
        for name in ("unit", "mean", "std", "low", "high"):
            self.register_buffer(name, torch.zeros(n, dtype=torch.float64))

    @classmethod
    def fit(cls, x: Tensor, kind: Tensor) -> Entries:
        """The maps of kinds (n,), numbers of `KINDS`, for simulations x (N, n) of float64."""
        entries = cls(x.shape[1])
        entries.kind.copy_(kind)
        entries.unit.copy_(x.abs().median(0).values)
        length = x.max(0).values - x.min(0).values
        entries.unit.copy_(torch.where(entries.unit > 0, entries.unit, length))
        y = entries._mapped(x)
        entries.mean.copy_(y.mean(0))
        entries.std.copy_((y - entries.mean).square().mean(0).sqrt().clamp(min=1e-300))
        entries.bound(x)
        return entries

    def bound(self, x: Tensor) -> None:
        """Stay in the range of simulations x (N, n), and a little beyond.

        What never changes its sign keeps it, and what never was 0 does not become so.
        """
        low, high = x.min(0).values, x.max(0).values
        margin = MARGIN * (high - low)
        ends = [torch.where(a > 0, a * (a / b).sqrt(), torch.zeros_like(a))
                for a, b in ((low, high), (-high, -low))]  # fmt: skip
        self.low.copy_(torch.where(low >= 0, (low - margin).maximum(ends[0]), low - margin))
        self.high.copy_(torch.where(high <= 0, (high + margin).minimum(-ends[1]), high + margin))

    @staticmethod
    def possible(x: Tensor) -> list[Tensor]:
        """Kinds (n,) of all entries of x (N, n), by the wish for each of `KINDS`."""
        positive = (x > 0).all(0)
        plain = torch.zeros(x.shape[1], dtype=torch.int64)
        spread = x.abs().median(0).values > 0
        return [plain, torch.where(positive, 1, plain), torch.where(positive | ~spread, plain, 2)]

    @property
    def scale(self) -> Tensor:
        """Of mapped entries, before they are numbers of order 1; of x where that is plain."""
        return self.std * torch.where(self.kind == 0, self.unit, torch.ones_like(self.unit))

    def forward(self, x: Tensor) -> Tensor:
        """(N, n) to numbers of mean 0 and standard deviation 1."""
        return (self._mapped(x) - self.mean) / self.std

    def inverse(self, y: Tensor) -> Tensor:
        """Inverse of `forward`, inside the range."""
        y = y * self.std + self.mean
        bounded = y.clamp(-_MOST, _MOST)
        x = torch.where(self.kind == 1, bounded.exp() * self.unit, y * self.unit)
        x = torch.where(self.kind == 2, bounded.sinh() * self.unit, x)
        return torch.minimum(torch.maximum(x, self.low), self.high)

    def log_slope(self, x: Tensor) -> Tensor:
        """log of the derivative of `forward` in x / unit, (N, n)."""
        u = x / self.unit
        slope = torch.where(self.kind == 1, -u.clamp(min=1e-300).log(), torch.zeros_like(u))
        slope = torch.where(self.kind == 2, -0.5 * torch.log1p(u**2), slope)
        return slope - self.std.log()

    def _mapped(self, x: Tensor) -> Tensor:
        u = x / self.unit
        mapped = torch.where(self.kind == 1, u.clamp(min=1e-300).log(), u)
        return torch.where(self.kind == 2, u.asinh(), mapped)
