"""A density of data vectors, p(x | u): a few of different strength, and their shares.

NPE spends the few simulations there are on it first and learns p(u | x) from as many emulated
pairs as it likes; NLE is it; and the emulator of data vectors draws from it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sbitools.seeds import derive, generator

from .lattice import Lattice
from .linear import LinearGaussian, PolynomialGaussian
from .mixture import Mixture
from .stack import Stack

__all__ = ["MARGIN", "VectorDensity", "emulated_pairs", "parameter_features"]

# Emulated x stay within the range of the simulations, widened by this share of it on either side.
MARGIN = 0.5
_CHUNK = 5000
_SEED, _PAIRS = 9, 10


def parameter_features(u: Tensor) -> Tensor:
    """u and its prior probability: what a density of x is given, (N, 2 P)."""
    return torch.cat([u, 2 * torch.special.ndtr(u) - 1], dim=-1)


class VectorDensity(nn.Module):
    """p(x | u) for standardised x, and the shares of its parts.

    Two are linear and Gaussian in closed form, in u and in the prior's probability: of parameters
    with uniform priors, that is in theta; of few parameters, a third one is a polynomial of it.
    Two are stacks, affine and autoregressive.

    Args:
        n_features: of u, see `parameter_features`.
        n: length of x.
        n_used: the features of either kind; 0 leaves one closed form, of nothing.
        hidden: width of the networks.
        members: in each stack.
        components: normals in each one-dimensional mixture.
        seed: of the initial weights.
    """

    def __init__(
        self, n_features: int, n: int, *, n_used: int, hidden: int, members: int, components: int,
        seed: int,
    ) -> None:  # fmt: skip
        super().__init__()
        size, seeds = (n, n_features), [derive(seed, _SEED, i) % (1 << 62) for i in (0, 1)]
        common = {"members": members, "hidden": hidden}
        closed = [LinearGaussian(*size, n_used, first) for first in sorted({0, n_used})]
        if 0 < n_used <= PolynomialGaussian.MOST:
            closed.append(PolynomialGaussian(*size, n_used, n_used))
        names = ("linear", "linear in probability", "polynomial in probability")[: len(closed)]
        self.parts = (*names, "affine", "mixtures")
        affine = Stack(*size, components=0, seed=seeds[0], **common)
        mixtures = Stack(*size, components=components, seed=seeds[1], **common)
        self.mixture = Mixture([*closed, affine, mixtures], shared=True)

    @property
    def linear(self) -> list[Any]:
        """The closed forms."""
        return list(self.mixture.members)[:-2]

    @property
    def affine(self) -> Any:
        """The stack of normals whose place and shape depend on u."""
        return self.mixture.members[-2]

    @property
    def mixtures(self) -> Any:
        """The stack of autoregressive mixtures."""
        return self.mixture.members[-1]


@torch.no_grad()
def emulated_pairs(
    density: VectorDensity, u: Tensor, simulated: Tensor, lattice: Lattice, seed: int
) -> Tensor:
    """Standardised x (n, n_x), one for each u (n, P).

    Args:
        density: fitted.
        u: parameters.
        simulated: standardised x of the simulations, (N, n_x), that the density was fitted to:
            emulated ones stay near them.
        lattice: which entries are whole numbers.
        seed: of all randomness.
    """
    low, high = simulated.min(0).values, simulated.max(0).values
    margin = MARGIN * (high - low)
    rng = generator(derive(seed, _PAIRS) % (1 << 62))
    parts = []
    for rows in u.split(_CHUNK):
        z = torch.randn((len(rows), density.mixture.n_latents), generator=rng)
        x = density.mixture.place(z, parameter_features(rows), torch.arange(len(rows)))
        parts.append(lattice.snap(torch.minimum(torch.maximum(x, low - margin), high + margin)))
    return torch.cat(parts)
