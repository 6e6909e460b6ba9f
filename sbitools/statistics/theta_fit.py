"""Statistics as smooth functions of theta: what is left at equal theta, and the response.

A store has another theta for every simulation. How much a statistic scatters between seeds is
then what is left of it about a smooth fit in theta: constant, linear or quadratic, whichever
predicts left-out simulations best by generalised cross-validation (Golub, Heath & Wahba 1979).
Where theta repeats, it is the scatter about the mean of each theta, and nothing has to be smooth.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np

from sbitools.seeds import derive

__all__ = ["Residuals", "ThetaFit", "random_halves"]

_FAR = 5.0  # standard deviations: a few such points would carry a fit


class Residuals(NamedTuple):
    """What is left of statistics at equal theta.

    Attributes:
        rows: simulations it is known of, (n,).
        values: scaled such that their mean square is the variance at fixed theta, (n, m).
        how: a text: what was taken away.
    """

    rows: np.ndarray
    values: np.ndarray
    how: str


class ThetaFit:
    """Fits to statistics of simulations at given theta.

    Args:
        theta: (n, P).
        names: of the parameters.

    Attributes:
        names: of the parameters that vary.
        u: they themselves, (n, len(names)), of mean 0 and variance 1: the logarithm of those that
            span more than a factor of ten, the ranks of those with far outliers.
    """

    def __init__(self, theta: np.ndarray, names: Sequence[str]) -> None:
        self._all = theta, list(names)
        varies = [j for j in range(theta.shape[1]) if len(np.unique(theta[:, j])) > 1]
        self.names, self.n = [names[j] for j in varies], len(theta)
        self.u = np.stack([_standard(theta[:, j]) for j in varies], 1) if varies else (
            np.empty((self.n, 0)))  # fmt: skip
        self._point = np.unique(theta, axis=0, return_inverse=True)[1].ravel()
        if not theta.shape[1]:
            self._point = np.zeros(self.n, dtype=int)
        powers = [self.u[:, i] * self.u[:, j]
                  for i, j in combinations_with_replacement(range(len(varies)), 2)]  # fmt: skip
        linear = np.column_stack([np.ones(self.n), self.u])
        self._designs = {"constant": linear[:, :1], "linear": linear,
                         "quadratic": np.column_stack([linear, *powers])}  # fmt: skip
        # With fewer than four simulations for each number of a fit, it takes up the scatter.
        self._designs = {name: _orthonormal(d) for name, d in self._designs.items()
                         if name == "constant" or 4 * d.shape[1] <= self.n}  # fmt: skip

    def of(self, rows: np.ndarray) -> ThetaFit:
        """The same for some of the simulations."""
        return ThetaFit(self._all[0][rows], self._all[1])

    @property
    def repeats(self) -> bool:
        """Whether enough simulations share their theta with others."""
        shared = self.n - len(np.unique(self._point))
        return shared >= max(8, self.n // 3)

    def residuals(self, values: np.ndarray) -> Residuals:
        """What is left of (n, m) statistics at equal theta."""
        if self.repeats:
            counts = np.bincount(self._point)
            sums = np.zeros((len(counts), values.shape[1]))
            np.add.at(sums, self._point, values)
            rows = np.flatnonzero(counts[self._point] > 1)
            own = self._point[rows]
            left = values[rows] - sums[own] / counts[own, None]
            left *= np.sqrt(counts[own] / (counts[own] - 1))[:, None]
            return Residuals(rows, left, "the mean of the simulations of the same theta")
        best, left = np.inf, values
        how = ""
        for name, basis in self._designs.items():
            rest = values - basis @ (basis.T @ values)
            free = self.n - basis.shape[1]
            variance = (rest**2).sum(0) / free
            score = float(np.log(variance * self.n / free + 1e-300).mean())
            if score < best - 1e-9:
                # A fit passes nearer to the points that pull it most (leverage).
                pull = np.minimum((basis**2).sum(1, keepdims=True), 0.9)
                best, left, how = score, rest / np.sqrt(1 - pull), name
        return Residuals(np.arange(self.n), left, f"a {how} fit in theta")

    def slopes(self, values: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """Change of (n, m) statistics per standard deviation of each parameter, (P, m)."""
        u = self.u if rows is None else self.u[rows]
        design = np.column_stack([np.ones(len(u)), u])
        # As few simulations as parameters: the smallest slopes that explain them.
        return np.linalg.lstsq(design, values, rcond=1e-6)[0][1:]


def random_halves(clusters: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Signs that put the simulations of each cluster into one of two halves, (n, n_simulations).

    Args:
        clusters: number of the cluster of each simulation; simulations that share their
            randomness share it.
        n: divisions.
        seed: of the divisions.
    """
    _, index = np.unique(clusters, return_inverse=True)
    size = index.max() + 1
    even = np.where(np.arange(size) % 2, 1.0, -1.0)
    rng = np.random.default_rng(derive(seed, 0))
    return np.stack([rng.permutation(even)[index] for _ in range(n)])


def _standard(column: np.ndarray) -> np.ndarray:
    """One parameter, of mean 0 and variance 1."""
    low, high = column.min(), column.max()
    wide = np.log(column) if low > 0 and high > 10 * low else column / np.abs(column).max()
    u = (wide - wide.mean()) / wide.std()
    if np.abs(u).max() < _FAR:
        return u
    _, index, counts = np.unique(column, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[index]
    return (ranks - ranks.mean()) / ranks.std()


def _orthonormal(design: np.ndarray) -> np.ndarray:
    """A basis of the columns; those that depend on others are left out."""
    left, size, _ = np.linalg.svd(design, full_matrices=False)
    return left[:, size > 1e-8 * size[0]]
