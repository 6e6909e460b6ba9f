"""A network for categories and continuous parameters together: p(d | x) q(u | x, d).

A chain of classifiers, p(d | x) = prod_j p(d_j | x, d_1 ... d_j-1), so that the size grows with
the sum of the numbers of categories and not with their product; and a flow for the continuous
parameters that is given the categories.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from sbitools.errors import PosteriorError
from sbitools.parameters import ParameterSpace
from sbitools.seeds import derive, initial_weights
from sbitools.simulator import FieldSpec

from .coded import CodedSpace
from .estimator import EstimatorOptions
from .flows import build_flow, normal_log_prob

__all__ = ["DiscreteEstimatorOptions", "MixedEstimator"]


class DiscreteEstimatorOptions(EstimatorOptions):
    """Which network; the options of the flow are for continuous parameters, if there are any.

    Attributes:
        method: ``"discrete"``.
        hidden: width of the classifiers.
        ensemble: 1: this method has none.
    """

    method: str = "discrete"
    ensemble: int = Field(1, ge=1, le=1)
    hidden: int = Field(128, ge=1, le=65536)


class MixedEstimator(nn.Module):
    """p(d | x) q(u | x, d); columns of categorical parameters hold codes, the others u.

    Args:
        options: which network.
        parameters: one categorical parameter or more, and any number of continuous ones.
        spec: the observed field.

    Raises:
        PosteriorError: if no parameter is categorical.
    """

    def __init__(
        self, options: DiscreteEstimatorOptions, parameters: ParameterSpace, spec: FieldSpec
    ) -> None:
        super().__init__()
        space = CodedSpace(parameters)
        self.discrete, self.continuous = space.discrete, space.continuous
        self.n_latents = len(space)
        if not self.discrete:
            raise PosteriorError(
                "inferred parameters", expected="one or more with categories for 'discrete'",
                got=f"{space.names}, all continuous", fix="use method='npe'",
            )  # fmt: skip
        self.sizes = [len(space[i].categories) for i in self.discrete]
        with initial_weights(derive(options.seed, 8)):
            self.embedding = options.build(spec, options.seed)
            n = self.embedding.n_features
            self.classifiers = nn.ModuleList(
                _Classifier(n, sum(self.sizes[:j]), space[i].prior.probabilities, options.hidden)
                for j, i in enumerate(self.discrete)
            )
        self.flow = None
        if self.continuous:
            self.flow = build_flow(
                options.flow, len(self.continuous), n + sum(self.sizes),
                hidden=options.flow_hidden, transforms=options.flow_transforms, seed=options.seed,
            )  # fmt: skip

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def features(self, x: Tensor) -> Tensor:
        """Features (B, F) float32 of observed fields (B, *shape)."""
        return self.embedding(x.to(self.device)).float()

    def log_prob(self, u: Tensor, features: Tensor) -> Tensor:
        """log p(d | x) + log q(u | x, d), shape (B, n), for u (B, n, P)."""
        u = u.float().to(self.device)
        with torch.autocast(self.device.type, enabled=False):
            known, total = self._none_known(u), torch.zeros(u.shape[:2], device=u.device)
            for j, i in enumerate(self.discrete):
                code = u[..., i].long()
                table = self.classifiers[j](features, known)
                total = total + _pick(table, code)
                known = self._with(known, code, j)
            if self.flow is not None:
                rows = u[..., self.continuous].flatten(0, 1)[:, None]
                density = self.flow.log_prob(rows, _per_draw(features, known))
                total = total + density.view(total.shape)
        return total

    def loss(self, u: Tensor, x: Tensor, rng: torch.Generator) -> Tensor:
        """Negative log posterior of u (B, P) given x (B, *shape), shape (B,)."""
        return -self.log_prob(u[:, None], self.features(x))[:, 0]

    def draw(self, z: Tensor, features: Tensor, density: bool = True) -> tuple[Tensor, Tensor]:
        """Codes and u (B, n, P) and their log posterior (B, n) of latents z (B, n, P).

        The latter may be NaN without `density`.
        A code is the quantile of its column's z, so the same seeds give the same draws.
        """
        z = z.to(self.device)
        u, total = torch.empty_like(z), torch.zeros(z.shape[:2], device=z.device)
        known = self._none_known(z)
        for j, i in enumerate(self.discrete):
            table = self.classifiers[j](features, known)
            code = _quantile(table, torch.special.ndtr(z[..., i].double()))
            u[..., i], total = code.to(u.dtype), total + _pick(table, code)
            known = self._with(known, code, j)
        if self.flow is not None:
            rows = z[..., self.continuous].flatten(0, 1)[:, None]
            value, log_det = self.flow.inverse(rows, _per_draw(features, known), density)
            u[..., self.continuous] = value.view(*z.shape[:2], -1).to(u.dtype)
            total = total + (normal_log_prob(rows) + log_det).view(total.shape)
        return u, total

    def latent(self, u: Tensor, features: Tensor, rng: torch.Generator) -> Tensor:
        """z (B, n, P) of u (B, n, P): standard normal if u was drawn from the posterior.

        A code stands for an interval of z; the point in it is random (randomised probability
        integral transform, Czado, Gneiting & Held 2009).
        """
        u = u.float().to(self.device)
        z, known = torch.empty_like(u), self._none_known(u)
        for j, i in enumerate(self.discrete):
            code = u[..., i].long()
            p = self.classifiers[j](features, known).double().exp()
            above = _pick(p.cumsum(-1), code)
            part = torch.rand(code.shape, generator=rng, dtype=torch.float64).to(z.device)
            uniform = (above - part * _pick(p, code)).clamp(1e-12, 1 - 1e-12)
            z[..., i] = torch.special.ndtri(uniform).float()
            known = self._with(known, code, j)
        if self.flow is not None:
            rows = u[..., self.continuous].flatten(0, 1)[:, None]
            value = self.flow(rows, _per_draw(features, known))[0]
            z[..., self.continuous] = value.view(*u.shape[:2], -1)
        return z

    def set_prior(self, probabilities: Sequence[float]) -> None:
        """Other probabilities of the first categorical parameter before the data."""
        first: Any = self.classifiers[0]
        first.set_prior(probabilities)

    @torch.no_grad()
    def shift(self, by: Tensor) -> None:
        """Add numbers (K,) to the logits of the first categorical parameter."""
        first: Any = self.classifiers[0]
        first.shift(by)

    def log_table(self, features: Tensor, n: int) -> Tensor:
        """Log probabilities (B, K_1, ... K_n) float64 of the first n categorical parameters."""
        log_p = torch.zeros(len(features), 1, device=self.device)
        known = features.new_zeros(1, 1, sum(self.sizes))
        for j, size in enumerate(self.sizes[:n]):
            step = self.classifiers[j](features, known.expand(len(features), -1, -1))
            log_p = (log_p[..., None] + step).flatten(1)
            code = torch.arange(size, device=self.device).repeat(known.shape[1])
            known = self._with(known.repeat_interleave(size, 1), code[None], j)
        return log_p.double().view(len(features), *self.sizes[:n])

    def _none_known(self, u: Tensor) -> Tensor:
        """(B, n, sum of K): where categories are noted, one-hot, as they become known."""
        return u.new_zeros(*u.shape[:2], sum(self.sizes))

    def _with(self, known: Tensor, code: Tensor, j: int) -> Tensor:
        column = code + sum(self.sizes[:j])
        return known.scatter(-1, column[..., None], 1.0)


class _Classifier(nn.Module):
    """log p(d_j | x, earlier d); starts as the prior, and keeps to its support."""

    prior: Tensor

    def __init__(
        self, n_features: int, n_known: int, prior: tuple[float, ...], hidden: int
    ) -> None:
        super().__init__()
        self.n_known = n_known
        self.first = nn.Linear(n_features, hidden)
        self.known = nn.Linear(n_known, hidden, bias=False) if n_known else None
        self.second, self.last = nn.Linear(hidden, hidden), nn.Linear(hidden, len(prior))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        log_prior = torch.tensor(prior, dtype=torch.float64).log().float()
        self.register_buffer("prior", log_prior, persistent=False)

    @torch.no_grad()
    def shift(self, by: Tensor) -> None:
        """Add numbers (K,) to the logits of the categories."""
        self.last.bias.add_(by.to(self.last.bias))

    def set_prior(self, probabilities: Sequence[float]) -> None:
        """Other probabilities before the data: the logits add their logs to what x says."""
        self.prior.copy_(torch.tensor(probabilities, dtype=torch.float64).log())

    def forward(self, features: Tensor, known: Tensor) -> Tensor:
        """Log probabilities (B, n, K), or (B, 1, K) if nothing comes before."""
        h = self.first(features)[:, None]
        if self.known is not None:
            h = h + self.known(known[..., : self.n_known])
        h = nn.functional.silu(h)
        h = h + nn.functional.silu(self.second(h))
        return (self.last(h) + self.prior).log_softmax(-1)


def _pick(table: Tensor, code: Tensor) -> Tensor:
    """Entries (B, n) of a table (B, n or 1, K) at codes (B, n)."""
    return table.expand(*code.shape, -1).gather(-1, code[..., None])[..., 0]


def _quantile(log_p: Tensor, uniform: Tensor) -> Tensor:
    """Codes (B, n) at uniform numbers (B, n); none of probability zero."""
    edges = log_p.double().exp().cumsum(-1)
    below = edges / edges[..., -1:] <= uniform.clamp(max=1 - 2**-53)[..., None]
    return below.sum(-1)


def _per_draw(features: Tensor, known: Tensor) -> Tensor:
    """Conditions of the flow, one row per draw: (B n, F + sum of K)."""
    return torch.cat([features[:, None].expand(-1, known.shape[1], -1), known], -1).flatten(0, 1)
