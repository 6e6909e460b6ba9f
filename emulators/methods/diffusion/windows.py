"""Fields that are longer than what the network was trained on: windows that overlap.

At every step of the sampler each window is denoised by itself, and where windows overlap the mean
of their answers is taken, weighed by the distance from a window's ends (Bar-Tal et al. 2023,
arXiv:2302.08113, equation 5). All windows are denoised at the same level, so that the sampler
takes one path for the whole field: there are no seams to be mended afterwards.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sbitools.errors import ShapeError

from .denoiser import Denoise

__all__ = ["starts", "windowed"]


def starts(length: int, window: int, overlap: int) -> list[int]:
    """First cells of windows that cover an axis, evenly apart, the last one flush with its end.

    Raises:
        ShapeError: if the axis is shorter than a window, or the overlap not within one.
    """
    if length < window or not 0 <= overlap < window:
        raise ShapeError(
            "line of sight", expected=f"{window} cells or more, and an overlap below that",
            got=f"{length} cells, overlap {overlap}", fix="use a longer cone or smaller windows",
        )  # fmt: skip
    n = 1 + -(-(length - window) // (window - overlap))
    return [round(i * (length - window) / max(n - 1, 1)) for i in range(n)]


def windowed(
    denoiser: torch.nn.Module, condition: Tensor, position: Tensor, window: int, overlap: int
) -> Denoise:
    """The denoiser of long fields.

    Args:
        denoiser: a `Denoiser` of fields of `window` cells along the last axis.
        condition: (B, P).
        position: of all cells along the last axis, (B, length).
        window: cells of one window along the last axis.
        overlap: cells that neighbours share, at least.
    """
    first = starts(position.shape[1], window, overlap)
    ramp = torch.arange(window, dtype=torch.float32)
    ramp = torch.minimum(ramp, window - 1 - ramp) + 1

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        total, weight = torch.zeros_like(x), x.new_zeros(x.shape[-1])
        for a in first:
            part = denoiser(
                x[..., a : a + window], sigma, condition, position[:, a : a + window]
            )  # fmt: skip
            total[..., a : a + window] += part * ramp.to(x)
            weight[a : a + window] += ramp.to(x)
        return total / weight

    return denoise
