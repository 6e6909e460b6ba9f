"""The network for short data vectors: a few densities of different strength, and their shares.

Which density is best depends on the problem and on the number of simulations. Four are fitted, and
held-out simulations say how much each counts:

- ``linear``: linear and Gaussian, in closed form;
- ``emulated linear``: the same on emulated data vectors (`sbitools.densities.vector`);
- ``emulated``: a stack of networks trained on emulated data vectors;
- ``direct``: a stack trained on the simulations themselves.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from sbitools.densities.linear import LinearGaussian
from sbitools.densities.mixture import Mixture
from sbitools.densities.stack import Stack
from sbitools.seeds import derive
from sbitools.simulator import FieldSpec

from .scale import Standardise

__all__ = ["GROUPS", "LONGEST", "VectorEstimator", "fitted_whole"]

GROUPS = ("linear", "emulated linear", "emulated", "direct")

# Longer data vectors need an embedding.
LONGEST = 256

_SEED = 8


def fitted_whole(options: Any, spec: FieldSpec) -> bool:
    """Whether a method with these options leaves x, short enough, to the densities whole."""
    auto = getattr(options, "flow", "") == getattr(options, "embedding", "auto") == "auto"
    short = len(spec.shape) == 1 and spec.shape[0] <= LONGEST and spec.member is None
    vectors = all(len(p.shape) <= 1 and p.member is None for p in spec.parts or ())
    return auto and short and vectors and not spec.dtype.startswith("complex")


class VectorEstimator(nn.Module):
    """q(u | x) as a mixture of `GROUPS`; all of them see the same features of x.

    Args:
        n_parameters: length of u.
        spec: of x, one axis.
        hidden: width of the networks.
        members: in each stack.
        components: normals in each one-dimensional mixture.
        seed: of the initial weights.
    """

    # The stacks compute a whole batch in one go.
    piece_rows = 1 << 12

    def __init__(
        self, n_parameters: int, spec: FieldSpec, *, hidden: int, members: int, components: int,
        seed: int,
    ) -> None:  # fmt: skip
        super().__init__()
        n = math.prod(spec.shape)
        self.embedding = Standardise(n)
        size = (n_parameters, 2 * n)
        common = {"hidden": hidden, "components": components}
        seeds = [derive(seed, _SEED, i) % (1 << 62) for i in range(2)]
        groups = (
            LinearGaussian(*size, n), LinearGaussian(*size, n),
            Stack(*size, members=max(1, members // 2), seed=seeds[0], **common),
            Stack(*size, members=members, seed=seeds[1], **common),
        )  # fmt: skip
        self.mixture = Mixture(groups, shared=True)

    @property
    def groups(self) -> dict[str, LinearGaussian | Stack]:
        """The densities by name."""
        return dict(zip(GROUPS, self.mixture.members, strict=True))  # type: ignore[arg-type]

    @property
    def closed(self) -> bool:
        """Whether nothing in it can be trained further."""
        return self.mixture.closed

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mixture.weights.device

    @property
    def n_features(self) -> int:
        """Length of the features."""
        return self.embedding.n_features

    @property
    def n_latents(self) -> int:
        """Standard normal numbers that one draw is made of."""
        return self.mixture.n_latents

    def features(self, x: Tensor) -> Tensor:
        """Features (B, F) of x (B, n)."""
        return self.embedding(x)

    def loss(self, u: Tensor, x: Tensor, rng: torch.Generator) -> Tensor:
        """-log q(u | x), shape (B,), for u (B, P) and x (B, n)."""
        return -self.log_prob(u[:, None], self.features(x))[:, 0]

    def log_prob(self, u: Tensor, features: Tensor) -> Tensor:
        """log q(u | x), shape (B, n), for u (B, n, P)."""
        return self.mixture.log_prob(u.float().to(self.device), features)

    def draw(self, z: Tensor, features: Tensor, density: bool = True) -> tuple[Tensor, Tensor]:
        """u (B, n, P) and log q(u | x) (B, n) of latents z (B, n, n_latents)."""
        return self.mixture.draw(z.float(), features, density)

    def place(self, z: Tensor, features: Tensor, row: Tensor) -> Tensor:
        """u (R, P) of latents z (R, n_latents) for observations row (R,) of the features."""
        return self.mixture.place(z.float(), features, row)

    def latent(self, u: Tensor, features: Tensor, rng: torch.Generator) -> Tensor:
        """z (B, n, P) of u (B, n, P): standard normal if u was drawn from q."""
        return self.mixture.latent(u.float().to(self.device), features, rng)
