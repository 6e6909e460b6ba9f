"""Several conditional densities side by side: one matrix product serves all of them.

Networks for short vectors are so small that a processor spends its time on calling them, not on
computing. A stack of K costs little more than one of them and is an ensemble.

Each member is an affine map of y whose coefficients depend on c (`GaussianHead`'s idea), followed
by autoregressive mixtures of normals: p(v_j | v_<j, c), in an order of its own. Mixtures have a
closed-form distribution function, so latents are exact, and a draw needs no root to be found.

References:
    | Mixture density networks (Bishop 1994)
    | RNADE: the real-valued neural autoregressive density-estimator
      (Uria, Murray & Larochelle 2013, arXiv:1306.0186)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from sbitools.seeds import generator

from .affine import AffineHeads, dropped, uniform
from .normal import normal_log_prob

__all__ = ["Stack"]

_LOG_SCALE = (-9.0, 4.0)  # of a component, in units that the head has set
_LOG_2PI = math.log(2 * math.pi)


class Stack(nn.Module):
    """A uniform mixture of K densities of y (P) given c (F).

    Args:
        n_outputs: P.
        n_features: F.
        members: K.
        hidden: width of the networks.
        components: normals in each one-dimensional mixture; 0: the affine heads alone.
        seed: of the initial weights.
    """

    order: Tensor
    mask: Tensor

    def __init__(
        self, n_outputs: int, n_features: int, *, members: int, hidden: int = 64,
        components: int = 8, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        rng = generator(seed)
        self.k, self.p, self.h, self.m = members, n_outputs, hidden, components
        self.n_features, self.dropout = n_features, 0.0
        self.heads = AffineHeads(n_outputs, n_features, members, hidden, rng)
        if not components:
            return
        order = torch.stack([torch.randperm(n_outputs, generator=rng) for _ in range(members)])
        place = order.argsort(1)  # variable i of member k is conditioned on those placed before
        before = place[:, :, None] < place[:, None, :]
        self.register_buffer("order", order)
        self.register_buffer("mask", before.repeat_interleave(hidden, 2).float())
        fan = (n_features + n_outputs / 2) / 2
        self.from_c = uniform((members, n_features, n_outputs * hidden), fan, rng)
        self.from_v = uniform((members, n_outputs, n_outputs * hidden), fan, rng)
        self.first = uniform((members, 1, n_outputs * hidden), 2, rng)
        nets = members * n_outputs
        self.inner = nn.ParameterList(
            uniform((nets, hidden, hidden), hidden / 2, rng) for _ in range(2)
        )
        self.shift = nn.ParameterList(torch.zeros(nets, 1, hidden) for _ in range(2))
        self.last = uniform((nets, hidden, 3 * components), 100 * hidden, rng)
        self.start = nn.Parameter(self._start(nets, components))

    @staticmethod
    def _start(nets: int, components: int) -> Tensor:
        """Output biases: means spread over the unit normal, widths that cover it."""
        start = torch.zeros(nets, 1, 3 * components)
        if components > 1:
            start[..., :components] = torch.linspace(-1.5, 1.5, components)
            start[..., components : 2 * components] = -0.5
        return start

    def set_dropout(self, share: float) -> None:
        """Leave out this share of the hidden units at each training step."""
        self.dropout = share

    @property
    def n_latents(self) -> int:
        """One number chooses the member; then two for each mixture, or one without."""
        return 1 + self.p * (2 if self.m else 1)

    def loss(self, y: Tensor, c: Tensor, rng: torch.Generator) -> Tensor:
        """-log p_k(y | c), mean over members, shape (B,), for y (B, P) and c (B, F)."""
        return -self._log_probs(y[:, None], c, rng if self.training else None).mean(0)[:, 0]

    def log_prob(self, y: Tensor, c: Tensor) -> Tensor:
        """Log density (B, n) for y (B, n, P) and c (B, F)."""
        return torch.logsumexp(self._log_probs(y, c, None), 0) - math.log(self.k)

    def _log_probs(self, y: Tensor, c: Tensor, rng: torch.Generator | None) -> Tensor:
        """Of each member, (K, B, n)."""
        v, log_det = self.heads(y, c, self.dropout, rng)
        if not self.m:
            return normal_log_prob(v) + log_det
        mean, log_scale, logit = self._mixtures(v, c, rng)
        exponent = -0.5 * ((v[..., None] - mean) * torch.exp(-log_scale)) ** 2 - log_scale
        inside = torch.logsumexp(exponent + torch.log_softmax(logit, -1), -1)
        return inside.sum(-1) - 0.5 * self.p * _LOG_2PI + log_det

    def _mixtures(
        self, v: Tensor, c: Tensor, rng: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Means, log widths and logits, each (K, B, n, P, M), at v (K, B, n, P)."""
        k, b, n, p = v.shape
        h = torch.bmm(c.expand(k, -1, -1), self.from_c) + self.first
        h = h[:, :, None] + (v.reshape(k, b * n, p) @ (self.from_v * self.mask)).view(k, b, n, -1)
        h = silu(h).view(k, b * n, p, self.h).transpose(1, 2).reshape(k * p, b * n, self.h)
        for weight, bias in zip(self.inner, self.shift, strict=True):
            h = h + silu(torch.baddbmm(bias, h, weight))
            h = dropped(h, self.dropout, rng)
        out = torch.baddbmm(self.start, h, self.last).view(k, p, b, n, 3, self.m)
        mean, log_scale, logit = out.permute(4, 0, 2, 3, 1, 5)
        return mean, log_scale.clamp(*_LOG_SCALE), logit

    def place(self, z: Tensor, c: Tensor, row: Tensor) -> Tensor:
        """y (R, P) of latents z (R, n_latents) for rows row (R,) of c (B, F)."""
        member = (torch.special.ndtr(z[:, 0].double()) * self.k).long().clamp(max=self.k - 1)
        y = z.new_empty((len(z), self.p))
        heads = self.heads.parts(c, 0.0, None)
        for k in range(self.k):
            mine = (member == k).nonzero()[:, 0]
            own, at = z[mine, 1:], row[mine]
            v = self._conditional_draws(own, c, at, k) if self.m else own
            y[mine] = self.heads.inverse(v, heads, at, k)
        return y

    def _conditional_draws(self, z: Tensor, c: Tensor, row: Tensor, k: int) -> Tensor:
        """v (R, P) of member k, one variable after the other."""
        v = z.new_zeros((len(z), self.p))
        from_c = (c @ self.from_c[k] + self.first[k]).view(len(c), self.p, self.h)
        from_v = (self.from_v[k] * self.mask[k]).view(self.p, self.p, self.h)
        share = torch.special.ndtr(z[:, self.p :].double())
        for j in self.order[k].tolist():
            h = silu(from_c[row, j] + v @ from_v[:, j])
            net = k * self.p + j
            for weight, bias in zip(self.inner, self.shift, strict=True):
                h = h + silu(h @ weight[net] + bias[net])
            mean, log_scale, logit = (h @ self.last[net] + self.start[net]).chunk(3, -1)
            edges = torch.softmax(logit.double(), -1).cumsum(-1)[:, :-1]
            chosen = (share[:, j, None] > edges).sum(-1, keepdim=True)
            width = log_scale.clamp(*_LOG_SCALE).gather(1, chosen).exp()
            v[:, j] = (mean.gather(1, chosen) + width * z[:, j, None])[:, 0]
        return v

    def latent(self, y: Tensor, c: Tensor, rng: torch.Generator) -> Tensor:
        """z (B, n, P), standard normal if y was drawn from this density.

        The member is chosen by its responsibility, then z is the normal score of every
        conditional distribution.
        """
        log_p = self._log_probs(y, c, None)
        gumbel = -torch.empty(log_p.shape).exponential_(generator=rng).log().to(log_p.device)
        chosen = (log_p + gumbel).argmax(0)
        v, _ = self.heads(y, c, 0.0, None)
        if self.m:
            mean, log_scale, logit = (part.double() for part in self._mixtures(v, c, None))
            v = _normal_score((v[..., None] - mean) * torch.exp(-log_scale), logit).float()
        return v.gather(0, chosen[None, ..., None].expand(1, *y.shape))[0]


def _normal_score(standard: Tensor, logit: Tensor) -> Tensor:
    """Phi^-1 of the mixture's distribution function, from the nearer tail."""
    weight = torch.softmax(logit, -1)
    below = (weight * torch.special.ndtr(standard)).sum(-1)
    above = (weight * torch.special.ndtr(-standard)).sum(-1)
    tail = torch.minimum(below, above).clamp(min=1e-300)
    return torch.special.ndtri(tail) * torch.where(below < above, 1.0, -1.0)
