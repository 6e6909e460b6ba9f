"""Densities of two parameters on a grid: exact posteriors by quadrature, and what is compared.

Midpoints of equal cells; the box is shrunk to where the mass is until it no longer shrinks, so
that a posterior a hundredth as wide as its prior is resolved as well as a wide one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Grid", "quadrature"]

_CELLS = 120  # along each axis; of a normal posterior a cell is then 0.13 of its width
_DEPTH = 30.0  # nats below the peak: e^-30 of a box of 120^2 cells is nothing
_PASSES = 4


@dataclass(frozen=True)
class Grid:
    """A normalised density of two parameters.

    Args:
        theta: midpoints of the cells, (n, 2).
        log_p: log density there, (n,).
        cell: area of a cell.
        log_mass: integral of what was given, which was divided out, as its logarithm.
    """

    theta: np.ndarray
    log_p: np.ndarray
    cell: float
    log_mass: float

    @property
    def weights(self) -> np.ndarray:
        """Mass of each cell, (n,)."""
        return np.exp(self.log_p) * self.cell

    @property
    def mean(self) -> np.ndarray:
        """(2,)."""
        return self.weights @ self.theta

    @property
    def sd(self) -> np.ndarray:
        """(2,)."""
        return np.sqrt(self.weights @ (self.theta - self.mean) ** 2)

    def mass(self, log_q: np.ndarray) -> float:
        """What another density (n,) has on this grid."""
        return float(np.exp(log_q).sum() * self.cell)

    def nats_to(self, log_q: np.ndarray) -> float:
        """Kullback-Leibler divergence of another density (n,) from this one."""
        there = self.weights > 1e-12  # elsewhere log q may be minus infinity, and counts nothing
        return float((self.weights * (self.log_p - log_q))[there].sum())


def quadrature(log_density: Callable[[np.ndarray], np.ndarray], box: np.ndarray) -> Grid:
    """The density whose logarithm, up to a constant, is `log_density` of theta (n, 2).

    Args:
        log_density: minus infinity where there is none.
        box: lower and upper ends of both parameters, (2, 2).
    """
    for _ in range(_PASSES - 1):
        theta, width = _midpoints(box)
        given = log_density(theta)
        high = theta[given > given.max() - _DEPTH]
        # A cell more at each side: the peak may lie between two midpoints.
        low, top = high.min(0) - 1.5 * width, high.max(0) + 1.5 * width
        box = np.stack([np.maximum(low, box[:, 0]), np.minimum(top, box[:, 1])], 1)
    theta, width = _midpoints(box)
    given, cell = log_density(theta), float(width.prod())
    log_mass = float(np.log(np.exp(given - given.max()).sum() * cell) + given.max())
    return Grid(theta, given - log_mass, cell, log_mass)


def _midpoints(box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the cells, (n, 2), and their sides."""
    width = (box[:, 1] - box[:, 0]) / _CELLS
    steps = np.stack(np.meshgrid(*[np.arange(_CELLS) + 0.5] * 2, indexing="ij"), -1)
    return box[:, 0] + steps.reshape(-1, 2) * width, width
