"""L-BFGS for many independent problems at once.

Every row of a batch is a problem of its own, with its own curvature pairs, its own line search
and its own end: what comes out of a row does not depend on the others (Liu & Nocedal 1989; the
step is the first of a backtracking search with quadratic interpolation that meets Armijo's
condition).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Minimum", "minimise"]

_ARMIJO = 1e-4
_TRIALS = 6


@dataclass(frozen=True)
class Minimum:
    """Where a batch of searches ended.

    Attributes:
        x: (B, n).
        value: of the function, (B,).
        first: its value at the start, (B,).
        evaluations: of the function and its gradient, (B,).
    """

    x: Tensor
    value: Tensor
    first: Tensor
    evaluations: Tensor


def minimise(
    function: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], start: Tensor, *,
    steps: int, tolerance: Tensor, memory: int = 8,
) -> Minimum:  # fmt: skip
    """Minimise `function` in every row.

    Args:
        function: values (b,) and gradients (b, n) at points (b, n) of the problems with the
            numbers (b,); rows must not depend on each other.
        start: (B, n).
        steps: at most so many.
        tolerance: (B,); a row ends when its value is below it.
        memory: curvature pairs that are kept.
    """
    x, rows = start.clone(), torch.arange(len(start))
    value, gradient = function(x, rows)
    first, evaluations = value.clone(), torch.ones_like(rows)
    pairs = _Pairs(memory, x)
    active = rows[value > tolerance]
    for _ in range(steps):
        if len(active) == 0:
            break
        direction, slope = pairs.direction(active, gradient[active])
        moved = _search(function, x, value, gradient, active, direction, slope)
        evaluations[active] += moved.evaluations
        pairs.add(active, moved.x - x[active], moved.gradient - gradient[active])
        x[active], value[active], gradient[active] = moved.x, moved.value, moved.gradient
        active = active[moved.better & (moved.value > tolerance[active])]
    return Minimum(x, value, first, evaluations)


@dataclass
class _Step:
    x: Tensor
    value: Tensor
    gradient: Tensor
    better: Tensor
    evaluations: Tensor


def _search(
    function: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], x: Tensor, value: Tensor,
    gradient: Tensor, active: Tensor, direction: Tensor, slope: Tensor,
) -> _Step:  # fmt: skip
    """Shorten the steps of the rows `active` until each is low enough."""
    out = _Step(
        x[active].clone(), value[active].clone(), gradient[active].clone(),
        torch.zeros(len(active), dtype=torch.bool), torch.zeros_like(active),
    )  # fmt: skip
    length, left = torch.ones_like(slope), torch.arange(len(active))
    for _ in range(_TRIALS):
        trial = x[active[left]] + length[left, None] * direction[left]
        new, slope_new = function(trial, active[left])
        out.evaluations[left] += 1
        old, down = value[active[left]], length[left] * slope[left]
        good = new <= old + _ARMIJO * down
        done = left[good]
        out.x[done], out.value[done], out.gradient[done] = trial[good], new[good], slope_new[good]
        out.better[done] = True
        # The parabola through the value and slope at 0 and the value at the trial.
        shrink = (-down / (2 * (new - old - down))).nan_to_num(0.1).clamp(0.1, 0.5)
        length[left] = length[left] * shrink
        left = left[~good]
        if len(left) == 0:
            break
    return out


class _Pairs:
    """The last steps s and gradient changes y of every row, 1 / (s . y), or 0 for none."""

    def __init__(self, memory: int, x: Tensor) -> None:
        self.memory, self.n = memory, 0
        self.s = x.new_zeros(memory, *x.shape)
        self.y = x.new_zeros(memory, *x.shape)
        self.rho = x.new_zeros(memory, len(x))
        self.scale = x.new_zeros(len(x))

    def add(self, rows: Tensor, s: Tensor, y: Tensor) -> None:
        slot, self.n = self.n % self.memory, self.n + 1
        product, size = (s * y).sum(1), (y * y).sum(1)
        curved = product > 1e-8 * (s * s).sum(1).sqrt() * size.sqrt()
        self.s[slot], self.y[slot], self.rho[slot] = 0, 0, 0
        self.s[slot, rows], self.y[slot, rows] = s, y
        self.rho[slot, rows] = torch.where(curved, 1 / product, 0.0)
        self.scale[rows] = torch.where(curved, product / size, self.scale[rows])

    def direction(self, rows: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Descent directions, and the slopes along them."""
        order = [(self.n - 1 - k) % self.memory for k in range(min(self.n, self.memory))]
        q, alphas = gradient.clone(), []
        for slot in order:
            alpha = self.rho[slot, rows] * (self.s[slot, rows] * q).sum(1)
            q = q - alpha[:, None] * self.y[slot, rows]
            alphas.append(alpha)
        norm = gradient.square().sum(1).sqrt().clamp(min=torch.finfo(q.dtype).tiny)
        known = self.scale[rows] > 0
        q = q * torch.where(known, self.scale[rows], 1 / norm)[:, None]
        for slot, alpha in zip(reversed(order), reversed(alphas), strict=True):
            beta = self.rho[slot, rows] * (self.y[slot, rows] * q).sum(1)
            q = q + (alpha - beta)[:, None] * self.s[slot, rows]
        slope = -(q * gradient).sum(1)
        uphill = slope >= 0  # rounding: start again from the gradient
        q = torch.where(uphill[:, None], gradient / norm[:, None], q)
        return -q, torch.where(uphill, -norm, slope)
