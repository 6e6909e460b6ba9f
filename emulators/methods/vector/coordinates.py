"""Theta as numbers of order 1, and their products: what data vectors are followed by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations_with_replacement
from typing import Any

import torch
from torch import Tensor

from sbitools.parameters import Parameter, ParameterSpace

__all__ = ["Coordinates", "possible_coordinates"]

_REACH = 1.1  # coordinates are -1 to 1 where there were simulations: beyond, polynomials explode
_WIDE = 3.0  # largest over smallest value from which on a logarithm may be the better coordinate
_DEGREE = 3
_PER_TERM = 5  # simulations that one product takes
_MOST = 300  # products


@dataclass(frozen=True)
class Coordinates:
    """Numbers in [-1, 1] for each parameter; one for each category of a categorical one.

    Args:
        kinds: of each parameter, ``"plain"``, ``"log"``, ``"normal"`` (the normal score of its
            prior) or ``"category"``.
        counts: numbers that each parameter becomes.
        low: smallest values of the simulations, one for each parameter.
        high: largest ones.
        degree: of the products.
    """

    kinds: tuple[str, ...]
    counts: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    degree: int

    @property
    def n(self) -> int:
        """Numbers that theta becomes."""
        return sum(self.counts)

    @property
    def products(self) -> list[list[tuple[int, ...]]]:
        """The numbers that are multiplied, degree by degree from 1 on."""
        return [list(combinations_with_replacement(range(self.n), d))
                for d in range(1, self.degree + 1)]  # fmt: skip

    @property
    def terms(self) -> list[int]:
        """Number of products of each degree."""
        return [len(block) for block in self.products]

    def __call__(self, parameters: ParameterSpace, theta: Tensor) -> Tensor:
        """(B, n), float64, of theta (B, P)."""
        theta = torch.as_tensor(theta).detach().cpu().double()
        out = [theta.new_empty(len(theta), 0)]
        for i, (p, kind) in enumerate(zip(parameters, self.kinds, strict=True)):
            if kind == "category":
                codes = theta[:, i].round().long().clamp(0, self.counts[i] - 1)
                out.append(torch.nn.functional.one_hot(codes, self.counts[i]).double())
                continue
            value, low, high = _value(p, theta[:, i], kind), self.low[i], self.high[i]
            width = high - low if high > low else 1.0
            out.append(((2 * value - low - high) / width).clamp(-_REACH, _REACH)[:, None])
        return torch.cat(out, 1)

    def multiplied(self, numbers: Tensor) -> Tensor:
        """Products (B, sum of terms) of numbers (B, n)."""
        columns = [numbers.new_empty(len(numbers), 0)]
        for block in self.products:
            columns += [numbers[:, list(p)].prod(1, keepdim=True) for p in block]
        return torch.cat(columns, 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Coordinates:
        """Inverse of `to_dict`."""
        kinds, counts, low, high = (tuple(values[k]) for k in ("kinds", "counts", "low", "high"))
        return cls(kinds, counts, low, high, values["degree"])


def possible_coordinates(
    parameters: ParameterSpace, theta: Tensor, n: int
) -> list[Coordinates]:  # fmt: skip
    """Those that `n` simulations with theta (N, P) can tell apart, the plainest first."""
    theta = theta.double()
    natural = [_natural(p) for p in parameters]
    wide = [
        "log" if kind == "plain" and len(column) and float(column.min()) > 0
        and float(column.max()) > _WIDE * float(column.min()) else kind
        for kind, column in zip(natural, theta.T, strict=True)
    ]  # fmt: skip
    return [_ranged(parameters, theta, kinds, n)
            for kinds in dict.fromkeys([tuple(natural), tuple(wide)])]  # fmt: skip


def _ranged(
    parameters: ParameterSpace, theta: Tensor, kinds: Sequence[str], n: int
) -> Coordinates:  # fmt: skip
    counts, low, high = [], [], []
    for i, (p, kind) in enumerate(zip(parameters, kinds, strict=True)):
        counts.append(len(p.categories or ()) if kind == "category" else 1)
        value = theta[:, i] if kind == "category" else _value(p, theta[:, i], kind)
        low.append(float(value.min()))
        high.append(float(value.max()))
    wide, degree = sum(counts), 0
    while degree < _DEGREE and wide:
        if math.comb(wide + degree + 1, degree + 1) > min(n / _PER_TERM, _MOST):
            break
        degree += 1
    # Even with few simulations for many parameters: what is there is linear, or shrunk away.
    degree = max(degree, 1 if wide and wide + 2 < n / 2 else 0)
    return Coordinates(tuple(kinds), tuple(counts), tuple(low), tuple(high), degree)


def _natural(p: Parameter) -> str:
    kind = getattr(p.prior, "kind", "")
    if p.categories:
        return "category"
    if kind in ("log_uniform", "loguniform", "log_normal", "lognormal"):
        return "log"
    return "plain" if kind in ("uniform", "normal", "truncated_normal") else "normal"


def _value(p: Parameter, column: Tensor, kind: str) -> Tensor:
    if kind == "log":
        return column.clamp(min=1e-300).log()
    if kind == "normal":  # of the parameter by itself, also where its prior is a joint one
        return p.prior.to_unconstrained(column)  # type: ignore[union-attr]
    return column
