"""Functions of theta that the mean and the power of fields are followed by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations_with_replacement
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from sbitools.parameters import ParameterSpace
from sbitools.priors.base import Prior, ndtr

__all__ = ["Terms", "choose", "condition", "possible_terms"]

_WIDE = 3.0  # largest over smallest value from which on a logarithm may be the better coordinate
_PER_TERM = (1, 2, 4, 4, 4)  # simulations that one term takes, by the degree
_REACH = 1.5  # coordinates are -1 to 1 where there were simulations: beyond, polynomials explode

T = TypeVar("T")


def condition(parameters: ParameterSpace, theta: Tensor) -> Tensor:
    """The prior's cumulative distribution of each of theta (B, P), -1 to 1, float64.

    Of categories, it is their number. Of members of joint priors, it is that of their own prior:
    any function of each parameter by itself will do that is even over its range.
    """
    theta = torch.as_tensor(theta).double()
    out = torch.zeros(theta.shape, dtype=torch.float64)
    for i, p in enumerate(parameters):
        if p.categories or not isinstance(p.prior, Prior):
            out[:, i] = 2 * theta[:, i] / max(len(p.categories or ()) - 1, 1) - 1
        else:
            out[:, i] = 2 * ndtr(p.prior.to_unconstrained(theta[:, i]).double()) - 1
    return out


@dataclass(frozen=True)
class Terms:
    """Polynomials of theta.

    Args:
        kinds: coordinate of each parameter, ``"prior"`` (its cumulative distribution) or
            ``"log"``.
        low: smallest coordinates there were, (P,); they become -1.
        high: largest ones; they become 1.
        degree: of the polynomials in all parameters together.
    """

    kinds: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    degree: int

    @property
    def n(self) -> int:
        """Number of functions, the constant 1 among them."""
        return len(self._products())

    def __call__(self, parameters: ParameterSpace, theta: Tensor) -> np.ndarray:
        """Values (B, n), float64, of theta (B, P)."""
        x = _coordinates(parameters, theta, self.kinds)
        low, high = np.array(self.low), np.array(self.high)
        width = np.where(high > low, high - low, 1.0)
        u = np.clip((2 * x - low - high) / width, -_REACH, _REACH)
        columns = [np.prod(u[:, list(p)], axis=1) for p in self._products()]
        return np.stack(columns, axis=1)

    def _products(self) -> list[tuple[int, ...]]:
        ways = range(len(self.kinds))
        return [p for d in range(self.degree + 1) for p in combinations_with_replacement(ways, d)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Terms:
        """Inverse of `to_dict`."""
        kinds, low, high = (tuple(values[k]) for k in ("kinds", "low", "high"))
        return cls(kinds, low, high, values["degree"])


def possible_terms(parameters: ParameterSpace, theta: Tensor, n: int) -> list[Terms]:
    """Those that `n` simulations with theta (N, P) can tell from chance, simple ones first.

    No dependence on theta at all is left out where there are simulations enough for straight
    lines: parameters are there because they do something.
    """
    plain = tuple("prior" for _ in parameters)
    lowest, highest = (np.asarray(getattr(theta, f)(0).values) for f in ("min", "max"))
    logs = tuple(
        "log" if a > 0 and b > _WIDE * a else "prior" for a, b in zip(lowest, highest, strict=True)
    )
    out = []
    for degree, each in enumerate(_PER_TERM):
        for kinds in dict.fromkeys([plain, logs] if degree else [plain]):
            x = _coordinates(parameters, theta, kinds)
            terms = Terms(kinds, tuple(x.min(0).tolist()), tuple(x.max(0).tolist()), degree)
            if not degree or (len(parameters) and terms.n * each <= n):
                out.append(terms)
    return out[1:] or out


def choose(candidates: Sequence[T], scores: Callable[[T], np.ndarray], errors: float = 2.0) -> T:
    """The candidate with the best mean score of held-out simulations.

    Args:
        candidates: at least one, simple ones first.
        scores: of every held-out simulation, (m,), by one candidate; higher is better.
        errors: of the difference, by which a later one must beat the best so far; or by as many
            in the number of simulations that it is better for.
    """
    best, value = candidates[0], scores(candidates[0])
    for other in candidates[1:]:
        its = scores(other)
        gain = its - value
        if not np.isfinite(its).all():
            continue
        n = max(len(gain) - 1, 1)
        # By the mean, or by most of them, where a few with heavy tails hide the mean.
        sure = gain.mean() > errors * gain.std() / np.sqrt(n)
        most = gain.mean() > 0 and (gain > 0).mean() > 0.5 + 0.5 * errors / np.sqrt(n)
        if sure or most:
            best, value = other, its
    return best


def _coordinates(
    parameters: ParameterSpace, theta: Tensor, kinds: Sequence[str]
) -> np.ndarray:  # fmt: skip
    x = condition(parameters, theta).numpy().copy()
    for column, kind in enumerate(kinds):
        if kind == "log":
            x[:, column] = np.log(np.maximum(theta[:, column].double().numpy(), 1e-300))
    return x
