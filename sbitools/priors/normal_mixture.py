"""A sum of normal densities, with bounds if there are any."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from sbitools.display.brief import Brief
from sbitools.errors import ParameterError
from sbitools.gate.plain import real

from .base import REACH, Prior, log_normal_pdf, ndtr, probit, probit_wide
from .bounds import Bounds, Ends, checked_bounds

__all__ = ["NormalMixture", "checked_weights", "quantile"]

# Newton's steps, halved where one leaves the bracket, end when u is as near as float64 tells.
_STEPS, _NEAR = 200, 4e-15


def quantile(u: Tensor, weights: Tensor, means: Tensor, scales: Tensor) -> Tensor:
    """y with sum_k w_k Phi((y - m_k) / s_k) = Phi(u), for u (...,) and others (..., K).

    It lies between the least and the largest quantile of the components.
    """
    own = means + scales * u[..., None]
    low, high = own.min(-1).values, own.max(-1).values
    y = (weights * own).sum(-1)
    for _ in range(_STEPS):
        z = (y[..., None] - means) / scales
        at = probit_wide((weights * ndtr(z)).sum(-1), (weights * ndtr(-z)).sum(-1))
        missed = at - u
        low, high = torch.where(missed < 0, y, low), torch.where(missed > 0, y, high)
        done = (missed.abs() <= _NEAR * (1 + u.abs())) | (high - low <= _NEAR * y.abs())
        if bool(done.all()):
            break
        density = (weights * log_normal_pdf(z).exp() / scales).sum(-1)
        step = y - missed * log_normal_pdf(at).exp() / density
        inside = (step > low) & (step < high)
        y = torch.where(done, y, torch.where(inside, step, 0.5 * (low + high)))
    return y


def checked_weights(values: Any, what: str) -> tuple[float, ...]:
    """Positive numbers that sum to 1.

    Raises:
        ParameterError: for anything else.
    """
    numbers = [real(v, what, error=ParameterError) for v in values] if np.ndim(values) == 1 else []
    total = math.fsum(numbers)
    if not numbers or min(numbers) <= 0 or abs(total - 1) > 1e-6:
        raise ParameterError(
            what, expected="positive numbers that sum to 1", got=f"{values!r}"[:200],
            fix="divide them by their sum",
        )  # fmt: skip
    return tuple(v / total for v in numbers) if abs(total - 1) > 1e-12 else tuple(numbers)


@dataclass(frozen=True, repr=False)
class NormalMixture(Brief, Prior):
    """y of theta (see `Bounds`) has the density sum_k w_k N(y; m_k, s_k^2).

    Args:
        weights: w, positive, with the sum 1.
        means: m, on the line that `bounds` lead to.
        scales: s > 0.
        bounds: (low, high) of theta, None for an end that is not there.
    """

    weights: tuple[float, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    bounds: Ends = (None, None)
    kind: ClassVar[str] = "normal_mixture"

    def __post_init__(self) -> None:
        put, what = object.__setattr__, f"prior {self.kind}"
        put(self, "weights", checked_weights(self.weights, f"{what}: weights"))
        for name in ("means", "scales"):
            given = getattr(self, name)
            listed = given if np.ndim(given) == 1 else ()
            values = [real(v, f"{what}: {name}", error=ParameterError) for v in listed]
            put(self, name, tuple(values))
        put(self, "bounds", checked_bounds(self.bounds, f"{what}: bounds"))
        same = len(self.weights) == len(self.means) == len(self.scales)
        self._require(same and min(self.scales) > 0, "as many means and scales > 0 as weights")
        put(self, "low", self._line.low)
        put(self, "high", self._line.high)

    @property
    def _line(self) -> Bounds:
        return Bounds(self.bounds)

    def _numbers_of(self, name: str) -> Tensor:
        return torch.tensor(getattr(self, name), dtype=torch.float64)

    def _standard(self, y: Tensor) -> Tensor:
        return (y[..., None] - self._numbers_of("means")) / self._numbers_of("scales")

    def contains(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        return self._line.contains(theta)

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        z, w = self._standard(self._line.to_line(theta)), self._numbers_of("weights")
        return probit((w * ndtr(z)).sum(-1), (w * ndtr(-z)).sum(-1))

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """See `Prior`."""
        w, m, s = (self._numbers_of(name) for name in ("weights", "means", "scales"))
        return self._line.from_line(quantile(u, w, m, s))

    def log_prob(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        inside = self.contains(theta)
        y = self._line.to_line(
            theta.where(inside, self.from_unconstrained(0 * theta.nan_to_num()))
        )
        parts = log_normal_pdf(self._standard(y)) + self._numbers_of("weights").log()
        value = (parts - self._numbers_of("scales").log()).logsumexp(-1) + self._line.log_slope(y)
        return value.where(inside, torch.tensor(-math.inf, dtype=torch.float64))

    def reach(self) -> tuple[float, float]:
        """See `Prior`; at one end of two the support ends, at a single one u goes on."""
        if None not in self.bounds:
            return -math.inf, math.inf
        return -REACH, REACH

    def to_dict(self) -> dict[str, Any]:
        """See `Prior`."""
        names = ("weights", "means", "scales", "bounds")
        return {"kind": self.kind} | {name: list(getattr(self, name)) for name in names}
