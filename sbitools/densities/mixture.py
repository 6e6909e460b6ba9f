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

__all__ = ["Mixture", "select_members", "stacking_weights"]

# A member below this share is never worth its time.
_LEAST = 1e-3


class Mixture(nn.Module):
    """sum_k w_k q_k(u | x), with the interface of its members.

    A draw takes one latent more than a member's: it chooses the member. Draws of an observation
    are independent, so ranks among them are exact.

    Args:
        members: networks with log_prob, place, latent, n_latents, n_features and, where they are
            trained, features and loss.
        shared: members are given the same features, instead of their own part each.
    """

    weights: Tensor

    def __init__(self, members: Sequence[Any], shared: bool = False) -> None:
        super().__init__()
        self.shared = shared
        self.members = nn.ModuleList(members)
        self.register_buffer("weights", torch.full((len(members),), 1 / len(members)))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.weights.device

    @property
    def closed(self) -> bool:
        """Whether no member that has a share can be trained further."""
        pairs = zip(self.members, self.weights, strict=True)
        return not any(p.requires_grad for m, w in pairs if w > 0 for p in m.parameters())

    @property
    def embedding(self) -> _Embeddings:
        """The members' embeddings, as one."""
        return _Embeddings(m.embedding for m in self.members)  # type: ignore[union-attr]

    def settle(self, batches: Any) -> None:
        """Let each member begin with what can be known before training."""
        for m in self.members:
            m.settle(batches)  # type: ignore[operator]

    @property
    def n_latents(self) -> int:
        """Standard normal numbers that one draw is made of."""
        return max(int(m.n_latents) for m in self.members) + 1  # type: ignore[arg-type]

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

    def draw(self, z: Tensor, features: Tensor, density: bool = True) -> tuple[Tensor, Tensor]:
        """u (B, n, P) and log density (B, n) of latents z (B, n, n_latents).

        Without `density`, which costs as much as the draw, it is NaN.
        """
        row = torch.arange(len(z), device=self.device).repeat_interleave(z.shape[1])
        u = self.place(z.flatten(0, 1), features, row).unflatten(0, z.shape[:2])
        nothing = torch.full(u.shape[:2], torch.nan, device=u.device)
        return u, self.log_prob(u, features) if density else nothing

    def place(self, z: Tensor, features: Tensor, row: Tensor) -> Tensor:
        """u (R, P) of latents z (R, n_latents) for observations row (R,) of the features (B, F).

        The last latent chooses the member.
        """
        z, parts = z.to(self.device), self._split(features)
        share = torch.special.ndtr(z[:, -1].double())
        chosen = torch.bucketize(share, self.weights.double().cumsum(0)[:-1], right=True)
        order, placed = [], []
        for k, (member, part) in enumerate(zip(self.members, parts, strict=True)):
            mine = (chosen == k).nonzero()[:, 0]
            if len(mine):
                own = z[mine, : member.n_latents]  # type: ignore[misc]
                placed.append(member.place(own, part, row[mine]))  # type: ignore[operator]
                order.append(mine)
        return torch.cat(placed)[torch.cat(order).argsort()]

    def latent(self, u: Tensor, features: Tensor, rng: torch.Generator) -> Tensor:
        """z (B, n, P) of u (B, n, P) in the space of a member chosen by its responsibility.

        If u was drawn from the mixture, the member it came from has that law given u, so z is
        standard normal.
        """
        joint = self._joint(u, features)
        gumbel = -torch.empty(joint.shape).exponential_(generator=rng).log().to(joint.device)
        chosen = (joint + gumbel).argmax(-1)
        every = [
            m.latent(u, part, rng)  # type: ignore[operator]
            for m, part, w in zip(self.members, self._split(features), self.weights, strict=True)
            if w > 0
        ]
        index = chosen[..., None, None].expand(*chosen.shape, u.shape[-1], 1)
        return torch.stack(every, -1).gather(-1, index)[..., 0]

    def _joint(self, u: Tensor, features: Tensor) -> Tensor:
        """log w_k + log q_k of the members that have a share, shape (B, n, K)."""
        every = zip(self.members, self._split(features), self.weights, strict=True)
        parts = [
            m.log_prob(u, part) + w.log()  # type: ignore[operator]
            for m, part, w in every if w > 0
        ]  # fmt: skip
        return torch.stack(parts, -1)

    def _split(self, features: Tensor) -> Sequence[Tensor]:
        if self.shared:
            return [features] * len(self.members)
        widths = [m.n_features for m in self.members]
        return features.split(widths, dim=1)  # type: ignore[arg-type]


class _Embeddings:
    """Sets the scale, or the gradients, of several embeddings; all have the scale of the first."""

    def __init__(self, parts: Any) -> None:
        self.parts = list(parts)

    @property
    def ones(self) -> list[_Embeddings] | None:
        """Those of each data product, if there are several."""
        if not hasattr(self.parts[0], "ones"):
            return None
        return [_Embeddings(each) for each in zip(*(p.ones for p in self.parts), strict=True)]

    def set_moments(self, moments: Any, mask: Tensor | None = None) -> None:
        for part in self.parts:
            part.set_moments(moments, mask)

    def values(self, x: Tensor) -> Tensor:
        return self.parts[0].values(x)

    def fill(self, x: Tensor) -> Tensor:
        return self.parts[0].fill(x)

    def unscaled(self, z: Tensor) -> Tensor:
        return self.parts[0].unscaled(z)

    def requires_grad_(self, wanted: bool) -> None:
        for part in self.parts:
            part.requires_grad_(wanted)


def stacking_weights(log_prob: Tensor, steps: int = 300) -> Tensor:
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


def select_members(log_prob: Tensor, gain: float = 3.0) -> Tensor:
    """Weights of the fewest members that explain held-out simulations.

    The best member comes first; another joins only if it raises the summed log score by more than
    `gain`, so that a few held-out simulations do not give shares to chance.

    Args:
        log_prob: shape (N, K), as for `stacking_weights`.
        gain: in nats, over all N.

    Returns:
        Weights (K,) float64 that sum to 1.
    """
    log_prob = log_prob.double()
    chosen = [int(log_prob.mean(0).argmax())]
    score = float(log_prob[:, chosen[0]].sum())
    while len(chosen) < log_prob.shape[1]:
        others = [k for k in range(log_prob.shape[1]) if k not in chosen]
        trials = {k: _score(log_prob[:, [*chosen, k]]) for k in others}
        best = max(trials, key=lambda k: trials[k])
        if trials[best] - score < gain:
            break
        chosen, score = [*chosen, best], trials[best]
    weights = torch.zeros(log_prob.shape[1], dtype=torch.float64)
    weights[chosen] = stacking_weights(log_prob[:, chosen])
    return weights


def _score(log_prob: Tensor) -> float:
    """Summed log score of the best mixture."""
    log_w = stacking_weights(log_prob).log()
    return float(torch.logsumexp(log_prob + log_w, 1).sum())
