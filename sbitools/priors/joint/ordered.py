"""Parameters in ascending order: a <= b <= c."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.special import log_ndtr

from sbitools.errors import ParameterError
from sbitools.priors.base import REACH, Prior, probit, probit_wide

from .base import Joint, minus_infinity

__all__ = ["Ordered", "Sequential"]

# Normal score of the least of what must be left of a prior above the parameter before it.
_FARTHEST = 30.0


@dataclass(frozen=True)
class _Ascending(Joint):
    """What both kinds have in common: the support, and plain values."""

    names: tuple[str, ...]
    laws: tuple[Prior, ...] = field(default=(), repr=False)
    exact_marginals: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._check_names()

    @property
    def rule(self) -> str:
        """See `Joint`."""
        return " <= ".join(self.names)

    def contains(self, theta: Tensor) -> Tensor:
        """See `Joint`; equal ones are the edge of the support, and belong to it."""
        return super().contains(theta) & (theta.diff(dim=-1) >= 0).all(-1)

    def to_dict(self) -> dict[str, Any]:
        """See `Joint`."""
        return {"kind": self.kind, "names": list(self.names)}


@dataclass(frozen=True)
class Ordered(_Ascending):
    """Independent parameters of one prior, given that they are in ascending order.

    The density is k! prod_j p(theta_j) where theta_1 <= ... <= theta_k, else 0: for a uniform
    prior it is constant on the triangle, or simplex. No parameter comes before the others: this
    is what is left of independent draws if those in the wrong order are thrown away, or what
    draws are called if they have no names (the smaller one, the larger one). The prior of a
    member is the one it would have without the others; its marginal here is another.

    The largest of k is drawn first, F(theta_k) = v_k^(1/k), and below it the others,
    F(theta_j) = F(theta_j+1) v_j^(1/j), with v_j = Phi(u_j).

    Args:
        names: of parameters with the same prior, the smallest first.

    Raises:
        ParameterError: for names that do not fit, or priors that are not the same.

    References:
        | Non-Uniform Random Variate Generation (Devroye 1986), section V.3
    """

    kind: ClassVar[str] = "ordered"

    def _check_laws(self) -> None:
        for name, law in zip(self.names, self.laws, strict=True):
            if law != self.laws[0]:
                raise ParameterError(
                    self.title, expected=f"the same prior for all of them, {self.laws[0]}",
                    got=f"{law} for {name!r}",
                    fix='make them the same, or use kind "sequential", in which each prior is '
                    "cut to what lies above the parameter before",
                )  # fmt: skip

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """See `Joint`."""
        k, law = len(self.names), self.laws[0]
        log_f = log_ndtr(law.normal_score(theta))
        above = torch.cat([log_f[..., 1:], torch.zeros_like(log_f[..., :1])], -1)
        log_v = torch.arange(1, k + 1, dtype=torch.float64) * (log_f - above).clamp(max=0.0)
        return probit(log_v.exp(), -log_v.expm1())

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """See `Joint`."""
        parts = log_ndtr(u) / torch.arange(1, u.shape[-1] + 1, dtype=torch.float64)
        log_f = parts.flip(-1).cumsum(-1).flip(-1)
        theta = self.laws[0].from_normal_score(probit_wide(log_f.exp(), -log_f.expm1()))
        return theta.cummax(-1).values  # against rounding

    def log_prob(self, theta: Tensor) -> Tensor:
        """See `Joint`."""
        inside, safe = self._safe(theta)
        return minus_infinity(self.laws[0].log_prob(safe).sum(-1) + self._log_ways, inside)

    @property
    def _log_ways(self) -> float:
        return math.lgamma(len(self.names) + 1)

    def reach(self) -> list[tuple[float, float]]:
        """See `Joint`."""
        low, high = (math.isfinite(end) for end in self.laws[0].reach())
        # All but the largest come to the next one at the upper end, and can go no farther.
        last = len(self.names) - 1
        return [
            (-REACH if low else -math.inf, REACH if high and j == last else math.inf)
            for j in range(last + 1)
        ]

    def first(self, names: Sequence[str]) -> Self:
        """Raise `ParameterError`: some ordered parameters alone are not of this kind."""
        raise self._wrong_order()


@dataclass(frozen=True)
class Sequential(_Ascending):
    """Each parameter follows its prior, cut to what lies above the parameter before it.

    p(theta) = p_1(theta_1) prod_j p_j(theta_j) / S_j(theta_j-1) where theta_1 <= ... <= theta_k,
    with S_j = 1 - F_j: with uniform priors theta_j is uniform between theta_j-1 and its own upper
    bound. The first one keeps its prior whole, unlike in `Ordered`, and later ones crowd near the
    top: the order of drawing matters. u_j = Phi^-1(1 - S_j(theta_j) / S_j(theta_j-1)).

    Args:
        names: of continuous parameters, the smallest first.

    Raises:
        ParameterError: for names that do not fit, or a prior that has nothing above the one
            before it.
    """

    kind: ClassVar[str] = "sequential"

    def _check_laws(self) -> None:
        far = torch.tensor(REACH, dtype=torch.float64)
        for j in range(1, len(self.names)):
            before, law = self.laws[j - 1], self.laws[j]
            if law == before:
                continue
            top = before.from_normal_score(far)
            left = float(-_log_above(law, top))
            if before.high > law.high or left > -float(log_ndtr(-torch.tensor(_FARTHEST))):
                raise ParameterError(
                    self.title, expected=f"a prior of {self.names[j]!r} with mass above that of "
                    f"{self.names[j - 1]!r}", got=f"{law} above {before}",
                    fix="raise its upper bound, or lower the one before",
                )  # fmt: skip

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """See `Joint`."""
        scores = self._scores(theta)
        above = torch.stack([s for s, _ in scores], -1)
        cut = torch.stack([c for _, c in scores], -1)
        log_q = (log_ndtr(-above) - cut).clamp(max=0.0)
        return probit(-log_q.expm1(), log_q.exp())

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """See `Joint`."""
        return torch.stack([theta for theta, _ in self._steps(u)], -1).cummax(-1).values

    def log_prob(self, theta: Tensor) -> Tensor:
        """See `Joint`."""
        inside, safe = self._safe(theta)
        cut = sum(c for _, c in self._scores(safe))
        return minus_infinity(self._densities(safe) - cut, inside)

    def log_abs_det_at(self, u: Tensor, theta: Tensor) -> Tensor:
        """See `Joint`."""
        cut = sum(c for _, c in self._steps(u))
        return self._densities(theta) - cut - self.log_prob_unconstrained(u)

    def _densities(self, theta: Tensor) -> Tensor:
        columns = [law.log_prob(theta[..., j]) for j, law in enumerate(self.laws)]
        return torch.stack(columns, -1).sum(-1)

    def _scores(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Of each member its normal score, and log S of the one before it."""
        found: list[tuple[Tensor, Tensor]] = []
        for j, law in enumerate(self.laws):
            column = theta[..., j]
            cut = _log_above(law, theta[..., j - 1]) if j else torch.zeros_like(column)
            found.append((law.normal_score(column), cut))
        return found

    def _steps(self, u: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Of each member theta, and log S of the one before it: from u, so exact at bounds."""
        found: list[tuple[Tensor, Tensor]] = []
        log_s = torch.zeros_like(u[..., 0])
        for j, law in enumerate(self.laws):
            if j and law != self.laws[j - 1]:
                log_s = _log_above(law, found[-1][0])
            cut = log_s if j else torch.zeros_like(log_s)
            log_s = cut + log_ndtr(-u[..., j])
            theta = law.from_normal_score(probit_wide(-log_s.expm1(), log_s.exp()))
            found.append((theta, cut))
        return found

    def reach(self) -> list[tuple[float, float]]:
        """See `Joint`."""
        ends = [tuple(map(math.isfinite, law.reach())) for law in self.laws]
        # At its lower end a later one comes to the one before it, and can go no farther.
        return [
            (-REACH if low and not j else -math.inf, REACH if high else math.inf)
            for j, (low, high) in enumerate(ends)
        ]

    def first(self, names: Sequence[str]) -> Self:
        """See `Joint`; only those that come first already."""
        if set(self.names[: len(names)]) != set(names):
            raise self._wrong_order()
        return self

    def cut(self, n: int) -> Self:
        """See `Joint`."""
        return replace(self, names=self.names[:n], laws=self.laws[:n])

    def _wrong_order(self) -> ParameterError:
        error = super()._wrong_order()
        return ParameterError(
            error.subject, expected=error.expected, got=error.got,
            fix=error.fix + "; nuisance parameters may come last, as in "
            f"{self.names[0]!r} inferred, {self.names[1]!r} not",
        )  # fmt: skip


def _log_above(law: Prior, theta: Tensor) -> Tensor:
    """log (1 - F(theta)), also below the support."""
    inside = theta.clamp(law.low, law.high)
    log_s = log_ndtr(-law.normal_score(inside))
    return torch.where(theta <= law.low, torch.zeros_like(log_s), log_s)
