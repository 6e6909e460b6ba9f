"""The distribution of cells where it changes its shape with theta: a map for each theta.

Quantiles of the cells of a simulation are functions of theta: the gaps between them are found as
powers of modes are (`glm`), so that the map is increasing whatever theta.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from .glm import log_means
from .terms import choose

__all__ = ["Shape", "fit_shape"]

_FARTHEST = 3.0  # standard deviations, of the last node
_NODES = 13
_BEYOND = 8.0  # cells beyond the last node: fewer, and a quantile is that of chance
_LEAST = 1e-4  # of a gap, in units of that of a normal distribution


@dataclass(frozen=True)
class Shape:
    """An increasing map for each theta.

    Args:
        nodes: normal values, (m,); empty for no map.
        first: coefficients of the value that becomes the first node, (T, 1).
        gaps: coefficients of the logarithms of gaps between values, (T, m - 1).
    """

    nodes: np.ndarray
    first: np.ndarray
    gaps: np.ndarray

    def forward(self, x: np.ndarray, terms: np.ndarray) -> np.ndarray:
        """Cells of one field, its terms (T,), to normal ones."""
        return _by_nodes(x, self._values(terms), self.nodes) if self.nodes.size else x

    def inverse(self, y: np.ndarray, terms: np.ndarray) -> np.ndarray:
        """Inverse of `forward`."""
        return _by_nodes(y, self.nodes, self._values(terms)) if self.nodes.size else y

    def slope(self, x: np.ndarray, terms: np.ndarray) -> np.ndarray:
        """Derivative of `forward`."""
        if not self.nodes.size:
            return np.ones_like(x)
        values = self._values(terms)
        slopes = np.diff(self.nodes) / np.diff(values)
        return slopes[np.clip(np.searchsorted(values, x) - 1, 0, len(slopes) - 1)]

    def _values(self, terms: np.ndarray) -> np.ndarray:
        start = float((terms @ self.first)[0])
        return start + np.concatenate([[0.0], np.cumsum(np.exp(terms @ self.gaps))])


def fit_shape(
    x: np.ndarray, terms: np.ndarray, held: np.ndarray, none_at_all: bool = False
) -> Shape:
    """Of one channel; no map where held-out simulations are no nearer to normal for it.

    Args:
        x: fields of about unit spread, (n, *space).
        terms: functions of theta, (n, T).
        held: which are held out, (n,).
        none_at_all: no map is wanted.
    """
    cells = x.reshape(len(x), -1)
    none = Shape(np.zeros(0), np.zeros((terms.shape[1], 1)), np.zeros((terms.shape[1], 0)))
    share = _BEYOND / cells.shape[1]
    nodes = np.linspace(-_FARTHEST, _FARTHEST, _NODES)
    nodes = nodes[(ndtr(nodes) >= share) & (ndtr(-nodes) >= share)]
    if none_at_all or len(nodes) < 3:
        return none
    values = np.quantile(cells, ndtr(nodes), axis=1).T

    def fit(rows: np.ndarray) -> Shape:
        first = np.linalg.lstsq(terms[rows], values[rows, :1], rcond=None)[0]
        least = _LEAST * np.diff(nodes)
        gaps = np.maximum(np.diff(values[rows], axis=1), least)
        return Shape(nodes, first, log_means(terms[rows], gaps, np.full(len(nodes) - 1, 1e3)))

    part = fit(~held)

    def scores(shape: Shape) -> np.ndarray:
        out = []
        for row, told in zip(cells[held], terms[held], strict=True):
            spread = shape.forward(row, told).std() + 1e-9
            out.append(float(np.log(shape.slope(row, told)).mean() - np.log(spread)))
        return np.array(out)

    best = choose([none, part], scores)
    return none if best is none else fit(np.ones(len(x), dtype=bool))


def _by_nodes(u: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Piecewise linear, with the slope of the last pieces beyond them."""
    i = np.clip(np.searchsorted(x, u) - 1, 0, len(x) - 2)
    return y[i] + (u - x[i]) * ((y[i + 1] - y[i]) / (x[i + 1] - x[i]))
