"""Counts: entries of x that take evenly spaced values, whatever their unit and zero point."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Lattice"]

_LARGEST_COUNT = 1e4  # a column of more steps than this is as good as continuous
_EXACT = 1e-3  # values lie on a lattice to this part of a step,
_ROUNDING = 4 * torch.finfo(torch.float32).eps  # and to the rounding of the numbers,
_VAGUE = 0.2  # which may be this part of a step
_DIVISIONS = 32  # of Euclid's algorithm: enough for any steps up to the largest count
_ROWS = 20_000  # that are looked at


class Lattice:
    """Which entries of x are counts; a density needs them spread over their unit.

    The unit is the largest number that all differences of a column are multiples of: nothing
    here depends on where 0 is and how long 1 is. Columns share the smallest unit if it divides
    theirs, so that a count that is rarely not 0 has the unit of the others.

    Args:
        x: standardised simulations, shape (N, n).
        std: by which each column was divided, (n,).
        rounding: of the numbers before that, (n,): what is spaced by it is no count.
    """

    def __init__(self, x: Tensor, std: Tensor, rounding: Tensor | None = None) -> None:
        columns = x[:_ROWS].detach().cpu().double().T
        values = [torch.unique(column) for column in columns]
        scale = std.tolist()
        last = [0.0] * len(scale) if rounding is None else rounding.tolist()
        units = [_unit(v, r / s) for v, r, s in zip(values, last, scale, strict=True)]
        least = min((u * s for u, s in zip(units, scale, strict=True) if u), default=0.0)
        shared = [
            least / s if u and _divides(least / s, v) else u
            for u, s, v in zip(units, scale, values, strict=True)
        ]
        origin = [float(v[0]) if len(v) else 0.0 for v in values]
        self.unit = torch.tensor(shared, dtype=torch.float64).to(x)
        self.origin = torch.tensor(origin, dtype=torch.float64).to(x)
        self.whole = self.unit > 0

    def spread(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """x with counts spread evenly over their unit."""
        noise = torch.rand(x.shape, generator=rng).to(x.device) - 0.5
        return torch.where(self.whole, x + noise * self.unit, x)

    def snap(self, x: Tensor) -> Tensor:
        """x with the numbers that should be counts made so."""
        unit = torch.where(self.whole, self.unit, torch.ones_like(self.unit))
        steps = ((x - self.origin) / unit).round()
        return torch.where(self.whole, steps * unit + self.origin, x)


def _unit(values: Tensor, least: float) -> float:
    """Of which ascending distinct values are multiples apart; 0 if there is none, or one value."""
    if len(values) < 2:
        return 0.0
    gaps = values.diff()
    rounding = _ROUNDING * float(values.abs().max())
    length = float(values[-1] - values[0])
    unit = float(gaps.min())
    for _ in range(_DIVISIONS):
        if length > _LARGEST_COUNT * unit or rounding > _VAGUE * unit or unit <= 2 * least:
            return 0.0
        steps = (gaps / unit).round()
        rest = (gaps - unit * steps).abs()
        over = rest[rest > max(_EXACT * unit, rounding) + rounding * steps]
        if not len(over):
            unit = length / float(steps.sum())
            return unit if _divides(unit, values) else 0.0
        unit = float(over.min())
    return 0.0


def _divides(unit: float, values: Tensor) -> bool:
    """Whether ascending values are whole steps apart, and not too many."""
    steps = (values - values[0]) / unit
    slack = max(_EXACT, _ROUNDING * float(values.abs().max()) / unit)
    near = bool(((steps - steps.round()).abs() <= min(slack, _VAGUE)).all())
    return near and float(steps[-1]) <= _LARGEST_COUNT
