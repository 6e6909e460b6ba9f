"""What two sets of simulations of independent theta have to say about each other.

Emulated and reference simulations have other theta and other seeds, so their statistics are not
compared one by one. Each statistic is regressed on a quadratic function of theta, with one number
more for the set it comes from: that number is the difference at equal theta.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = [
    "SourceDifference", "group_signs", "group_weights", "quadratic", "source_difference",
]  # fmt: skip

# A point that determines its own fit leaves nothing; its error counts this much more at most.
_LEAST_FREE = 0.1


@dataclass(frozen=True)
class SourceDifference:
    """Differences of B statistics at equal theta.

    Args:
        value: first set minus second, shape (B,).
        scatter: standard deviation of a statistic of the second set at given theta, shape (B,).
        samples: bootstrap samples of the difference, shape (R, B).
    """

    value: np.ndarray
    scatter: np.ndarray
    samples: np.ndarray

    @property
    def error(self) -> np.ndarray:
        """Standard errors, shape (B,)."""
        return np.maximum(self.samples.std(0), 1e-12 * np.maximum(self.scatter, 1e-300))

    @property
    def p_value(self) -> float:
        """Of no difference in any statistic: the largest |z| against that of the bootstrap."""
        found = float(np.abs(self.value / self.error).max())
        null = np.abs((self.samples - self.value) / self.error).max(1)
        return (1 + int((null >= found).sum())) / (1 + len(null))

    def quantile(self, mass: float = 0.95) -> float:
        """Half width in errors of the band that holds all statistics at once."""
        return float(np.quantile(np.abs((self.samples - self.value) / self.error).max(1), mass))


def quadratic(theta: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """1, theta_i, theta_i theta_j of standardised theta (N, P): shape (N, K)."""
    t = (theta - centre) / np.where(scale > 0, scale, 1.0)
    first, second = np.triu_indices(t.shape[1])
    return np.concatenate([np.ones((len(t), 1)), t, t[:, first] * t[:, second]], axis=1)


def group_weights(group: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """How often each row is in each of `n` bootstrap samples of whole groups: (n, N)."""
    names, which = np.unique(group, return_inverse=True)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n)
    return counts[:, which].astype(np.float64)


def group_signs(group: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """A sign for each row, one for the whole of a group, in each of `n` samples: (n, N)."""
    names, which = np.unique(group, return_inverse=True)
    return (2.0 * rng.integers(0, 2, size=(n, len(names))) - 1)[:, which]


def source_difference(
    theta: tuple[np.ndarray, np.ndarray],
    values: tuple[np.ndarray, np.ndarray],
    group: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
    n_resamples: int = 1999,
) -> SourceDifference:
    """Difference at equal theta of the statistics of two sets.

    Args:
        theta: parameters (N, P) of the two sets.
        values: statistics (N, B) of the two sets.
        group: shape (N,) each; bootstrap samples are of whole groups.
        rng: generator.
        n_resamples: bootstrap samples: residuals of whole groups change their signs (wild
            bootstrap), which keeps theta as they are; residuals are freed of the fit's share of
            them, so that errors are right for few tests too (HC3).

    References:
        | Some heteroskedasticity-consistent covariance matrix estimators with improved finite
          sample properties (MacKinnon & White 1985)
        | Bootstrap and wild bootstrap for high dimensional linear models (Mammen 1993)
    """
    joined, y = np.concatenate(theta), np.concatenate(values)
    first = np.repeat([1.0, 0.0], [len(theta[0]), len(theta[1])])[:, None]
    x = np.concatenate([first, quadratic(joined, joined.mean(0), joined.std(0))], axis=1)
    centre = y.mean(0)
    y = y - centre
    inverse = np.linalg.pinv(x)
    value = inverse[0] @ y
    residual = y - x @ (inverse @ y)
    scatter = residual[len(theta[0]) :].std(0)
    # Each residual is as much too small as its point draws the fit to itself.
    leverage = np.einsum("ij,ji->i", x, inverse)
    errors = inverse[0][:, None] * residual / np.maximum(1 - leverage, _LEAST_FREE)[:, None]
    signs = np.concatenate([group_signs(g, n_resamples, rng) for g in group], axis=1)
    # The errors themselves are estimates: Student's t, with what the fit leaves of the groups.
    freedom = max(sum(len(np.unique(g)) for g in group) - x.shape[1], 1)
    spread = np.sqrt(freedom / rng.chisquare(freedom, size=(n_resamples, 1)))
    return SourceDifference(value, scatter, value + spread * (signs @ errors))
