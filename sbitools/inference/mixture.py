"""An ensemble as one density: the weighted mixture of its members.

Members that disagree widen the mixture where there is little data, and the weights that maximise
the log score of held-out simulations (stacking) leave out those that are worse.

References:
    | Using stacking to average Bayesian predictive distributions
      (Yao, Vehtari, Simpson & Gelman 2018, arXiv:1704.02030), equation 4
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Mixture", "stacking_weights"]

# A member below this share is never worth its time.
_LEAST = 1e-3


class Mixture(nn.Module):
    """sum_k w_k q_k(u | x), with the interface of its members.

    A draw takes one latent more than a member's: it chooses the member. Draws of an observation
    are independent, so ranks among them are exact.

    Args:
        members: networks with log_prob, draw, latent, features and loss.
    """

    weights: Tensor

    def __init__(self, members: Sequence[Any]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("weights", torch.full((len(members),), 1 / len(members)))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.weights.device

    @property
    def embedding(self) -> _Embeddings:
        """The members' embeddings, as one."""
        return _Embeddings(m.embedding for m in self.members)  # type: ignore[union-attr]

    @property
    def n_latents(self) -> int:
        """Standard normal numbers that one draw is made of."""
        return int(self.members[0].n_latents) + 1  # type: ignore[arg-type]

    def features(self, x: Tensor) -> Tensor:
        """Features of all members side by side, (B, F)."""
        return torch.cat([m.features(x) for m in self.members], dim=1)  # type: ignore[operator]

    def loss(self, u: Tensor, x: Tensor, rng: torch.Generator) -> Tensor:
        """Weighted sum of the members' losses, shape (B,): each learns by itself."""
        parts = [m.loss(u, x, rng) for m in self.members]  # type: ignore[operator]
        return torch.stack(parts, -1) @ self.weights

    def log_prob(self, u: Tensor, features: Tensor) -> Tensor:
        """Log density (B, n) of u (B, n, P)."""
        return torch.logsumexp(self._joint(u, features), dim=-1)

    def draw(self, z: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """u (B, n, P) and log density (B, n) of latents z (B, n, n_latents)."""
        z, parts = z.to(self.device), self._split(features)
        share = torch.special.ndtr(z[..., -1].double())
        chosen = torch.bucketize(share, self.weights.double().cumsum(0)[:-1], right=True)
        u = torch.empty_like(z[..., :-1])
        for k, (member, part) in enumerate(zip(self.members, parts, strict=True)):
            row, column = (chosen == k).nonzero(as_tuple=True)
            if len(row):
                own, _ = member.draw(z[row, column, None, :-1], part[row])  # type: ignore[operator]
                u[row, column] = own[:, 0].to(u.dtype)
        return u, self.log_prob(u, features)

    def latent(self, u: Tensor, features: Tensor, rng: torch.Generator) -> Tensor:
        """z (B, n, P) of u (B, n, P) in the space of a member chosen by its responsibility.

        If u was drawn from the mixture, the member it came from has that law given u, so z is
        standard normal.
        """
        joint = self._joint(u, features)
        gumbel = -torch.empty(joint.shape).exponential_(generator=rng).log().to(joint.device)
        chosen = (joint + gumbel).argmax(-1)
        every = [m.latent(u, part, rng) for m, part in  # type: ignore[operator]
                 zip(self.members, self._split(features), strict=True)]  # fmt: skip
        index = chosen[..., None, None].expand(*chosen.shape, u.shape[-1], 1)
        return torch.stack(every, -1).gather(-1, index)[..., 0]

    def _joint(self, u: Tensor, features: Tensor) -> Tensor:
        """log w_k + log q_k, shape (B, n, K)."""
        parts = zip(self.members, self._split(features), strict=True)
        densities = [m.log_prob(u, part) for m, part in parts]  # type: ignore[operator]
        return torch.stack(densities, -1) + self.weights.to(densities[0].dtype).log()

    def _split(self, features: Tensor) -> Sequence[Tensor]:
        widths = [m.n_features for m in self.members]
        return features.split(widths, dim=1)  # type: ignore[arg-type]


class _Embeddings:
    """Sets the scale, or the gradients, of several embeddings."""

    def __init__(self, parts: Any) -> None:
        self.parts = list(parts)

    def set_scale(self, mean: Tensor, std: Tensor) -> None:
        for part in self.parts:
            part.set_scale(mean, std)

    def requires_grad_(self, wanted: bool) -> None:
        for part in self.parts:
            part.requires_grad_(wanted)


def stacking_weights(log_prob: Tensor, steps: int = 1000) -> Tensor:
    """Weights of a mixture that maximise its mean log score; the problem is concave.

    Args:
        log_prob: log q_k of held-out simulations, shape (N, K), none of which trained a member.
        steps: of expectation maximisation.

    Returns:
        Weights (K,) float64 that sum to 1; members with a share below 0.1 % get none.
    """
    log_prob = log_prob.double()
    log_w = torch.full((log_prob.shape[1],), -float(torch.tensor(log_prob.shape[1]).log()),
                       dtype=torch.float64)  # fmt: skip
    for _ in range(steps):
        log_w = torch.log_softmax(log_prob + log_w, -1).logsumexp(0)
        log_w = log_w - log_w.logsumexp(0)
    weights = log_w.exp()
    weights = weights.where(weights >= _LEAST, torch.zeros_like(weights))
    return weights / weights.sum()
