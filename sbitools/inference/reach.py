"""Where the prior has mass, and posteriors that keep to it.

A network may put a little of its density where no simulation can have been: 1e-4 of the draws
tens of prior standard deviations out, which is all of the variance of a log-normal parameter. Such
density is cut off and the rest renormalised: u outside `Prior.reach` is drawn again, and densities
are divided by the mass inside.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sbitools.parameters import ParameterSpace
from sbitools.seeds import derive, normal

__all__ = ["Reach"]

_AGAIN, _MASS = 81, 82  # keys of the seeds: of further draws, and of those that measure the mass
# Further draws at a time, doubled up to the second. After this many in all, less than one in
# twenty of them inside is hopeless.
_FIRST, _LARGEST, _ENOUGH, _LEAST = 256, 1 << 13, 1 << 10, 0.05
# Draws that show whether there is mass outside at all, and those that say how much there is.
_LOOK, _MEASURE = 128, 1 << 12
# Of the edge: theta must not round to the other side of it.
_MARGIN = 1e-4


class Reach:
    """The box in u where the prior has its mass.

    Args:
        parameters: the inferred ones, in the coordinates of the posterior.
    """

    def __init__(self, parameters: ParameterSpace) -> None:
        laws: list[Any] = [p.prior for p in parameters]
        ends = [law.reach() for law in laws]
        for prior, columns in parameters.blocks:
            for column, end in zip(columns, prior.reach(), strict=True):
                ends[column] = end
        self.low, self.high = torch.tensor(ends, dtype=torch.float64).reshape(-1, 2).unbind(1)
        self.bounded = bool((self.low.isfinite() | self.high.isfinite()).any())
        self._known: tuple[Tensor, Tensor] | None = None

    def inside(self, u: Tensor) -> Tensor:
        """True where u (..., P) is in the box; NaN is left to those who look for it."""
        u = u.cpu().double()
        return ~((u < self.low) | (u > self.high)).any(-1)

    def again(
        self, u: Tensor, log_q: Tensor, estimator: Any, features: Tensor, row_seeds: list[int],
        start: int, density: bool,
    ) -> list[int]:  # fmt: skip
        """Replace draws outside, in place, by the next ones of the same observation inside.

        A posterior that lies outside almost whole is moved to the edge, where the part of it that
        is inside would be.

        Args:
            u: (B, n, P), on the CPU.
            log_q: (B, n), on the CPU.
            estimator: of the draws.
            features: (B, F).
            row_seeds: of the B observations.
            start: number of the first of these n draws: each piece has draws of its own.
            density: whether log_q is wanted.

        Returns:
            The rows that were moved to the edge.
        """
        outside, moved = ~self.inside(u), []
        for i in outside.any(1).nonzero()[:, 0].tolist():
            wanted, own = outside[i].nonzero()[:, 0], features[i : i + 1]
            size, asked, found = _FIRST, 0, 0
            while found < len(wanted) and (asked < _ENOUGH or found >= _LEAST * asked):
                seed = derive(row_seeds[i], _AGAIN, start, asked)
                more = estimator.draw(normal([seed], (size, estimator.n_latents)), own, density)
                good = self.inside(more[0][0]).nonzero()[: len(wanted) - found, 0]
                place = wanted[found : found + len(good)]
                for to, values in ((u, more[0]), (log_q, more[1])):
                    to[i, place] = values[0].cpu()[good].to(to.dtype)
                asked, found, size = asked + size, found + len(good), min(2 * size, _LARGEST)
            rest = wanted[found:]
            if len(rest):
                moved.append(i)
                edge = u[i, rest].double().clamp(self.low + _MARGIN, self.high - _MARGIN)
                u[i, rest] = edge.to(u.dtype)
                if density:
                    log_q[i, rest] = estimator.log_prob(edge[None], own)[0].cpu().to(log_q.dtype)
        return moved

    def log_mass(self, estimator: Any, features: Tensor) -> Tensor:
        """log of the mass in the box, (B,) float64, for features (B, F).

        Counted among 128 draws, always the same ones, and among 4,224 if one of them is outside:
        the error is 0.01 at most where nearly everything is inside, else 0.02 at half the mass.
        """
        if self._known is not None and torch.equal(self._known[0], features):
            return self._known[1]
        log_mass = torch.zeros(len(features), dtype=torch.float64)
        inside = self._count(estimator, features, 0, _LOOK)
        rows = (inside < _LOOK).nonzero()[:, 0]
        for i in rows.tolist():
            more = self._count(estimator, features[i : i + 1], 1, _MEASURE)
            share = float(inside[i] + more[0]) / (_LOOK + _MEASURE)
            log_mass[i] = math.log(max(share, 0.5 / _MEASURE))
        self._known = features, log_mass
        return log_mass

    def _count(self, estimator: Any, features: Tensor, key: int, n: int) -> Tensor:
        """How many of n draws are inside, (B,)."""
        z = normal([derive(0, _MASS, key)], (n, estimator.n_latents))
        per = max(1, (1 << 14) // n)
        counts = [
            self.inside(estimator.draw(z.expand(len(some), -1, -1), some, False)[0]).sum(1)
            for some in features.split(per)
        ]
        return torch.cat(counts) if counts else torch.zeros(0)
