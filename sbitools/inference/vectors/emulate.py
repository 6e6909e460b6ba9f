"""An emulator of data vectors, p(x | u), from the few simulations there are, and its pairs.

The simulation of a data vector is often simpler than its inversion: a likelihood of one mode gives
a posterior of four. So the few simulations are spent on p(x | u) first, and the network for
p(u | x) learns from as many emulated pairs as it likes. Held-out simulations decide later whether
that was better.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sbitools.inference.mixture import Mixture
from sbitools.seeds import derive

from .linear import LinearGaussian
from .stack import Stack

__all__ = ["Emulator", "emulated_pairs", "parameter_features"]

# Emulated x stay within the range of the simulations, widened by this share of it on either side.
_MARGIN = 0.5
_CHUNK = 5000
_SEED, _PAIRS = 9, 10


def parameter_features(u: Tensor) -> Tensor:
    """u and its prior probability: what an emulator is given, (N, 2 P)."""
    return torch.cat([u, 2 * torch.special.ndtr(u) - 1], dim=-1)


class Emulator(nn.Module):
    """p(x | u) for standardised x: linear-Gaussian, affine and autoregressive, and their shares.

    Args:
        n_parameters: length of u.
        n: length of x.
        hidden: width of the networks.
        members: in each stack.
        components: normals in each one-dimensional mixture.
        dropout: of the affine stack.
        seed: of the initial weights.
    """

    def __init__(
        self, n_parameters: int, n: int, *, hidden: int, members: int, components: int,
        dropout: float, seed: int,
    ) -> None:  # fmt: skip
        super().__init__()
        size, seeds = (n, 2 * n_parameters), [derive(seed, _SEED, i) % (1 << 62) for i in (0, 1)]
        self.linear = LinearGaussian(*size, n_parameters)
        self.affine = Stack(*size, members=members, hidden=hidden, components=0, dropout=dropout,
                            seed=seeds[0])  # fmt: skip
        self.mixtures = Stack(*size, members=members, hidden=hidden, components=components,
                              seed=seeds[1])  # fmt: skip
        self.mixture = Mixture([self.linear, self.affine, self.mixtures], shared=True)


@torch.no_grad()
def emulated_pairs(
    emulator: Emulator, n: int, low: Tensor, high: Tensor, seed: int
) -> tuple[Tensor, Tensor]:
    """Parameters u (n, P) from the prior and emulated x (n, n_x), in standard units.

    Args:
        emulator: trained.
        n: number of pairs.
        low: smallest standardised x among the simulations, (n_x,).
        high: largest, (n_x,).
        seed: of all randomness.
    """
    margin = _MARGIN * (high - low)
    n_parameters = emulator.linear.n_used
    rng = torch.Generator().manual_seed(derive(seed, _PAIRS) % (1 << 62))
    u = torch.randn((n, n_parameters), generator=rng)
    parts = []
    for rows in u.split(_CHUNK):
        z = torch.randn((len(rows), emulator.mixture.n_latents), generator=rng)
        x = emulator.mixture.place(z, parameter_features(rows), torch.arange(len(rows)))
        parts.append(torch.minimum(torch.maximum(x, low - margin), high + margin))
    return u, torch.cat(parts)
