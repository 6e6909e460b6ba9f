"""The likelihood of short data vectors: the density whose draws NPE learns from."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sbitools.densities.vector import VectorDensity, parameter_features
from sbitools.embeddings.moments import varies
from sbitools.errors import TrainingError
from sbitools.inference.mcmc import Unnormalised
from sbitools.parameters import ParameterSpace
from sbitools.simulator import FieldSpec

from .scale import Standardise

__all__ = ["VectorLikelihood", "require_varying"]


def require_varying(name: str, mean: Tensor, std: Tensor) -> None:
    """Check that every entry of a data vector has a density.

    Raises:
        TrainingError: if an entry never changes.
    """
    constant = (~varies(mean, std)).flatten().nonzero().flatten().tolist()
    if constant:
        raise TrainingError(
            f"data vector {name!r} for nle", expected="entries that vary",
            got=f"{len(constant)} constant ones, at {constant[:10]}",
            fix="leave them out with a mask or a selection, or use npe or nre",
        )  # fmt: skip


class _VaryingScale(Standardise):
    """The scale of a data vector all of whose entries have a density."""

    def __init__(self, spec: FieldSpec) -> None:
        super().__init__(math.prod(spec.shape))
        self.name = spec.name

    def set_scale(self, mean: Tensor, std: Tensor, common: Tensor | None = None) -> None:
        """Mean and standard deviation of the training data, shape (n,).

        Raises:
            TrainingError: if an entry never changes.
        """
        require_varying(self.name, mean, std)
        super().set_scale(mean, std, common)


class VectorLikelihood(Unnormalised):
    """q(x | u) by the density of data vectors that NPE uses, too: strong where x is short.

    Args:
        parameters: the inferred parameters.
        spec: of x, one axis.
        hidden: width of the networks.
        members: networks in each stack.
        components: normals in each one-dimensional mixture.
        seed: of the initial weights.
    """

    piece_rows = 1 << 12

    def __init__(
        self, parameters: ParameterSpace, spec: FieldSpec, *, hidden: int, members: int,
        components: int, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(parameters)
        self.embedding = _VaryingScale(spec)
        self.emulator = VectorDensity(
            2 * len(parameters), math.prod(spec.shape), n_used=len(parameters), hidden=hidden,
            members=members, components=components, seed=seed,
        )  # fmt: skip

    @property
    def closed(self) -> bool:
        """Whether nothing in it can be trained further."""
        return self.emulator.mixture.closed

    @property
    def log_scale(self) -> float:
        """What the log density of standardised x lacks of that of x."""
        return self.embedding.log_scale

    def features(self, x: Tensor) -> Tensor:
        """The standardised data, (B, n) float32."""
        return self.embedding.standardise(x)

    def log_ratio(self, u: Tensor, features: Tensor) -> Tensor:
        """log q(x | u) up to a constant, (B, n), for u (B, n, P) and features (B, n_x)."""
        flat = u.flatten(0, 1).to(features)
        y = features.repeat_interleave(u.shape[1], 0)
        value = self.emulator.mixture.log_prob(y[:, None], parameter_features(flat))
        return value[:, 0].view(u.shape[:2])

    def loss(self, u: Tensor, x: Tensor, rng: torch.Generator) -> Tensor:
        """-log q(x | u), shape (B,), for u (B, P) and x (B, n)."""
        y = self.embedding.standardise(x)
        return -self.emulator.mixture.log_prob(y[:, None], parameter_features(u.to(y)))[:, 0]
