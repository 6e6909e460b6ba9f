"""The exact likelihood of given maps for any theta, and the posterior that follows from it.

For each map and correlation time tau, `likelihood.GainLikelihood` gives a log-determinant and a
quadratic form. Here they are cubic splines in ln tau, so that a likelihood costs nothing: grids
and Markov chains can have as many as they like.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from sbitools.errors import ConfigError, ParameterError
from sbitools.gate.arrays import real_tensor
from sbitools.parameters import ParameterSpace

__all__ = ["NAMES", "GridPosterior", "LikelihoodTable", "gain_columns", "log_density"]

NAMES = ("gain_rms", "correlation_time")

# Cells that a posterior covers at least: 4 pi sigma^2 of them if it is normal. Two cells are a
# sigma then, and the midpoint rule is off by 2 exp(-2 pi^2 sigma^2): nothing, away from the ends.
_FEWEST = 50


@dataclass(frozen=True, eq=False)
class LikelihoodTable:
    """The likelihood of given maps for any theta: cubic splines in the logarithm of tau.

    Attributes:
        parameters: columns of theta.
        n_modes: k, numbers of a map that the likelihood is about.
        log_times: nodes, ln tau in days, shape (T,).
        log_det: coefficients (`scipy.interpolate.CubicSpline.c`) of the log-determinant, (4, T-1).
        log_square: those of ln z^T C^-1 z of each map, shape (B, 4, T - 1).
    """

    parameters: ParameterSpace
    n_modes: int
    log_times: np.ndarray
    log_det: np.ndarray
    log_square: np.ndarray

    def log_likelihood(self, theta: Tensor | np.ndarray) -> np.ndarray:
        """As `GainLikelihood.log_likelihood`, shape (B, n), for theta (B, n, 2) of B maps.

        Raises:
            ParameterError: for theta outside the prior's support, or of another shape.
        """
        theta = real_tensor(theta, "theta", ParameterError)
        n = len(self.log_square)
        if theta.ndim != 3 or len(theta) != n:
            raise ParameterError(
                "theta", expected=f"shape ({n}, n, 2): n values for each map",
                got=f"shape {tuple(theta.shape)}", fix="use theta[:, None] for one value a map",
            )  # fmt: skip
        rms, time = (v.reshape(theta.shape[:2]) for v in gain_columns(self.parameters, theta))
        piece, step = self._pieces(time)
        c = np.take_along_axis(self.log_square, piece[:, None], axis=2)
        log_square = _cubic(np.moveaxis(c, 1, 0), step)
        return log_density(
            self.n_modes, np.log(rms), _cubic(self.log_det[:, piece], step), log_square
        )

    def grid(self, rms: np.ndarray, time: np.ndarray, row: int) -> np.ndarray:
        """The same for one map and all pairs of gain_rms (n,) and tau in days (m,): (n, m)."""
        piece, step = self._pieces(time)
        log_det = _cubic(self.log_det[:, piece], step)
        log_square = _cubic(self.log_square[row][:, piece], step)
        return log_density(self.n_modes, np.log(rms)[:, None], log_det, log_square)

    def _pieces(self, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which piece of the spline, and ln tau from its start; the ends of the table go on."""
        at = np.log(np.clip(time, *np.exp(self.log_times[[0, -1]])))
        last = len(self.log_times) - 2
        piece = np.clip(np.searchsorted(self.log_times, at, side="right") - 1, 0, last)
        return piece, at - self.log_times[piece]


class GridPosterior:
    """The normalised posterior of each map, on a grid of quantiles of the prior.

    All cells hold the same share of the prior, so that the evidence is the mean likelihood of
    their centres (midpoint rule).

    Args:
        table: the likelihood of the maps.
        cells: of the grid, in gain_rms and in correlation_time.

    Raises:
        ConfigError: if the cells are too large for the posterior of a map.

    Attributes:
        log_evidence: ln p(x), shape (B,).
    """

    def __init__(self, table: LikelihoodTable, cells: tuple[int, int] = (1024, 384)) -> None:
        self.table, self._names = table, table.parameters.names
        self._centres = [
            _centres(table.parameters, *pair) for pair in zip(NAMES, cells, strict=True)
        ]
        found = [self._integrate(row) for row in range(len(table.log_square))]
        self.log_evidence = np.array([f[0] for f in found])
        self._marginals = [np.array([f[i] for f in found]) for i in (1, 2)]

    def log_prob(self, theta: Tensor | np.ndarray) -> np.ndarray:
        """log p(theta | x), (B, n), for theta (B, n, 2): density in the units of theta."""
        value = self.table.log_likelihood(theta) - self.log_evidence[:, None]
        prior = self.table.parameters.log_prob(real_tensor(theta, "theta", ParameterError))
        return value + prior.numpy(force=True)

    def log_moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of ln theta, each (B, 2), columns as in theta."""
        mean, std = np.empty((2, len(self.log_evidence), 2))
        for name, centres, share in zip(NAMES, self._centres, self._marginals, strict=True):
            column, value = self._names.index(name), np.log(centres)
            mean[:, column] = share @ value
            std[:, column] = np.sqrt((share * (value - mean[:, column, None]) ** 2).sum(1))
        return mean, std

    def cdf(self, theta: Tensor | np.ndarray) -> np.ndarray:
        """Posterior probability below theta (B, 2) of each parameter alone, (B, 2)."""
        space = self.table.parameters
        quantile = ndtr(space.to_unconstrained(space.check(theta)).numpy(force=True))
        out = np.empty(quantile.shape)
        for name, share in zip(NAMES, self._marginals, strict=True):
            column, n = self._names.index(name), share.shape[1]
            below = np.pad(np.cumsum(share, axis=1), ((0, 0), (1, 0)))
            for row, at in enumerate(quantile[:, column]):
                out[row, column] = np.interp(at, np.arange(n + 1) / n, below[row])
        return out

    def _integrate(self, row: int) -> tuple[float, np.ndarray, np.ndarray]:
        """Evidence of one map, and what lies in each interval of either parameter."""
        value = self.table.grid(self._centres[0], self._centres[1], row)
        top = value.max()
        share = np.exp(value - top)
        total = share.sum()
        share /= total
        covered = 1 / (share**2).sum()
        if covered < _FEWEST:
            raise ConfigError(
                "cells of GridPosterior", expected=f"a posterior of {_FEWEST} cells or more",
                got=f"{covered:.1f} of {share.shape} for map {row}", fix="use more cells",
            )  # fmt: skip
        evidence = float(top + np.log(total / share.size))
        return evidence, share.sum(1), share.sum(0)


def log_density(
    n: int, log_rms: np.ndarray, log_det: np.ndarray, log_square: np.ndarray
) -> np.ndarray:
    """Log density of n normal numbers of covariance rms^2 C: ln det C, and ln of z^T C^-1 z."""
    square = np.exp(log_square - 2 * log_rms)
    return -0.5 * (n * math.log(2 * math.pi) + log_det + square) - n * log_rms


def _cubic(c: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Polynomials of coefficients c (4, ...), the highest power first."""
    return ((c[0] * step + c[1]) * step + c[2]) * step + c[3]


def gain_columns(
    parameters: ParameterSpace, theta: Tensor | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """gain_rms and correlation time in days, each flat, of checked theta (..., 2)."""
    rows = real_tensor(theta, "theta", ParameterError)
    rows = rows.reshape(-1, rows.shape[-1]) if rows.ndim > 2 else rows
    values = parameters.check(rows).numpy(force=True).T
    rms, time = (values[parameters.names.index(name)] for name in NAMES)
    return rms, time


def _centres(parameters: ParameterSpace, name: str, n: int) -> np.ndarray:
    """Values of a parameter in the middle of n intervals of equal prior probability."""
    u = torch.from_numpy(ndtri((np.arange(n) + 0.5) / n))[:, None].expand(n, len(parameters))
    return parameters.from_unconstrained(u)[:, parameters.names.index(name)].numpy()
