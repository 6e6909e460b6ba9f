"""What a prior is: a density and an exact map between its support and the real line."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.special import erfc, ndtri

from sbitools.errors import ParameterError
from sbitools.gate.plain import real

__all__ = ["Prior"]

# Beyond |u| = 8.2 the normal cumulative cannot be told from 0 or 1 in float64; theta at a bound
# is mapped here instead of to infinity.
_U_MAX = 8.2
# Beyond |u| = 8 a prior has 6e-16 of its mass at either end: no simulation lies there.
REACH = 8.0
_LEAST = 1e-300
_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


def ndtr(u: Tensor) -> Tensor:
    """Phi(u); torch's own ndtr loses all digits below u = -8."""
    return 0.5 * erfc(-u / math.sqrt(2))


def log_normal_pdf(u: Tensor) -> Tensor:
    return -0.5 * u**2 - _LOG_SQRT_2PI


def probit(p: Tensor, q: Tensor) -> Tensor:
    """Phi^-1(p) from p and q = 1 - p, exact in both tails."""
    small = ndtr(torch.tensor(-_U_MAX, dtype=torch.float64))
    lower, upper = ndtri(p.clamp(min=small)), -ndtri(q.clamp(min=small))
    return torch.where(p < 0.5, lower, upper)


def probit_wide(p: Tensor, q: Tensor) -> Tensor:
    """The same without an end at 8.2, as far out as float64 has numbers: 37."""
    return torch.where(p < 0.5, ndtri(p.clamp(min=_LEAST)), -ndtri(q.clamp(min=_LEAST)))


class Prior:
    """Base: a prior knows its support, its density and its map to the real line."""

    kind: ClassVar[str]
    low: float = -math.inf
    high: float = math.inf

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """u of any shape, for theta of the same shape."""
        raise NotImplementedError

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """Theta of any shape, for u of the same shape; always inside the support."""
        raise NotImplementedError

    def log_prob(self, theta: Tensor) -> Tensor:
        """Natural log of the density, minus infinity outside the support."""
        raise NotImplementedError

    def log_prob_unconstrained(self, u: Tensor) -> Tensor:
        """Log density of u: the standard normal, unless a prior says otherwise."""
        return log_normal_pdf(u)

    def log_abs_det(self, theta: Tensor) -> Tensor:
        """log |du/dtheta|, from p(theta) = p(u) |du/dtheta|."""
        return self.log_prob(theta) - self.log_prob_unconstrained(self.to_unconstrained(theta))

    def icdf(self, p: Tensor) -> Tensor:
        """Quantiles for p in (0, 1): how designs and draws are made."""
        return self.from_unconstrained(probit(p, 1 - p))

    def cdf(self, theta: Tensor) -> Tensor:
        """F(theta) of the prior, in [0, 1], for theta inside the support."""
        return ndtr(self.to_unconstrained(theta))

    def normal_score(self, theta: Tensor) -> Tensor:
        """Phi^-1(F(theta)), standard normal under the prior: u, where u is that."""
        return self.to_unconstrained(theta)

    def from_normal_score(self, s: Tensor) -> Tensor:
        """Theta of any shape, for normal scores of the same shape; always inside the support."""
        return self.from_unconstrained(s)

    def reach(self) -> tuple[float, float]:
        """u at either end beyond which the prior has no mass to speak of (6e-16).

        Infinite where theta cannot go any farther, because it is at the end of its support.
        """
        return -REACH, REACH

    def contains(self, theta: Tensor) -> Tensor:
        """True where theta is finite and inside the closed support."""
        return torch.isfinite(theta) & (theta >= self.low) & (theta <= self.high)

    def to_dict(self) -> dict[str, Any]:
        """Plain values with the registry name, for JSON and TOML."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.init}  # type: ignore[arg-type]
        return {"kind": self.kind} | values

    def _numbers(self) -> None:
        """Make every argument a finite float, whatever kind of number came in."""
        for f in fields(self):  # type: ignore[arg-type]
            value = real(
                getattr(self, f.name), f"prior {self.kind}: {f.name}", error=ParameterError
            )
            object.__setattr__(self, f.name, value)

    def _require(self, ok: bool, expected: str) -> None:
        if not ok:
            values = {k: v for k, v in self.to_dict().items() if k != "kind"}
            raise ParameterError(
                f"prior {self.kind}", expected=expected, got=f"{values}",
                fix="correct the prior's arguments",
            )  # fmt: skip
