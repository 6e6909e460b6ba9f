"""log p(truth | x) by the exact likelihood, where one is known: of sets a and e."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from _own_sets import SETS, band_powers
from scipy.special import logsumexp
from scipy.stats import multivariate_t

__all__ = ["EXACT", "exact_planes", "exact_vectors"]

_AMPLITUDES, _SLOPES = 501, 201  # several of each within a standard deviation of the posterior
_DRAWS, _DEFENSIVE, _STEPS = 20_000, 0.1, 10

_Sample = tuple[np.ndarray, np.ndarray]
Exact = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def exact_planes(theta: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By quadrature over both parameters.

    All modes but the mean are independent and normal, so that with P_k = A (k / 8)^-s

        -2 ln L = sum_k [ln P_k + |x_k|^2 / P_k]

    over all cells of the unitary transform: each of k and -k counts for half of their two numbers.

    Args:
        theta: truths (n, 2), amplitude and slope.
        x: fields (n, 64, 64).

    Returns:
        log densities (n,), in theta's own units, and their errors, 0.
    """
    side = x.shape[-1]
    k = np.fft.fftfreq(side, 1 / side)
    square = (k[:, None] ** 2 + k**2).round().astype(int).ravel()
    values, where = np.unique(square, return_inverse=True)
    power = np.abs(np.fft.fft2(x.astype(np.float64), norm="ortho")).reshape(len(x), -1) ** 2
    total = np.stack([np.bincount(where, row) for row in power])[:, 1:]
    count = np.bincount(where)[1:]
    log_k = np.log(values[1:]) / 2 - np.log(8)
    (low, high), (first, last) = SETS["a"].bounds
    axes = np.linspace(low, high, _AMPLITUDES), np.linspace(first, last, _SLOPES)

    def minus_two_log(amplitude: np.ndarray, slope: np.ndarray, row: np.ndarray) -> np.ndarray:
        scaled = row @ np.exp(log_k[:, None] * slope)
        n = count.sum()
        return n * np.log(amplitude) - slope * (count @ log_k) + scaled / amplitude

    logs = []
    for truth, row in zip(theta, total, strict=True):
        grid: Any = -minus_two_log(axes[0][:, None], axes[1], row) / 2
        at = -minus_two_log(truth[:1], truth[1:], row)[0] / 2
        for axis in (1, 0):
            weights = np.full(len(axes[axis]), axes[axis][1] - axes[axis][0])
            weights[[0, -1]] /= 2
            grid = logsumexp(grid, axis=axis, b=weights)
        logs.append(at - float(grid))
    return np.array(logs), np.zeros(len(logs))


def exact_vectors(
    theta: np.ndarray, x: np.ndarray, draws: int = _DRAWS, seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """By importance sampling from a t distribution, fitted step by step, and from the prior.

    Args:
        theta: truths (n, 4).
        x: band powers (n, 40).
        draws: for each.
        seed: of them.

    Returns:
        log densities (n,), in theta's own units, and their standard errors.
    """
    low, high = SETS["e"].bounds.T
    root = np.linalg.inv(np.linalg.cholesky(band_powers(theta[:1])[1]))
    rng = np.random.default_rng(seed)

    def log_likelihood(points: np.ndarray, row: np.ndarray) -> np.ndarray:
        return -0.5 * (((row - band_powers(points)[0]) @ root.T) ** 2).sum(1)

    def log_posterior(points: np.ndarray, row: np.ndarray) -> np.ndarray:
        inside = ((points > low) & (points < high)).all(1)
        return np.where(inside, log_likelihood(np.clip(points, low, high), row), -np.inf)

    def proposed(centre: np.ndarray, covariance: np.ndarray, row: np.ndarray, n: int) -> _Sample:
        shape: Any = multivariate_t(centre, covariance, df=5)  # pyright: ignore[reportArgumentType]
        n_prior = int(_DEFENSIVE * n)
        points = np.concatenate(
            [shape.rvs(n - n_prior, random_state=rng), rng.uniform(low, high, (n_prior, len(low)))]
        )
        density = np.logaddexp(  # of the mixture that all of them were drawn from
            np.log1p(-_DEFENSIVE) + shape.logpdf(points),
            np.where(((points > low) & (points < high)).all(1),
                     np.log(_DEFENSIVE) - np.log(high - low).sum(), -np.inf),
        )  # fmt: skip
        return points, log_posterior(points, row) - density

    logs, errors = [], []
    for truth, row in zip(theta, x.astype(np.float64), strict=True):
        centre, covariance = (low + high) / 2, np.diag((high - low) ** 2 / 12)
        for _ in range(_STEPS):
            points, weights = proposed(centre, 1.5 * covariance, row, draws // 4)
            share = _tempered(weights)
            centre = share @ points
            covariance = (share * (points - centre).T) @ (points - centre)
        _, weights = proposed(centre, 1.5 * covariance, row, draws)
        evidence = logsumexp(weights) - np.log(draws)
        logs.append(log_likelihood(truth[None], row)[0] - evidence)
        errors.append(np.exp(weights - evidence).std() / np.sqrt(draws))
    return np.array(logs), np.array(errors)


def _tempered(weights: np.ndarray) -> np.ndarray:
    """Weights that sum to 1, to the highest power of 1/2^i at which a twentieth of them count."""
    share = np.full(len(weights), 1 / len(weights))
    for i in range(30):
        share = np.exp(weights / 2**i - logsumexp(weights / 2**i))
        if 1 / (share**2).sum() >= len(weights) / 20:
            break
    return share


EXACT: dict[str, Exact] = {"a": exact_planes, "e": exact_vectors}
