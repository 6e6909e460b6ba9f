"""The mean of a data vector as a function of theta: a few curves, and what they are multiplied by.

A regression on products of theta finds the curves, Gaussian processes how much of each there is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .process import Processes
from .shrinkage import Regression, choose_correlation

__all__ = ["Modes"]

_MOST = 8
_EDGE = 2.0  # of the singular value of a mode over that of noise in it


class Modes(nn.Module):
    """m(c) = b + sum_k t_k(c) curve_k.

    Args:
        n: entries.
        points: that the processes were fitted to.
        numbers: of theta.
        modes: how many.
    """

    constant: Tensor
    curves: Tensor

    def __init__(self, n: int, points: int, numbers: int, modes: int) -> None:
        super().__init__()
        self.register_buffer("constant", torch.zeros(n, dtype=torch.float64))
        self.register_buffer("curves", torch.zeros(modes, n, dtype=torch.float64))
        self.processes = Processes(points, numbers, modes)

    @property
    def sizes(self) -> list[int]:
        """Points and number of modes: what the constructor is told besides."""
        return [len(self.processes.points), len(self.curves)]

    @classmethod
    def fit(
        cls, regression: Regression, a: Tensor, c: Tensor, y: Tensor, weight: Tensor, fold: Tensor
    ) -> tuple[Modes, Tensor]:
        """Modes of y (N, n), and what each simulation lacks if the others predict it.

        Args:
            regression: of the products `a`.
            a: products (N, F) of c.
            c: numbers (N, Q) of theta.
            y: of order 1.
            weight: of each simulation, (N,).
            fold: of each simulation, (N,), by which the correlation of what is left is chosen.
        """
        w, b, factor = regression.explained(y, lambda e: choose_correlation(e, fold))
        constant = b + (weight @ (a @ w)) / weight.sum()
        white = torch.linalg.solve_triangular(factor, (a @ w + b - constant).T, upper=False).T
        _, s, vt = torch.linalg.svd(white, full_matrices=False)
        k = min(_MOST, int((s > _EDGE).sum()))
        if not k:
            return cls._constant(y, constant, c)
        seen = torch.linalg.solve_triangular(factor, (y - constant).T, upper=False).T @ vt[:k].T
        noise = weight.mean() / weight
        processes, lacking = Processes.fit(c, seen, noise)
        out = cls(y.shape[1], *(len(processes.points), c.shape[1], k))
        out.processes = processes
        out.constant.copy_(constant)
        out.curves.copy_(vt[:k] @ factor.T)
        rest = y - out(c)
        predicted = rest.clone()
        known = slice(0, len(lacking))
        predicted[known] += (lacking - seen[known] + processes(c[known])) @ out.curves
        return out, predicted

    @classmethod
    def _constant(cls, y: Tensor, constant: Tensor, c: Tensor) -> tuple[Modes, Tensor]:
        out = cls(y.shape[1], 0, c.shape[1], 0)
        out.constant.copy_(constant)
        return out, (y - constant) * len(y) / max(len(y) - 1, 1)

    def forward(self, c: Tensor) -> Tensor:
        """(B, n) of c (B, Q)."""
        return self.constant + self.processes(c) @ self.curves

    def unknown(self, c: Tensor, w: Tensor) -> Tensor:
        """What means (B, n) at c (B, Q) may be besides, for standard normal w (B, modes)."""
        return (self.processes.unknown(c) * w) @ self.curves
