"""Bounded numbers on the real line: where mixtures of normals are made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sbitools.errors import ParameterError
from sbitools.gate.plain import real

from .base import log_normal_pdf
from .standard import Uniform

__all__ = ["Bounds", "checked_bounds"]

Ends = tuple[float | None, float | None]


def checked_bounds(value: Any, what: str) -> Ends:
    """Two ends, None for one that is not there.

    Raises:
        ParameterError: for anything else, or ends in the wrong order.
    """
    pair = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    ends = tuple(None if v is None else real(v, what, error=ParameterError) for v in pair)
    both = len(ends) == 2 and None not in ends
    if len(ends) != 2 or (both and not ends[0] < ends[1]):  # type: ignore[operator]
        raise ParameterError(
            what, expected="(low, high) with low < high, None for an end that is not there",
            got=f"{value!r}", fix="for example (0.0, None)",
        )  # fmt: skip
    return ends


class Bounds:
    """y = Phi^-1((theta - low) / (high - low)), log(theta - low), -log(high - theta) or theta.

    What is uniform between two ends becomes a normal number, so a mixture of a few is enough.

    Args:
        ends: low and high; None for one that is not there.
    """

    def __init__(self, ends: Ends) -> None:
        self.ends = ends
        self.low = -math.inf if ends[0] is None else ends[0]
        self.high = math.inf if ends[1] is None else ends[1]
        self._between = None if None in ends else Uniform(self.low, self.high)

    def contains(self, theta: Tensor) -> Tensor:
        """True inside; a single end has no place on the line, two ends have."""
        if self._between is not None:
            return self._between.contains(theta)
        return torch.isfinite(theta) & (theta > self.low) & (theta < self.high)

    def to_line(self, theta: Tensor) -> Tensor:
        """y for theta inside."""
        if self._between is not None:
            return self._between.to_unconstrained(theta)
        if self.low > -math.inf:
            return (theta - self.low).log()
        return -(self.high - theta).log() if self.high < math.inf else theta

    def from_line(self, y: Tensor) -> Tensor:
        """Theta for y; always inside."""
        if self._between is not None:
            return self._between.from_unconstrained(y)
        if self.low > -math.inf:
            theta = self.low + y.exp()
        else:
            theta = self.high - (-y).exp() if self.high < math.inf else y
        inside = math.nextafter(self.low, math.inf), math.nextafter(self.high, -math.inf)
        return theta.clamp(*inside)

    def log_slope(self, y: Tensor) -> Tensor:
        """log dy/dtheta."""
        if self._between is not None:
            return -log_normal_pdf(y) - math.log(self.high - self.low)
        if self.low > -math.inf:
            return -y
        return y if self.high < math.inf else torch.zeros_like(y)
