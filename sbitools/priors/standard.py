"""The priors in daily use."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.special import ndtri

from sbitools.display.brief import Brief
from sbitools.errors import ParameterError
from sbitools.gate.plain import real

from .base import REACH, Prior, log_normal_pdf, ndtr, probit

__all__ = ["Categorical", "LogNormal", "LogUniform", "Normal", "TruncatedNormal", "Uniform"]

# Nearer to the end of its support than this part of its width, theta is at the end.
_AT_END = 1e-9


_FAR = 10.0  # standard deviations that no draw reaches
_LOG_MAX = 700.0  # the exponential of more, or of minus more, is no number of float64


@dataclass(frozen=True)
class Uniform(Prior):
    """Constant density between `low` and `high`."""

    low: float
    high: float
    kind: ClassVar[str] = "uniform"

    def __post_init__(self) -> None:
        self._numbers()
        self._require(self.low < self.high, "low < high")
        self._require(math.isfinite(self.high - self.low), "a width that is a float64 number")

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        width = self.high - self.low
        return probit((theta - self.low) / width, (self.high - theta) / width)

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """See `Prior`."""
        width = self.high - self.low
        theta = torch.where(u < 0, self.low + width * ndtr(u), self.high - width * ndtr(-u))
        return theta.clamp(self.low, self.high)

    def reach(self) -> tuple[float, float]:
        """See `Prior`."""
        return -math.inf, math.inf

    def log_prob(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        inside = torch.full_like(theta, -math.log(self.high - self.low))
        return inside.where(self.contains(theta), torch.tensor(-math.inf, dtype=theta.dtype))


@dataclass(frozen=True)
class LogUniform(Prior):
    """Constant density of log theta between `low` > 0 and `high`."""

    low: float
    high: float
    kind: ClassVar[str] = "log_uniform"

    def __post_init__(self) -> None:
        self._numbers()
        self._require(0 < self.low < self.high, "0 < low < high")

    @property
    def _log(self) -> Uniform:
        return Uniform(math.log(self.low), math.log(self.high))

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        return self._log.to_unconstrained(theta.log())

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """See `Prior`."""
        return self._log.from_unconstrained(u).exp().clamp(self.low, self.high)

    def reach(self) -> tuple[float, float]:
        """See `Prior`."""
        return -math.inf, math.inf

    def log_prob(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        inside = -theta.clamp(min=self.low).log() - math.log(self._log.high - self._log.low)
        return inside.where(self.contains(theta), torch.tensor(-math.inf, dtype=theta.dtype))


@dataclass(frozen=True)
class Normal(Prior):
    """Normal with mean `loc` and standard deviation `scale`."""

    loc: float
    scale: float
    kind: ClassVar[str] = "normal"

    def __post_init__(self) -> None:
        self._numbers()
        self._require(self.scale > 0, "scale > 0")
        self._require(math.isfinite(abs(self.loc) + _FAR * self.scale), "draws within float64")

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        return (theta - self.loc) / self.scale

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """See `Prior`."""
        return self.loc + self.scale * u

    def log_prob(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        return log_normal_pdf(self.to_unconstrained(theta)) - math.log(self.scale)


@dataclass(frozen=True)
class LogNormal(Prior):
    """log theta is normal with mean `loc` and standard deviation `scale` (natural log)."""

    loc: float
    scale: float
    kind: ClassVar[str] = "log_normal"
    low: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._numbers()
        self._require(self.scale > 0, "scale > 0")
        self._require(abs(self.loc) + _FAR * self.scale < _LOG_MAX, "draws within float64")

    def contains(self, theta: Tensor) -> Tensor:
        """True where theta is finite and positive: 0 itself has no logarithm."""
        return torch.isfinite(theta) & (theta > 0)

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        return (theta.log() - self.loc) / self.scale

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """See `Prior`."""
        return (self.loc + self.scale * u).exp()

    def log_prob(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        inside = theta > 0
        safe = theta.where(inside, torch.ones_like(theta))
        value = log_normal_pdf(self.to_unconstrained(safe)) - math.log(self.scale) - safe.log()
        return value.where(inside, torch.tensor(-math.inf, dtype=theta.dtype))


@dataclass(frozen=True)
class TruncatedNormal(Prior):
    """Normal(loc, scale) cut to [low, high]; `loc` may lie outside."""

    loc: float
    scale: float
    low: float
    high: float
    kind: ClassVar[str] = "truncated_normal"

    def __post_init__(self) -> None:
        self._numbers()
        self._require(self.scale > 0 and self.low < self.high, "scale > 0 and low < high")
        if not self._mass > 1e-300:
            raise ParameterError(
                f"prior {self.kind}", expected="support within about 37 scales of loc",
                got=f"{self.to_dict()}", fix="move low and high towards loc, or use uniform",
            )  # fmt: skip

    def _ends(self) -> tuple[Tensor, Tensor, float]:
        """Standardised ends on the side where tail masses are small, and the sign used."""
        a, b = (self.low - self.loc) / self.scale, (self.high - self.loc) / self.scale
        sign = -1.0 if a > 0 else 1.0  # far above the mean: work with the mirror image
        a, b = (a, b) if sign > 0 else (-b, -a)
        return torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64), sign

    @property
    def _mass(self) -> float:
        a, b, _ = self._ends()
        return float(ndtr(b) - ndtr(a))

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        a, b, sign = self._ends()
        z = sign * (theta - self.loc) / self.scale
        p = (ndtr(z) - ndtr(a)) / self._mass
        # Differences of small numbers: the upper tail's above the mean, the lower one's below.
        q = torch.where(z < 0, ndtr(b) - ndtr(z), ndtr(-z) - ndtr(-b)) / self._mass
        return sign * probit(p, q)

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """See `Prior`."""
        a, b, sign = self._ends()
        v = sign * u
        from_below = ndtri(ndtr(a) + ndtr(v) * self._mass)
        # Above the mean 1 - F is the accurate number; below it F is.
        from_above = -ndtri(ndtr(-b) + ndtr(-v) * self._mass)
        z = torch.where(from_below < 0, from_below, from_above)
        return (self.loc + sign * self.scale * z).clamp(self.low, self.high)

    def reach(self) -> tuple[float, float]:
        """See `Prior`."""
        ends = self.from_unconstrained(torch.tensor([-REACH, REACH], dtype=torch.float64))
        low, high = ends.tolist()
        width = _AT_END * float(self.from_unconstrained(torch.ones(1).double()) - low)
        return (-math.inf if low - self.low <= width else -REACH,
                math.inf if self.high - high <= width else REACH)  # fmt: skip

    def log_prob(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        z = (theta - self.loc) / self.scale
        value = log_normal_pdf(z) - math.log(self.scale) - math.log(self._mass)
        return value.where(self.contains(theta), torch.tensor(-math.inf, dtype=theta.dtype))


@dataclass(frozen=True, repr=False)
class Categorical(Brief, Prior):
    """Codes 0 .. K-1 with the given probabilities; it has no map to the real line."""

    probabilities: tuple[float, ...]
    kind: ClassVar[str] = "categorical"

    def __post_init__(self) -> None:
        p, what = self.probabilities, f"prior {self.kind}: probabilities"
        listed = np.ndim(p) == 1 and not isinstance(p, str | dict | set)
        self._require(listed, "two or more probabilities that sum to 1")
        numbers = tuple(real(v, what, least=0, most=1, error=ParameterError) for v in p)
        # Numbers that were rounded to float32 are brought to a sum of 1.
        total = math.fsum(numbers)
        ok = len(numbers) > 1 and abs(total - 1) < 1e-6
        object.__setattr__(self, "probabilities", numbers)
        self._require(ok, "two or more probabilities that sum to 1")
        if abs(total - 1) >= 1e-9:
            object.__setattr__(self, "probabilities", tuple(v / total for v in numbers))

    def icdf(self, p: Tensor) -> Tensor:
        """Codes as float64."""
        edges = torch.tensor(self.probabilities, dtype=torch.float64).cumsum(0)[:-1]
        return torch.bucketize(p.contiguous(), edges, right=True).to(torch.float64)

    def contains(self, theta: Tensor) -> Tensor:
        """True where theta is one of the codes."""
        return (theta == theta.round()) & (theta >= 0) & (theta < len(self.probabilities))

    def reach(self) -> tuple[float, float]:
        """See `Prior`."""
        return -math.inf, math.inf

    def log_prob(self, theta: Tensor) -> Tensor:
        """Log probability of the code."""
        inside = self.contains(theta)
        p = torch.tensor(self.probabilities, dtype=torch.float64)
        value = p[theta.where(inside, torch.zeros_like(theta)).long()].log()
        return value.where(inside, torch.tensor(-math.inf, dtype=torch.float64))

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """Raise: a category has no place on the real line."""
        raise ParameterError(
            "categorical parameter", expected="a continuous parameter", got="categories",
            fix="set inferred=False, or infer it with a discrete posterior",
        )  # fmt: skip

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """Raise: a category has no place on the real line."""
        return self.to_unconstrained(u)
