"""The conditional density network: an embedding of x and a flow in unconstrained theta."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from sbitools.embeddings import EmbeddingOptions
from sbitools.embeddings.scale import Pairs
from sbitools.simulator import FieldSpec

from .flows import ConditionalFlow, Family, build_flow, normal_log_prob

__all__ = ["Estimator", "EstimatorOptions"]


class EstimatorOptions(EmbeddingOptions):
    """Which network.

    Attributes:
        method: name of the method, see `sbitools.inference.METHODS`.
        flow: family of the flow, see `build_flow`; ``"auto"``: a mixture of densities for short
            data vectors (`sbitools.inference.vectors`), else ``"zuko_nsf"``.
        flow_hidden: width of the networks inside the flow.
        flow_transforms: number of transformations.
        members: networks in each stack for short data vectors.
        components: normals in each of their one-dimensional mixtures.
        emulate: for short data vectors: also learn from emulated ones. Their theta come from the
            prior, so leave it out where the simulations' do not.
        ensemble: networks trained from different seeds and mixed by their validation score; a
            short data vector's network is an ensemble already, and has this at 1.
        seed: of the initial weights.
    """

    method: str = "npe"
    flow: Family = "auto"
    flow_hidden: int = Field(64, ge=1, le=65536)
    flow_transforms: int = Field(3, ge=1, le=256)
    members: int = Field(4, ge=1, le=64)
    components: int = Field(8, ge=1, le=64)
    emulate: bool = True
    ensemble: int = Field(1, ge=1, le=64)
    seed: int = Field(0, ge=0)


class Estimator(nn.Module):
    """q(u | x) for u in unconstrained coordinates.

    Args:
        options: which network.
        n_parameters: dimension of u.
        spec: the observed field.
    """

    def __init__(self, options: EstimatorOptions, n_parameters: int, spec: FieldSpec) -> None:
        super().__init__()
        self.embedding = options.build(spec, options.seed)
        self.flow: ConditionalFlow = build_flow(
            options.flow, n_parameters, self.embedding.n_features,
            hidden=options.flow_hidden, transforms=options.flow_transforms, seed=options.seed,
        )  # fmt: skip

    def settle(self, batches: Pairs) -> None:
        """Begin with what can be known before training: see `Scaled.settle`."""
        self.flow.settle(self.embedding.settle(batches))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def n_features(self) -> int:
        """Length of the features."""
        return self.embedding.n_features

    def features(self, x: Tensor) -> Tensor:
        """Features (B, F) float32 of observed fields (B, *shape)."""
        return self.embedding(x.to(self.device)).float()

    def log_prob(self, u: Tensor, features: Tensor) -> Tensor:
        """log q(u | x), shape (B, n), for u (B, n, P)."""
        # Spline bins and log-determinants need float32 whatever the embedding ran in.
        with torch.autocast(self.device.type, enabled=False):
            return self.flow.log_prob(u.float().to(self.device), features)

    def loss(self, u: Tensor, x: Tensor, rng: torch.Generator) -> Tensor:
        """-log q(u | x), shape (B,), for u (B, P) and x (B, *shape)."""
        return -self.log_prob(u[:, None], self.features(x))[:, 0]

    @property
    def n_latents(self) -> int:
        """Standard normal numbers that one draw is made of."""
        return self.flow.head.n

    def place(self, z: Tensor, features: Tensor, row: Tensor) -> Tensor:
        """u (R, P) of latents z (R, P) for observations row (R,) of the features (B, F)."""
        z = z.to(self.device)
        if len(features) == 1:  # what the features say is worked out once, not for every draw
            return self.flow.inverse(z[None], features, density=False)[0][0]
        return self.flow.inverse(z[:, None], features[row], density=False)[0][:, 0]

    def draw(self, z: Tensor, features: Tensor, density: bool = True) -> tuple[Tensor, Tensor]:
        """u (B, n, P) and log q(u | x) (B, n) of latents z (B, n, n_latents).

        The latter may be NaN without `density`.
        """
        z = z.to(self.device)
        u, log_det = self.flow.inverse(z, features, density)
        return u, normal_log_prob(z) + log_det

    def latent(self, u: Tensor, features: Tensor, rng: torch.Generator) -> Tensor:
        """z (B, n, P) of u (B, n, P): standard normal if u was drawn from q."""
        return self.flow(u.float().to(self.device), features)[0]
