"""The fitted parts of the emulator of data vectors, whose state is the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sbitools.densities.vector import VectorDensity

from .response import Response

__all__ = ["VectorModel"]


class VectorModel(nn.Module):
    """Latents to data vectors.

    Args:
        spec_size: numbers of a vector.
        n: of them that vary.
        dtype: of the vectors.
        response: the closed form.
        density: of what it leaves.
    """

    constant: Tensor
    varying: Tensor
    origin: Tensor
    unit: Tensor

    def __init__(
        self, spec_size: int, n: int, dtype: torch.dtype, response: Response,
        density: VectorDensity,
    ) -> None:  # fmt: skip
        super().__init__()
        self.response, self.density = response, density
        self.register_buffer("constant", torch.zeros(spec_size, dtype=dtype))
        self.register_buffer("varying", torch.zeros(n, dtype=torch.int64))
        # Of counts; a unit of 0 is none.
        self.register_buffer("origin", torch.zeros(n, dtype=torch.float64))
        self.register_buffer("unit", torch.zeros(n, dtype=torch.float64))

    @property
    def n_latents(self) -> int:
        """Of the density, and where the mean lies within its error."""
        return self.density.mixture.n_latents + self.response.n_unknown

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """Vectors (B, spec_size) of latents z (B, n_latents) and numbers c (B, Q) of theta."""
        rows, n = torch.arange(len(z), device=z.device), self.density.mixture.n_latents
        v = self.density.mixture.place(z[:, :n], c.float(), rows)
        x = self.response.inverse(v.double(), c, z[:, n:].double())
        step = torch.where(self.unit > 0, self.unit, torch.ones_like(self.unit))
        counted = ((x - self.origin) / step).round() * step + self.origin
        x = torch.where(self.unit > 0, counted, x)
        out = self.constant.expand(len(z), -1).clone()
        out[:, self.varying] = _as_dtype(x, out.dtype)
        return out


def _as_dtype(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Of the dtype of the simulations: rounded where that is whole, and inside its range."""
    if dtype.is_floating_point:
        limits = torch.finfo(dtype)
        return x.clamp(limits.min, limits.max).to(dtype)
    limits = torch.iinfo(dtype)
    most = min(limits.max, (1 << 63) - (1 << 10))  # of int64, the largest that float64 holds
    return x.round().clamp(limits.min, most).to(dtype)
