"""A network for sets of fields: each member has the same embedding, and what it finds is pooled.

The set is described by the mean and the spread over its members of their features, if asked also
by means that are weighted by learned attention, and by their number where that varies (Zaheer et
al. 2017, arXiv:1703.06114; Lee et al. 2019, arXiv:1810.00825). `SetEmbedding` is the same for
members that are a few numbers each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .head import Head
from .members import in_own_order
from .moments import Moments
from .scale import Pairs, Scaled

__all__ = ["EachEmbedding"]

# Members of each set that the embedding of one member is settled by: sets are many.
_SETTLED = 4
# Added to variances: of features of about unit size.
_LEAST = 1e-4


class EachEmbedding(nn.Module):
    """Sets of fields to features; the order of the members changes nothing, to the bit.

    Args:
        one: the embedding of one member.
        members: how many there are, the most if `padded`.
        features: numbers that come out.
        attention: learned weighted means beside the plain one; 0 for none.
        padded: members that are 0 everywhere are not there; their number is a statistic of its
            own.
    """

    def __init__(
        self, one: Scaled, members: int, features: int, attention: int = 0, padded: bool = False
    ) -> None:
        super().__init__()
        self.one, self.members, self.padded, self.n_features = one, members, padded, features
        width = int(one.n_features)  # type: ignore[arg-type]
        self.queries = nn.Linear(width, attention, bias=False) if attention else None
        self.head = Head(2 * width, attention * width + padded, features)

    def set_moments(self, moments: Moments, mask: Tensor | None = None) -> None:
        """By moments of `values`, without the cells that a mask hides in every member."""
        self.one.set_moments(moments, None if mask is None else mask.any(0))

    def values(self, x: Tensor) -> Tensor:
        """The members that are there, of all sets of a batch, (n, *shape of one)."""
        return x[self._there(x)]

    def unscaled(self, z: Tensor) -> Tensor:
        """x, float64, whose members are standardised to those of z."""
        return self.one.unscaled(z.flatten(0, 1)).view(z.shape)

    def fill(self, x: Tensor) -> Tensor:
        """See `Scaled.fill`: of the members that are there."""
        there = self._there(x).view(*x.shape[:2], *[1] * (x.ndim - 2))
        return torch.where(there, self.one.fill(x.flatten(0, 1)).view_as(x), x)

    def settle(self, batches: Pairs) -> tuple[Tensor, Tensor] | None:
        """See `Scaled.settle`: first what one member tells, then what the set of them does."""

        def alone() -> Iterator[tuple[Tensor, Tensor]]:
            for u, x in batches():
                there = self._there(x[:, :_SETTLED])
                yield u.repeat_interleave(there.sum(1), 0), x[:, :_SETTLED][there]

        told = self.one.settle(alone)
        known = 0 if told is None else 2 * told[0].shape[1]  # the rest of the features is learned
        with torch.no_grad():
            return self.head.settle(((u, self.statistics(x)) for u, x in batches()), known)

    def forward(self, x: Tensor) -> Tensor:
        """(B, members, *shape) to (B, n_features); the number of members may be another one."""
        return self.head(self.statistics(x))

    def statistics(self, x: Tensor) -> Tensor:
        """Mean and log-variance of each feature over the members, and the rest, for the head."""
        there = self._there(x)
        x = in_own_order(x, there)
        count = there.sum(1)
        there = torch.arange(x.shape[1], device=x.device) < count[:, None]  # they come first
        y = self._each(x, there)
        wide = y.double()
        weights = (there / count.clamp(min=1)[:, None]).double()[..., None]
        mean = (weights * wide).sum(1)
        spread = torch.log((weights * (wide - mean[:, None]) ** 2).sum(1) + _LEAST)
        pooled = [torch.stack([mean, spread], 2).flatten(1)]  # both of each feature in turn
        if self.queries is not None:
            # Not -inf: the softmax of a set without members would be NaN, and so its gradient.
            scores = self.queries(y).double().masked_fill(~there[..., None], -1e30)
            share = torch.softmax(scores, dim=1) * there[..., None]
            pooled.append(torch.einsum("bna,bnf->baf", share, wide).flatten(1))
        if self.padded:
            pooled.append((torch.log1p(count.double()) - math.log1p(self.members))[:, None])
        return torch.cat(pooled, dim=1).float()

    def _each(self, x: Tensor, there: Tensor) -> Tensor:
        """Features (B, n, F) float32 of members that are there, 0 of others."""
        found = self.one(x[there]).float()
        if bool(there.all()):
            return found.unflatten(0, there.shape)
        out = found.new_zeros(*there.shape, found.shape[1])
        return out.masked_scatter(there[..., None], found)

    def _there(self, x: Tensor) -> Tensor:
        """Which members are there, (B, n)."""
        if not self.padded:
            return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        return (x != 0).reshape(*x.shape[:2], -1).any(2)
