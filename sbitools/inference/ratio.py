"""Neural ratio estimation: a classifier that tells (theta, x) pairs from shuffled ones.

Its logit is log p(x | theta) / p(x). Contrastive loss of Miller, Weniger & Forré 2022
(arXiv:2210.06170), or the balanced loss of Delaunoy et al. 2022 (arXiv:2208.13624), which trades
sharpness for conservative posteriors. Explored by `sbitools.inference.mcmc`.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from sbitools.embeddings import EmbeddingOptions
from sbitools.embeddings.scale import Pairs
from sbitools.parameters import ParameterSpace
from sbitools.seeds import derive, initial_weights
from sbitools.simulator import FieldSpec

from .flows import GaussianHead, normal_log_prob
from .job import fit_network
from .mcmc import MCMCPosterior, Unnormalised
from .methods import Method
from .options import CommonOptions
from .together import TogetherPosterior

__all__ = ["METHODS", "NREOptions", "RatioEstimator", "RatioOptions"]


class RatioOptions(EmbeddingOptions):
    """Which network, and how it is told right from wrong.

    Attributes:
        method: name of the method.
        hidden: width of the classifier.
        blocks: residual blocks of the classifier.
        objective: ``"contrastive"`` (NRE-C) or ``"balanced"`` (BNRE).
        contrasts: K of the contrastive loss: parameters of other simulations of the same piece of
            a batch, at most one less than that has rows (16 on a CPU).
        odds: gamma of the contrastive loss.
        balance: lambda of the balanced loss.
        seed: of the initial weights.
    """

    method: str = "nre"
    hidden: int = Field(128, ge=1, le=65536)
    blocks: int = Field(2, ge=0, le=256)
    objective: Literal["contrastive", "balanced"] = "contrastive"
    contrasts: int = Field(15, ge=1, le=65536)
    odds: float = Field(1.0, gt=0)
    balance: float = Field(100.0, ge=0)
    seed: int = Field(0, ge=0)


class NREOptions(RatioOptions, CommonOptions):
    """Options of neural ratio estimation: the network and its training, in one table."""


class RatioEstimator(Unnormalised):
    """log r(u, x) = log N(u; m(x), S(x)) / N(u; 0, 1) + a perceptron of (u, features of x).

    The Gaussian term starts at zero and finds place and width of a narrow posterior at once, which
    a perceptron alone learns slowly; the perceptron adds what is not Gaussian.

    Args:
        options: which network.
        parameters: the inferred parameters.
        spec: the observed field.
    """

    def __init__(self, options: RatioOptions, parameters: ParameterSpace, spec: FieldSpec) -> None:
        super().__init__(parameters)
        self.options = options
        n = len(parameters)
        with initial_weights(derive(options.seed, 7)):
            self.embedding = options.build(spec, options.seed)
            given = self.embedding.n_features
            self.head = GaussianHead(n, given, options.hidden)
            self.first = nn.Linear(n + given, options.hidden)
            self.middle = nn.ModuleList(
                nn.Linear(options.hidden, options.hidden) for _ in range(options.blocks)
            )
            self.last = nn.Linear(options.hidden, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def settle(self, batches: Pairs) -> None:
        """Begin with what can be known before training: see `Scaled.settle`."""
        self.embedding.settle(batches)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def features(self, x: Tensor) -> Tensor:
        """Features (B, F) float32 of observed fields (B, *shape)."""
        return self.embedding(x.to(self.device)).float()

    def log_ratio(self, u: Tensor, features: Tensor) -> Tensor:
        """log r, (B, n), for u (B, n, P) and features (B, F)."""
        with torch.autocast(self.device.type, enabled=False):
            u = u.to(self.device, torch.float32)
            v, log_det = self.head(u, features)
            gaussian = normal_log_prob(v) + log_det - normal_log_prob(u)
            # One product for the features and one for u: features are not repeated n times.
            weight = self.first.weight
            hidden = u @ weight[:, : u.shape[2]].T
            hidden = hidden + (features @ weight[:, u.shape[2] :].T + self.first.bias)[:, None]
            hidden = nn.functional.silu(hidden)
            for layer in self.middle:
                hidden = hidden + nn.functional.silu(layer(hidden))
            return gaussian + self.last(hidden)[..., 0]

    def loss(self, u: Tensor, x: Tensor, rng: torch.Generator) -> Tensor:
        """Classification loss, shape (B,), for u (B, P) and x (B, *shape)."""
        others = self._contrasts(u, rng)
        logits = self.log_ratio(torch.cat([u[:, None], others], 1), self.features(x))
        if self.options.objective == "balanced":
            return self._balanced(logits[:, 0], logits[:, 1])
        return self._contrastive(logits[:, 0], logits[:, 1:])

    def _contrasts(self, u: Tensor, rng: torch.Generator) -> Tensor:
        """Parameters that have nothing to do with each row's x, (B, K, P)."""
        n = len(u)
        if n == 1:  # no other row, the last piece of an epoch: any parameters of the prior
            seed = int(torch.randint(1 << 62, (), generator=rng))
            return self.space.to_unconstrained(self.space.design(1, seed))[None].to(u)
        most = self.options.contrasts if self.options.objective == "contrastive" else 1
        order = torch.randperm(n, generator=rng)
        place = torch.argsort(order)
        steps = torch.arange(1, min(most, n - 1) + 1)
        return u[order[(place[:, None] + steps) % n].to(u.device)]

    def _contrastive(self, joint: Tensor, others: Tensor) -> Tensor:
        """Equation 10 of arXiv:2210.06170; the same contrasts serve both of its terms."""
        odds, k = self.options.odds, others.shape[1]
        none, gamma = (torch.full_like(joint[:, None], math.log(v)) for v in (k, odds))
        independent = torch.cat([none, gamma + others], 1).logsumexp(1) - math.log(k)
        candidates = torch.cat([none, gamma + others[:, 1:], gamma + joint[:, None]], 1)
        picked = candidates.logsumexp(1) - (gamma[:, 0] + joint)
        return (independent + odds * picked) / (1 + odds)

    def _balanced(self, joint: Tensor, other: Tensor) -> Tensor:
        """Cross-entropy + lambda (E d(joint) + E d(other) - 1)^2, arXiv:2208.13624 section 3."""
        softplus = nn.functional.softplus
        loss = softplus(-joint) + softplus(other)
        n = len(joint)
        if n == 1:
            return loss
        excess = joint.sigmoid() + other.sigmoid() - 1
        # Without the squares of single rows: the square of a mean of few rows is biased by them.
        square = (excess.sum() ** 2 - (excess**2).sum()) / (n * (n - 1))
        return loss + self.options.balance * square


METHODS = {
    "nre": Method(
        "nre", "neural ratio estimation", RatioOptions, NREOptions, RatioEstimator, MCMCPosterior,
        fit_network, together=TogetherPosterior,
    )
}  # fmt: skip
