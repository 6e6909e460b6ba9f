"""What the statistics of a map should be, given those of the Gaussian map it starts from.

The starts have the right means of most statistics already. What is moved is the difference
between the mean of the simulations and that of the starts, and of it only what the number of
simulations can tell from chance: every kind of statistic is shrunk by the factor that has the
least expected error (James & Stein 1961), and one that differs no more than by chance not at all.
Each map keeps its own deviation from the mean, so that targets are as many as maps and are
spread as smoothly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Targets"]

# Standard deviations by which a mean square must exceed chance: numbers of one kind go together,
# and a single fluctuation of all of them is not to be learned.
_MARGIN = 2.0


class Targets(nn.Module):
    """Targets of `size` statistics, with a shift that is linear in `terms` functions of theta."""

    sigma: Tensor
    shift: Tensor
    doubt: Tensor

    def __init__(self, size: int, terms: int) -> None:
        super().__init__()
        self.register_buffer("sigma", torch.ones(size))
        self.register_buffer("shift", torch.zeros(terms, size))
        self.register_buffer("doubt", torch.zeros(()))

    def fit(
        self, simulated: list[Tensor], started: list[Tensor], terms: Tensor, groups: Tensor
    ) -> tuple[float, float]:
        """Learn from statistics of simulations and of starts at the same theta.

        Args:
            simulated: statistics (n, size) of the simulations of every theta.
            started: statistics (k, size) of starts, at least two of every theta.
            terms: functions of theta, (n_theta, terms), the first one 1.
            groups: kind of each statistic, (size,) integers from 0.

        Returns:
            Mean squared difference between simulations and starts at the centre of the prior, in
            units of sigma squared and beyond what chance makes; and what the shift leaves of it.
        """
        spread = torch.stack([s.var(0) for s in started]).mean(0).sqrt()
        self.sigma.copy_(spread.clamp(min=1e-6 * float(spread.max())))
        difference = torch.stack(
            [(x.mean(0) - s.mean(0)) / self.sigma for x, s in zip(simulated, started, strict=True)]
        ).double()
        noise = torch.tensor(
            [1 / len(x) + 1 / len(s) for x, s in zip(simulated, started, strict=True)]
        ).double()
        terms = terms.double()
        precision = terms.T @ (terms / noise[:, None])
        covariance = torch.linalg.inv(precision)
        slopes = covariance @ (terms.T @ (difference / noise[:, None]))
        deviations = torch.cat([(s - s.mean(0)) / self.sigma for s in started])
        chance = 1 + _MARGIN * (2 / _independent(deviations, groups)).sqrt()
        kept = _shrinkage(slopes, covariance.diagonal(), groups, chance.double())
        self.shift.copy_((kept[:, groups] * slopes).float())
        # What the shift may be wrong by, in units of sigma squared: no map need come closer.
        self.doubt.copy_((kept[0, groups] * covariance[0, 0]).mean().float())
        before = (slopes[0].square().mean() - covariance[0, 0]).clamp(min=0)
        return float(before), float(self.doubt)

    def forward(self, start: Tensor, terms: Tensor) -> Tensor:
        """Targets (B, size) for the statistics (B, size) of starts and their terms (B, T)."""
        return start + self.sigma * (terms.float() @ self.shift)


def _shrinkage(slopes: Tensor, variance: Tensor, groups: Tensor, chance: Tensor) -> Tensor:
    """max(0, 1 - chance * variance / mean square) of every term and kind, (terms, kinds)."""
    kinds = len(chance)
    counts = torch.bincount(groups, minlength=kinds)
    sums = slopes.new_zeros(len(slopes), kinds).index_add_(1, groups, slopes.square())
    floor = chance * variance[:, None] * counts
    return (1 - floor / sums.clamp(min=1e-300)).clamp(min=0)


def _independent(deviations: Tensor, groups: Tensor) -> Tensor:
    """How many independent numbers fluctuate like those of each kind, (kinds,).

    (tr C)^2 / tr C^2 of their covariance C, from products of different maps.
    """
    out = []
    for kind in range(int(groups.max()) + 1):
        products = deviations[:, groups == kind] @ deviations[:, groups == kind].T
        n, own = len(products), products.diagonal()
        squares = (products.square().sum() - own.square().sum()) / (n * (n - 1))
        out.append(own.mean() ** 2 / squares.clamp(min=1e-30))
    return torch.stack(out).clamp(min=1)
