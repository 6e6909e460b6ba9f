"""How far a covariance matrix is from the truth, and how far it would be with endless maps.

The covariance of n maps has the error of the process that made them and that of their finite
number. The first alone is what says whether an emulator is right. Two independent halves of the
maps have covariances S1 and S2 whose sample errors are not correlated, so <S1 - C, S2 - C>_F has
the mean |Sigma - C|_F^2, with Sigma the covariance of endlessly many maps.

The mean of this product over all splits in halves is a U-statistic over four different maps,

    |Sigma|^2 = E (x_i.x_j)^2 - 2 E (x_i.x_j)(x_i.x_k) + E (x_i.x_j)(x_k.x_l),

which follows from sums over all maps and needs no split (for independent maps it is that of Chen,
Zhang & Zhong 2010, JASA 105, 810). Maps that were made together are dependent: groups then take
the place of maps, each with the mean x x^T and the mean x of its members and an equal weight, and
no product is taken within a group.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sbitools.errors import ConfigError, ShapeError

from .covariance import as_matrix, as_rows, sample_covariance

__all__ = [
    "LimitError", "cross_half_error", "effective_rank", "expected_sample_error",
    "infinite_map_error", "relative_error",
]  # fmt: skip

_BLOCK = 1024  # rows of a product that is summed and forgotten


class LimitError(NamedTuple):
    """Relative Frobenius error |Sigma - C| / |C| that remains with endlessly many maps.

    Attributes:
        squared: unbiased estimate of its square; it scatters below zero if the error is small.
        squared_error: standard error of `squared` by the jackknife over maps or groups. Where
            Sigma = C it is larger than the true one, by up to sqrt(2).
    """

    squared: float
    squared_error: float

    @property
    def error(self) -> float:
        """The square root of `squared`, with its sign."""
        return _root(self.squared)

    @property
    def standard_error(self) -> float:
        """Of `error`, to first order; at most the root of `squared_error`, its size near zero."""
        bound = self.squared_error**0.5
        return min(self.squared_error / (2 * abs(self.error) or bound or 1.0), bound)

    def interval(self, sigmas: float = 1.0) -> tuple[float, float]:
        """Signed roots of `squared` minus and plus so many standard errors."""
        step = sigmas * self.squared_error
        return _root(self.squared - step), _root(self.squared + step)


def relative_error(estimate: np.ndarray, truth: np.ndarray) -> float:
    """|A - C|_F / |C|_F of two matrices (d, d)."""
    estimate, truth = as_matrix(estimate, "estimate"), as_matrix(truth, "truth")
    _same(estimate.shape, truth.shape)
    return float(np.linalg.norm(estimate - truth) / np.linalg.norm(truth))


def effective_rank(covariance: np.ndarray) -> float:
    """tr(C)^2 / |C|_F^2: d for white noise, 1 if one pattern is all there is."""
    covariance = as_matrix(covariance, "covariance")
    return float(np.trace(covariance) ** 2 / (covariance**2).sum())


def expected_sample_error(
    covariance: np.ndarray, n_maps: int, *, known_mean: bool = False
) -> float:
    """Root mean square relative error of the sample covariance of Gaussian maps.

    sqrt((1 + r) / nu) with r the effective rank and nu = n - 1 degrees of freedom, n if the mean
    is known and not removed; from the moments of the Wishart distribution.
    """
    freedom = n_maps if known_mean else n_maps - 1
    if freedom < 1:
        raise ConfigError(
            "n_maps", expected="2 or more maps", got=f"{n_maps}", fix="one map has no covariance"
        )
    return float(np.sqrt((1 + effective_rank(covariance)) / freedom))


def cross_half_error(first: np.ndarray, second: np.ndarray, truth: np.ndarray) -> float:
    """Signed root of <S1 - C, S2 - C> / |C|^2 for two independent sets of maps (n, ...)."""
    truth = as_matrix(truth, "truth")
    halves = [sample_covariance(first), sample_covariance(second)]
    for half in halves:
        _same(half.shape, truth.shape)
    return _root(float(((halves[0] - truth) * (halves[1] - truth)).sum() / (truth**2).sum()))


def infinite_map_error(
    maps: np.ndarray, truth: np.ndarray, groups: np.ndarray | None = None
) -> LimitError:
    """Error of the maps' covariance in the limit of endlessly many such maps.

    It costs of the order of n d min(n, d) operations and the memory of the maps and of C.

    Args:
        maps: shape (n, ...).
        truth: C, shape (d, d).
        groups: number or name of the group of each map, shape (n,): maps of one group were made
            together and may be dependent. None if all maps are independent.

    Raises:
        ShapeError: for fewer than 4 maps or groups, or shapes that do not fit.
    """
    rows, truth = as_rows(maps), as_matrix(truth, "truth")
    _same((rows.shape[1],) * 2, truth.shape)
    parts = _members(groups, len(rows))
    n, singles = len(parts), len(parts) == len(rows)
    means = rows if singles else np.stack([rows[part].mean(0) for part in parts])
    centre = means.mean(0)
    rows = rows - centre
    means = rows if singles else means - centre

    square, profile = _self_product(rows, means, parts)
    cross = _group_means(_quadratic(rows, truth), parts)
    cross_mean = _quadratic(means, truth).sum() / (n * (n - 1))
    norm = (truth**2).sum()
    squared = (square - 2 * (cross.mean() + cross_mean)) / norm + 1
    # By the pairs of which each group is a part; the mean is taken as known, as it nearly is.
    share = (profile - cross - cross.mean()) / norm
    return LimitError(float(squared), float(2 * share.std(ddof=1) * (n - 1) ** 0.5 / (n - 2)))


def _self_product(
    rows: np.ndarray, means: np.ndarray, parts: list[np.ndarray]
) -> tuple[float, np.ndarray]:
    """|Sigma|^2 without bias, and the mean product of each group with the others, shape (n,).

    The group means sum to zero, so that a group's product with the sum of all others is minus
    that with itself.
    """
    n, sizes = len(means), np.array([len(part) for part in parts])
    weights = np.empty(len(rows))
    for part in parts:
        weights[part] = 1 / len(part)
    same = np.array([((rows[part] @ rows[part].T) ** 2).sum() for part in parts]) / sizes**2
    with_own = [((rows[part] @ mean) ** 2).mean() for part, mean in zip(parts, means, strict=True)]
    own = np.einsum("ij,ij->i", means, means)

    per_row = _square_sums(rows, rows, weights)
    between = per_row if rows is means else _square_sums(means, means)
    mixed = per_row if rows is means else _group_means(_square_sums(rows, means), parts)
    pairs = _group_means(per_row, parts) - same
    triples = 2 * np.sum(with_own) - mixed.sum()
    fours = own.sum() ** 2 - 4 * (own**2).sum() + 2 * (between.sum() - (own**2).sum())
    two, three = n * (n - 1), n * (n - 1) * (n - 2)
    square = pairs.sum() / two - 2 * triples / three + fours / (three * (n - 3))
    return float(square), pairs / (n - 1)


def _square_sums(
    rows: np.ndarray, others: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """sum_j w_j (x_i . y_j)^2 of each row x_i of `rows`, shape (n,), in blocks."""
    weights = np.ones(len(others)) if weights is None else weights
    if others.shape[1] < len(others):
        return _quadratic(rows, (others * weights[:, None]).T @ others)
    blocks = (rows[i : i + _BLOCK] @ others.T for i in range(0, len(rows), _BLOCK))
    return np.concatenate([block**2 @ weights for block in blocks])


def _quadratic(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """x^T A x of each row, shape (n,), in blocks."""
    blocks = (rows[i : i + _BLOCK] for i in range(0, len(rows), _BLOCK))
    return np.concatenate([np.einsum("ij,ij->i", block @ matrix, block) for block in blocks])


def _group_means(values: np.ndarray, parts: list[np.ndarray]) -> np.ndarray:
    return np.array([values[part].mean() for part in parts])


def _members(groups: np.ndarray | None, n: int) -> list[np.ndarray]:
    """Numbers of the maps of each group; maps keep their order if each is alone."""
    given = np.arange(n) if groups is None else np.asarray(groups)
    label = np.unique(given, return_inverse=True)[1] if given.shape == (n,) else np.zeros(1, int)
    if label.max() < 3:
        raise ShapeError(
            "maps", expected="4 or more maps or groups, and one group for each map",
            got=f"{n} maps, groups of shape {given.shape}", fix="make more maps",
        )  # fmt: skip
    order = np.arange(n) if label.max() == n - 1 else np.argsort(label, kind="stable")
    return np.split(order, np.cumsum(np.bincount(label))[:-1])


def _same(got: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if got != expected:
        raise ShapeError(
            "covariance", expected=f"shape {expected}, as the truth", got=f"shape {got}",
            fix="flatten maps and truth in the same order",
        )  # fmt: skip


def _root(square: float) -> float:
    return float(np.copysign(abs(square) ** 0.5, square))
