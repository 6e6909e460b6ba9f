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

Where the truth is not known as a matrix, independent reference maps stand for it: |C|^2 is then
this same sum over them, and <Sigma, C> the product of two independent unbiased covariances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sbitools.errors import ConfigError, ShapeError

from .covariance import as_matrix, as_rows, sample_covariance

__all__ = [
    "LimitError", "SampledTruth", "cross_half_error", "effective_rank", "expected_sample_error",
    "infinite_map_difference", "infinite_map_error", "matrix_difference", "relative_error",
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


@dataclass(frozen=True, eq=False)
class SampledTruth:
    """A covariance C of which reference maps are all that is known.

    Attributes:
        rows: the maps minus their mean, (n, d).
        matrix: their sample covariance, (d, d): unbiased, but larger in norm than C.
        square: unbiased estimate of |C|^2.
        shares: mean product of each map with the others, whose mean is about `square`, (n,).
    """

    rows: np.ndarray
    matrix: np.ndarray
    square: float
    shares: np.ndarray

    @classmethod
    def of(cls, maps: np.ndarray) -> SampledTruth:
        """The truth behind independent maps (n, ...), n at least 4.

        Raises:
            ShapeError: for fewer maps, or maps whose covariance cannot be told from zero.
        """
        rows = as_rows(maps)
        parts = _members(None, len(rows))
        rows = rows - rows.mean(0)
        square, shares = _self_product(rows, rows, parts)
        if not square > 0:
            raise ShapeError(
                "reference maps", expected="enough maps to find |C|^2 above its noise",
                got=f"{square:.3g} from {len(rows)} maps", fix="use more reference maps",
            )  # fmt: skip
        return cls(rows, rows.T @ rows / (len(rows) - 1), square, shares)


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
    rows, means, parts = _centred(rows, groups)
    square, profile = _self_product(rows, means, parts)
    cross, product = _cross_product(rows, means, parts, truth)
    norm = (truth**2).sum()
    # By the pairs of which each group is a part; the mean is taken as known, as it nearly is.
    variance = _jackknife((profile - cross) / norm)
    return LimitError(float((square - 2 * product) / norm + 1), variance**0.5)


def infinite_map_difference(
    maps: np.ndarray, reference: np.ndarray | SampledTruth, groups: np.ndarray | None = None
) -> LimitError:
    """`infinite_map_error` where independent reference maps are all that is known of C.

    Neither the finite number of the maps nor that of the reference maps biases numerator or
    denominator of the squared error; both are in its standard error.

    Args:
        maps: shape (n, ...).
        reference: independent maps, shape (m, ...), or what `SampledTruth.of` made of them.
        groups: of `maps`, as for `infinite_map_error`.

    Raises:
        ShapeError: for fewer than 4 maps or groups, or shapes that do not fit.
    """
    rows, truth = as_rows(maps), _sampled(reference)
    _same((rows.shape[1],) * 2, truth.matrix.shape)
    rows, means, parts = _centred(rows, groups)
    square, profile = _self_product(rows, means, parts)
    cross, product = _cross_product(rows, means, parts, truth.matrix)
    squared = (square - 2 * product) / truth.square + 1

    n, sizes = len(parts), np.empty(len(rows))
    for part in parts:
        sizes[part] = len(part)
    weights = np.concatenate([1 / (n * sizes), np.full(n, 1 / (n * (n - 1)))])
    other = _square_sums(truth.rows, np.concatenate([rows, means]), weights)
    variance = _jackknife((profile - cross) / truth.square)
    variance += _jackknife(((1 - squared) * truth.shares - other) / truth.square)
    return LimitError(float(squared), variance**0.5)


def matrix_difference(estimate: np.ndarray, reference: np.ndarray | SampledTruth) -> LimitError:
    """`relative_error` where independent reference maps are all that is known of C.

    Args:
        estimate: a matrix (d, d) that was made without the reference maps.
        reference: maps, shape (m, ...), or what `SampledTruth.of` made of them.
    """
    estimate, truth = as_matrix(estimate, "estimate"), _sampled(reference)
    _same(estimate.shape, truth.matrix.shape)
    product = (estimate * truth.matrix).sum()
    squared = ((estimate**2).sum() - 2 * product) / truth.square + 1
    own = _quadratic(truth.rows, estimate)
    variance = _jackknife(((1 - squared) * truth.shares - own) / truth.square)
    return LimitError(float(squared), variance**0.5)


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


def _cross_product(
    rows: np.ndarray, means: np.ndarray, parts: list[np.ndarray], matrix: np.ndarray
) -> tuple[np.ndarray, float]:
    """x^T A x of every group, shape (n,), and <Sigma, A> without bias."""
    cross, n = _group_means(_quadratic(rows, matrix), parts), len(parts)
    return cross, float(cross.mean() + _quadratic(means, matrix).sum() / (n * (n - 1)))


def _jackknife(shares: np.ndarray) -> float:
    """Variance of twice the mean of the shares that single maps or groups have in a sum."""
    n = len(shares)
    return float(4 * shares.var(ddof=1) * (n - 1) / (n - 2) ** 2)


def _centred(
    rows: np.ndarray, groups: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Maps (n_maps, d) and means of groups (n, d), minus the mean of these, and the members."""
    parts = _members(groups, len(rows))
    if len(parts) == len(rows):
        rows = rows - rows.mean(0)
        return rows, rows, parts
    means = np.stack([rows[part].mean(0) for part in parts])
    centre = means.mean(0)
    return rows - centre, means - centre, parts


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


def _sampled(reference: np.ndarray | SampledTruth) -> SampledTruth:
    return reference if isinstance(reference, SampledTruth) else SampledTruth.of(reference)


def _same(got: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if got != expected:
        raise ShapeError(
            "covariance", expected=f"shape {expected}, as the truth", got=f"shape {got}",
            fix="flatten maps and truth in the same order",
        )  # fmt: skip


def _root(square: float) -> float:
    return float(np.copysign(abs(square) ** 0.5, square))
