"""A network for sets: items in any order, such as galaxies, peaks or repeated measurements.

Every item goes through the same perceptron, and the set is described by the mean, the spread and
the maximum of what comes out (Zaheer et al. 2017, arXiv:1703.06114), if asked also by means that
are weighted by learned attention (Lee et al. 2019, arXiv:1810.00825). Items are first put in an
order of their own, so that the one they came in does not even change the rounding.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sbitools.errors import ConfigError

from .members import in_own_order
from .moments import Moments, varies
from .scale import Pairs, Scaled

__all__ = ["SetEmbedding"]

_BLOCKS = 2
_FEWEST = 10  # sets that a guess is made from


class SetEmbedding(Scaled):
    """Sets to features.

    Args:
        shape: ``(n_items, n_columns)``, or ``(n_items,)`` for numbers.
        features: numbers that come out, after the mean and log-variance of the columns themselves
            (and the number of items) if those are few.
        hidden: width of the perceptron that the items share.
        attention: learned weighted means beside the plain one; 0 for none.
        padded: the last column is not data: it is 1 where an item is there and 0 where it is
            padding, whose other columns are 0. Padding changes nothing; the number of items is
            given to the last layers.

    Raises:
        ConfigError: if the shape is not that of sets, or has no column besides the flag.
    """

    # So many moments of the columns reach the density estimator directly as well.
    _FEW = 32

    def __init__(
        self, shape: tuple[int, ...], features: int, hidden: int = 128, attention: int = 0,
        padded: bool = False,
    ) -> None:  # fmt: skip
        columns = (shape[1] if len(shape) == 2 else 1) - padded
        if not 1 <= len(shape) <= 2 or columns < 1:
            raise ConfigError(
                "set embedding",
                expected="a field of shape (n_items, n_columns)"
                + (" with a column besides the flag" if padded else ""),
                got=f"shape {tuple(shape)}", fix="put one item in each row",
            )  # fmt: skip
        super().__init__((columns,), (columns,))
        self.padded, self.columns, self.items = padded, columns, shape[0]
        moments = 2 * columns + padded
        self.skip = moments <= self._FEW
        self.n_features = features + (moments if self.skip else 0)
        self.first = nn.Linear(columns, hidden)
        self.blocks = nn.ModuleList(_Residual(hidden) for _ in range(_BLOCKS))
        self.queries = nn.Linear(hidden, attention, bias=False) if attention else None
        self.head = nn.Sequential(
            nn.Linear((3 + attention) * hidden + moments, 128),
            nn.SiLU(),
            nn.Linear(128, features),
        )

    def set_scale(self, mean: Tensor, std: Tensor, common: Tensor | None = None) -> None:
        """Scale each column by the mean and standard deviation over items and training sets.

        Args:
            mean: of the training data, in the shape of one set.
            std: standard deviation, likewise.
            common: is not looked at.
        """
        kind = mean.dtype
        mean, std = (t.reshape(len(mean), -1).double() for t in (mean, std))
        # Padding is 0: it adds nothing to the sums, and the flag's mean is how often it is absent.
        share = mean[:, -1:] if self.padded else torch.ones_like(mean[:, :1])
        mean, std, there = mean[:, : self.columns], std[:, : self.columns], share.sum()
        centre = mean.sum(0) / there.clamp(min=1e-9)
        square = std**2 + (mean - centre) ** 2 - (1 - share) * centre**2
        spread = (square.sum(0) / there.clamp(min=1e-9)).clamp(min=0).sqrt()
        self._assign(centre, spread, varies(centre, spread, kind))

    def set_moments(self, moments: Moments, mask: Tensor | None = None) -> None:
        """By moments of `values`, without the columns that a mask hides."""
        seen = moments.std > 0
        if mask is not None:
            seen &= mask.reshape(len(mask), -1)[:, : self.columns].any(0).to(seen.device)
        self._assign(moments.mean, moments.std, seen)

    def settle(self, batches: Pairs) -> tuple[Tensor, Tensor] | None:
        """See `Scaled.settle`: the first moments of the columns, of which polynomials are made."""
        if not self.skip:
            return None
        with torch.no_grad():
            parts = [(u, self(x)) for u, x in batches()]
        targets, found = (torch.cat(part) for part in zip(*parts, strict=True))
        p = targets.shape[1]
        few = p > 2 * self.columns or len(targets) < _FEWEST
        return None if few else (targets.double(), found[:, :p].double())

    def values(self, x: Tensor) -> Tensor:
        """The items that are there, of all sets of a batch, (n, columns)."""
        x = x.reshape(*x.shape[:2], -1).flatten(0, 1)
        return (x[x[:, -1] != 0] if self.padded else x)[:, : self.columns]

    def fill(self, x: Tensor) -> Tensor:
        """x as it is: items have no places."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape) to (B, n_features); the number of items may be another one."""
        x = x.reshape(*x.shape[:2], -1)
        there = (
            (x[..., -1:] != 0) if self.padded else torch.ones_like(x[..., :1], dtype=torch.bool)
        )
        x, there = in_own_order(x, there[..., 0]), there.sort(1, descending=True).values
        x = torch.where(there, self.standardise(x[..., : self.columns]), 0.0)
        hidden = F.silu(self.first(x))
        for block in self.blocks:
            hidden = block(hidden)
        weights = there / there.sum(1, keepdim=True).clamp(min=1)
        mean, spread = _moments(hidden, weights)
        top = hidden.masked_fill(~there, -math.inf).amax(1)
        plain = list(_moments(x, weights))
        if self.padded:
            plain.append(torch.log1p(there.sum(1).double()) - math.log1p(self.items))
        pooled = [mean, spread, torch.where(top.isinf(), 0.0, top), *plain]
        if self.queries is not None:
            # Not -inf: the softmax of a set without items would be NaN, and so its gradient.
            scores = self.queries(hidden).double().masked_fill(~there, -1e30)
            share = torch.softmax(scores, dim=1) * there
            pooled.append(torch.einsum("bna,bnh->bah", share, hidden.double()).flatten(1))
        kind = torch.float32  # not that of `hidden`, which autocast may have made bfloat16
        out = self.head(torch.cat([p.to(kind) for p in pooled], dim=1))
        return torch.cat([p.to(kind) for p in (*plain, out)], dim=1) if self.skip else out


def _moments(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and log-variance over the items."""
    x = x.double()
    mean = (weights * x).sum(1)
    variance = (weights * (x - mean[:, None]) ** 2).sum(1)
    return mean, torch.log(variance + 1e-4)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.zeros_(self.second.weight)  # starts as the identity: no normalisation needed

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(x)))
