"""Zel'dovich displacement to nonlinear displacement and velocity, by a styled V-Net.

The map of Jamieson et al. (2023, arXiv:2206.04594; 2024, arXiv:2408.07699), with a learned gain of
the residual; the velocity is a derivative of the network. With x = D psi / scale and the style
s = (5 (Omega_m - 0.3), D - 1),

    Psi = scale [x + gain N(x; s)],        dPsi/dD = psi + scale gain dN/dD,

the derivative taken through x and through s. Everything that depends on sigma_8 enters by psi.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from emulators.methods.displacement.network import StyledVNet
from sbitools.errors import ShapeError
from sbitools.networks.styled import Pair

__all__ = ["STYLE_SIZE", "DisplacementNetwork"]

STYLE_SIZE = 2


class DisplacementNetwork(nn.Module):
    """The full map, in physical units.

    Args:
        channels: see `StyledVNet`.
        scale: displacement in Mpc/h that the network sees as 1.
        seed: of the initial weights.
        compute_dtype: of the activations; weights stay float32. None: that of psi.
    """

    def __init__(
        self,
        channels: Sequence[int] = (24, 32, 48),
        scale: float = 6.0,
        seed: int = 0,
        compute_dtype: torch.dtype | None = None,
    ) -> None:
        from sbitools.seeds import generator

        super().__init__()
        self.vnet = StyledVNet(channels, generator(seed), STYLE_SIZE)
        # A demodulated filter has unit norm, so the last layer cannot scale its output by itself.
        self.gain = nn.Parameter(torch.tensor(0.1))
        self.scale, self.compute_dtype = scale, compute_dtype
        self.multiple = 2 ** (len(channels) - 1)

    def forward(
        self, psi: Tensor, omega_m: Tensor, growth: Tensor, velocity: bool = False
    ) -> Pair:
        """Displace the particles.

        Args:
            psi: Zel'dovich displacement at D = 1 in Mpc/h, (B, 3, n, n, n).
            omega_m: (B,).
            growth: linear growth D, 1 at redshift 0, (B,).
            velocity: return dPsi/dD too; about three times the cost.

        Returns:
            Psi in Mpc/h (B, 3, n, n, n), and dPsi/dD in Mpc/h or None.

        Raises:
            ShapeError: unless every axis is a multiple of 2^(levels - 1).
        """
        if psi.ndim != 5 or psi.shape[1] != 3 or any(n % self.multiple for n in psi.shape[2:]):
            raise ShapeError(
                "psi", expected=f"(B, 3, n, n, n), n a multiple of {self.multiple}",
                got=f"shape {tuple(psi.shape)}", fix="use another grid or fewer levels",
            )  # fmt: skip
        # One box at a time: each has its own filters, and results cannot depend on the batch.
        boxes = [
            self._one(p[None], o.to(psi.dtype), d.to(psi.dtype), velocity)
            for p, o, d in zip(psi, omega_m, growth, strict=True)
        ]
        tangents = [t for _, t in boxes if t is not None]
        return torch.cat([y for y, _ in boxes]), torch.cat(tangents) if velocity else None

    def _one(self, psi: Tensor, omega_m: Tensor, growth: Tensor, velocity: bool) -> Pair:
        style = torch.stack([5 * (omega_m - 0.3), growth - 1])
        dstyle = torch.tensor([0, 1], dtype=style.dtype, device=style.device)
        y, dy = self.vnet(
            self._enter(psi * (growth / self.scale)), style,
            self._enter(psi / self.scale) if velocity else None, dstyle,
        )  # fmt: skip
        reach = self.scale * self.gain
        displaced = growth * psi + reach * y.to(psi.dtype)
        return displaced, None if dy is None else psi + reach * dy.to(psi.dtype)

    def _enter(self, x: Tensor) -> Tensor:
        x = x.to(self.compute_dtype or x.dtype)
        return x.contiguous(memory_format=torch.channels_last_3d)
