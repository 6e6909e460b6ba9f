"""Parameters of any priors, correlated as normal numbers are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from sbitools.display.brief import Brief
from sbitools.errors import ParameterError
from sbitools.gate.arrays import real_tensor
from sbitools.priors.base import Prior, log_normal_pdf
from sbitools.priors.standard import Normal

from .base import Joint, chain_reach, minus_infinity
from .matrices import correlation_of, covariance_of, factor, rows_of

__all__ = ["Copula", "multivariate_normal"]


@dataclass(frozen=True, repr=False)
class Copula(Brief, Joint):
    """A Gaussian copula: s_j = Phi^-1(F_j(theta_j)) are normal with the given correlations.

    With R = L L^T the correlation and u = L^-1 s,

        log p(theta) = sum_j [log p_j(theta_j) - log phi(s_j)] + log N(s; 0, R).

    Every parameter keeps its own prior p_j; with normal ones this is the multivariate normal.

    Args:
        names: of two or more continuous parameters.
        correlation: of their normal scores (not of theta itself, unless all priors are normal),
            (k, k); one number for two parameters.
        marginals: priors of the parameters, if these have none of their own.

    Raises:
        ParameterError: for a matrix that is no correlation matrix, or wrong names or priors.

    References:
        | An Introduction to Copulas (Nelsen 2006), section 2.3
    """

    names: tuple[str, ...]
    correlation: Any  # rows of numbers, once it is made
    marginals: tuple[Prior, ...] | None = field(default=None, repr=False)
    laws: tuple[Prior, ...] = field(default=(), repr=False)
    kind: ClassVar[str] = "copula"

    def __post_init__(self) -> None:
        self._check_names()
        k, what = len(self.names), f"correlation of {', '.join(self.names)}"
        matrix = correlation_of(self.correlation, k, what)
        object.__setattr__(self, "correlation", rows_of(matrix))
        given = self.marginals
        if given is None:
            return
        if len(given) != k or not all(isinstance(p, Prior) for p in given):
            raise ParameterError(
                f"marginals of {', '.join(self.names)}", expected=f"{k} priors of sbitools.priors",
                got=f"{given!r}", fix="one for each name",
            )  # fmt: skip
        object.__setattr__(self, "marginals", tuple(given))

    def _own_laws(self) -> Sequence[Prior | None]:
        return self.marginals or super()._own_laws()

    @cached_property
    def _factor(self) -> Tensor:
        return factor(self.correlation)

    def _scores(self, u: Tensor) -> Tensor:
        return u @ self._factor.T

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """See `Joint`."""
        s = torch.stack([law.normal_score(theta[..., j]) for j, law in enumerate(self.laws)], -1)
        return torch.linalg.solve_triangular(self._factor, s[..., None], upper=False)[..., 0]

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """See `Joint`."""
        s = self._scores(u)
        columns = [law.from_normal_score(s[..., j]) for j, law in enumerate(self.laws)]
        return torch.stack(columns, -1)

    def log_prob(self, theta: Tensor) -> Tensor:
        """See `Joint`."""
        inside, safe = self._safe(theta)
        u = self.to_unconstrained(safe)
        value = self.log_prob_unconstrained(u) + self.log_abs_det_at(u, safe)
        return minus_infinity(value, inside)

    def log_abs_det_at(self, u: Tensor, theta: Tensor) -> Tensor:
        """See `Joint`."""
        densities = [law.log_prob(theta[..., j]) for j, law in enumerate(self.laws)]
        slopes = torch.stack(densities, -1) - log_normal_pdf(self._scores(u))
        return slopes.sum(-1) - self._factor.diagonal().log().sum()

    def reach(self) -> list[tuple[float, float]]:
        """See `Joint`."""
        return chain_reach(self.laws)

    def first(self, names: Sequence[str]) -> Self:
        """See `Joint`; a copula has no order."""
        order = sorted(range(len(self.names)), key=lambda j: self.names[j] not in names)
        return self._of(order)

    def cut(self, n: int) -> Self:
        """See `Joint`."""
        return self._of(list(range(n)))

    def _of(self, order: Sequence[int]) -> Self:
        matrix = torch.tensor(self.correlation, dtype=torch.float64)[order][:, order]
        return replace(
            self, names=tuple(self.names[j] for j in order), correlation=rows_of(matrix),
            laws=tuple(self.laws[j] for j in order), marginals=None,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """See `Joint`."""
        return {
            "kind": self.kind, "names": list(self.names),
            "correlation": [list(row) for row in self.correlation],
        }  # fmt: skip


def multivariate_normal(names: Sequence[str], mean: Any, covariance: Any) -> Copula:
    """A multivariate normal prior; its parameters need no priors of their own.

    Args:
        names: of k parameters.
        mean: (k,), in their units.
        covariance: (k, k).

    Raises:
        ParameterError: for numbers that are not finite, wrong shapes, or a matrix that is not
            symmetric and positive definite.
    """
    names, of = tuple(names), ", ".join(map(str, names))
    centre = real_tensor(mean, f"mean of {of}", ParameterError).detach().cpu().double()
    if tuple(centre.shape) != (len(names),):
        raise ParameterError(
            f"mean of {of}", expected=f"shape ({len(names)},)", got=f"{tuple(centre.shape)}",
            fix="one number for each name",
        )  # fmt: skip
    scale, correlation = covariance_of(covariance, len(names), f"covariance of {of}")
    laws = tuple(Normal(m, s) for m, s in zip(centre.tolist(), scale.tolist(), strict=True))
    return Copula(names, rows_of(correlation), marginals=laws)
