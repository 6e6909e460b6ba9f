"""Draws far out in the prior, which hardly change a rank and may be all of a variance.

One draw of each test of an exact posterior is a draw of the prior, so of N tests with L draws each
N L p are expected where the prior has mass p, however the draws of a test depend on each other.
That K or more are there has a probability of N L p / K at most (Markov's inequality).

An end of a prior that ends near its middle, as a uniform one does, has no such draws: how close to
its edge they come changes nothing that is said of the parameter.

Ordered parameters, whose marginals have no closed form, are looked at in u.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from sbitools.calibration.drawing.draws import CalibrationDraws

from .coordinates import block_without_marginals

__all__ = ["Outliers", "far_out"]

# Distances in prior standard deviations, of a prior made normal: 7e-6 to 6e-14 of its mass.
_DISTANCES = (4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 7.5)
_FAR = 3.0  # standard deviations of theta itself, from its mean
_QUANTILES = (np.arange(2000) + 0.5) / 2000


@dataclass(frozen=True)
class Outliers:
    """What there is most too much of.

    Args:
        p_value: for all parameters and distances together, by Bonferroni's rule.
        name: of the parameter.
        distance: beyond which the draws lie, in prior standard deviations.
        count: of these draws.
        expected: of an exact posterior.
    """

    p_value: float
    name: str
    distance: float
    count: int
    expected: float

    def __str__(self) -> str:
        return (
            f"{self.count} draws of {self.name} lie beyond {self.distance:g} prior sigma "
            f"({self.expected:.1g} expected)"
        )


def far_out(d: CalibrationDraws) -> Outliers | None:
    """Draws far out in the prior, against what an exact posterior has; None if it has no far ends.

    Args:
        d: with a prior of continuous parameters.
    """
    from scipy.special import ndtr

    assert d.prior is not None  # noqa: S101  (asked for by the only caller)
    tail, found = ndtr(-np.array(_DISTANCES)), []
    for i, parameter in enumerate(d.prior):
        column, below, above = _far_ends(d, i)
        low, high = float(column.min()), float(column.max())
        for j, distance in enumerate(_DISTANCES):
            ends = int(np.isfinite(below[j])) + int(np.isfinite(above[j]))
            if not ends:
                continue
            expected, count = float(ends * tail[j] * column.size), 0
            if low < below[j] or high > above[j]:
                count = int(((column < below[j]) | (column > above[j])).sum())
            p = min(1.0, expected / count) if count else 1.0
            found.append(Outliers(p, parameter.name, distance, count, expected))
    if not found:
        return None
    worst = min(found, key=lambda o: o.p_value)
    p_value = float(np.clip(len(found) * worst.p_value, 1e-12, 1.0))
    return Outliers(p_value, worst.name, worst.distance, worst.count, worst.expected)


def _far_ends(d: CalibrationDraws, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws (N, L) of parameter `i`, and what lies at the distances; infinity at near ends."""
    import torch
    from scipy.special import ndtr

    prior, tail = cast("Any", d.prior), torch.from_numpy(ndtr(-np.array(_DISTANCES)))
    block = block_without_marginals(prior, i)
    if block is not None:
        own = np.ascontiguousarray(d.draws[:, :, block.columns], dtype=np.float64)
        j = block.columns.index(i)
        u = block.prior.to_unconstrained(torch.from_numpy(own))[..., j].numpy()
        low, high = np.isfinite(block.prior.reach()[j])
        far = np.array(_DISTANCES)
        return u, np.where(low, -far, -np.inf), np.where(high, far, np.inf)
    law, typical = prior[i].prior, torch.from_numpy(_QUANTILES)
    typical, below, above = (law.icdf(p).numpy() for p in (typical, tail, 1 - tail))
    reach = _FAR * typical.std()
    below = np.where(below < typical.mean() - reach, below, -np.inf)
    above = np.where(above > typical.mean() + reach, above, np.inf)
    return d.draws[:, :, i], below, above
