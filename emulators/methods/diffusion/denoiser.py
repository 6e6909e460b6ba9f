"""The denoiser: a network whose input, output and target have unit variance at every noise level.

Karras et al. 2022 (arXiv:2206.00364), section 5, for data of unit variance:

    D(x; sigma) = x / (1 + sigma^2) + sigma / s F(x / s; ln sigma / 4),   s^2 = 1 + sigma^2
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from .schedules import Schedule

__all__ = ["Denoise", "Denoiser"]

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x (B, C, *n), sigma (B,)) to an estimate of the field without noise, (B, C, *n)."""


class Denoiser(nn.Module):
    """Noisy fields to clean ones.

    Args:
        network: ``network(x, level, condition, position)``, its output as large as x.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, x: Tensor, sigma: Tensor, condition: Tensor, position: Tensor | None = None
    ) -> Tensor:
        """Estimate of the fields without noise.

        Args:
            x: noisy fields, (B, C, *n).
            sigma: standard deviation of their noise, (B,).
            condition: parameters, (B, P), each within -1 and 1.
            position: of cells along the last axis, (B, n[-1]), if the network wants it.
        """
        s = sigma.view(-1, *[1] * (x.ndim - 1))
        size = (1 + s**2).sqrt()
        out = self.network(x / size, sigma.log() / 4, condition, position)
        return x / size**2 + s / size * out.to(x.dtype)

    def at(self, condition: Tensor, position: Tensor | None = None) -> Denoise:
        """The denoiser of fields with the parameters `condition`, for a sampler."""
        return lambda x, sigma: self(x, sigma, condition, position)

    def loss(
        self, noisy: Tensor, target: Tensor, condition: Tensor, position: Tensor | None,
        sigma: Tensor, schedule: Schedule,
    ) -> Tensor:  # fmt: skip
        """Weighted squared error of each field, (B,).

        Args:
            noisy: fields with noise, (B, C, *n).
            target: what they should become, as noisy.
            condition: (B, P).
            position: (B, n[-1]) or None.
            sigma: noise levels, (B,).
            schedule: whose weights are used.
        """
        error = self(noisy, sigma, condition, position) - target
        return schedule.weight(sigma) * error.square().flatten(1).mean(1)
