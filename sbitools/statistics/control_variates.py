"""Means and covariances of few expensive simulations, made precise by many cheap ones.

n expensive data vectors y_i have cheap partners c_i, emulations that share with them what can be
shared (initial conditions, noise, theta); m more emulations, independent of these, are cheap. Then

    mean = <y> - beta (<c> - mu),    mu the mean of the m others,

has the mean of y whatever the emulator's bias and whatever beta: convergence acceleration by
regression and pooling (CARPool; Chartier, Wandelt, Akrami & Villaescusa-Navarro 2021,
arXiv:2009.08970, equations 6 to 13; covariances: Chartier & Wandelt 2022, arXiv:2106.11718). The
variance is least for beta = Cov(y, c) Cov(c)^-1 m / (n + m). A beta fitted to the pairs it is
applied to would bias the result, so that each fold of the pairs takes its beta from the others.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from sbitools.errors import ConfigError, ShapeError

from .covariance import as_rows, sample_covariance

__all__ = ["ControlledCovariance", "ControlledMean", "controlled_covariance", "controlled_mean"]

_PENALTIES = 10.0 ** np.arange(-3, 3.1, 0.5)  # of the ridge, per pair, for unit variance

Beta = Literal["diagonal", "full"]


class ControlledMean(NamedTuple):
    """A mean with control variates, beside that of the expensive simulations alone.

    Attributes:
        mean: shape (d,); its mean is that of the expensive simulations.
        error: its standard error, shape (d,).
        plain: mean of the expensive simulations alone, shape (d,).
        plain_error: standard error of `plain`, shape (d,).
        beta: mean over the folds, shape (d,) or (d, d), with the factor m / (n + m).
    """

    mean: np.ndarray
    error: np.ndarray
    plain: np.ndarray
    plain_error: np.ndarray
    beta: np.ndarray

    @property
    def reduction(self) -> np.ndarray:
        """Variance of `plain` over that of `mean`, (d,): so many times more simulations' worth."""
        return _ratio(self.plain_error**2, self.error**2)


class ControlledCovariance(NamedTuple):
    """A covariance with control variates, beside that of the expensive simulations alone.

    Attributes:
        covariance: shape (d, d), symmetric, not always positive definite.
        plain: sample covariance of the expensive simulations, shape (d, d).
        beta: mean over the folds, shape (d, d).
        reduction: estimate of the variance of `plain` over that of `covariance`, shape (d, d).
    """

    covariance: np.ndarray
    plain: np.ndarray
    beta: np.ndarray
    reduction: np.ndarray


def controlled_mean(
    expensive: np.ndarray, paired: np.ndarray, extra: np.ndarray, *,
    beta: Beta = "diagonal", folds: int = 10,
) -> ControlledMean:  # fmt: skip
    """Mean data vector of an expensive simulator from pairs and more emulations.

    Args:
        expensive: y, shape (n, d), n at least 4.
        paired: emulations that share with `expensive`, row by row, shape (n, d).
        extra: further emulations, independent of the pairs, shape (m, d), m at least 2.
        beta: ``"diagonal"``, a number for each component, best for few pairs; ``"full"``, a matrix
            that is the diagonal plus a ridge regression of what is left on all components, with
            the penalty that predicts left-out pairs best.
        folds: of the pairs, at most n / 2; 2 or more.

    Raises:
        ShapeError: for shapes that do not fit, or numbers that are not finite.
        ConfigError: for an unknown kind of beta, or fewer than 2 folds.
    """
    if beta not in ("diagonal", "full"):
        raise ConfigError(
            "beta", expected="'diagonal' or 'full'", got=repr(beta), fix="use 'diagonal'"
        )
    y, c, more = _checked(expensive, paired, extra)
    fit = _diagonal_beta if beta == "diagonal" else _full_beta
    share, centre = len(more) / (len(y) + len(more)), more.mean(0)
    left, betas = np.empty_like(y), []
    for inside in _folds(len(y), folds):
        betas.append(share * fit(y[~inside], c[~inside]))
        left[inside] = y[inside] - _apply(betas[-1], c[inside] - centre)
    mean_beta = np.mean(betas, axis=0)
    noise = _apply(mean_beta, more - centre).var(0, ddof=1) / len(more)
    return ControlledMean(
        left.mean(0), np.sqrt(left.var(0, ddof=1) / len(y) + noise),
        y.mean(0), y.std(0, ddof=1) / len(y) ** 0.5, mean_beta,
    )  # fmt: skip


def controlled_covariance(
    expensive: np.ndarray, paired: np.ndarray, extra: np.ndarray, *, folds: int = 5
) -> ControlledCovariance:
    """Covariance of data vectors of an expensive simulator, element by element.

    Every fold has the covariance of its own members about its own mean, from which beta of the
    other folds times that of the emulations is taken: nothing is biased, at the price of one
    degree of freedom a fold.

    Args:
        expensive: y, shape (n, d), n at least 4.
        paired: emulations that share with `expensive`, row by row, shape (n, d).
        extra: further emulations, independent of the pairs, shape (m, d), m at least 2.
        folds: of the pairs, at most n / 2; 2 or more.

    Raises:
        ShapeError: for shapes that do not fit, or numbers that are not finite.
        ConfigError: for fewer than 2 folds.
    """
    y, c, more = _checked(expensive, paired, extra)
    n, share, target = len(y), len(more) / (len(y) + len(more)), sample_covariance(more)
    parts = _folds(n, folds)
    total, mean_beta, first, second = (np.zeros_like(target) for _ in range(4))
    middle = y.mean(0), c.mean(0)
    freedom = n - len(parts)
    for inside in parts:
        beta = share * _product_beta(y[~inside], c[~inside])
        own = sample_covariance(y[inside]) - beta * (sample_covariance(c[inside]) - target)
        total += (inside.sum() - 1) / freedom * own
        mean_beta += beta / len(parts)
        sums = _left_over(y[inside] - middle[0], c[inside] - middle[1], beta)
        first, second = first + sums[0] / n, second + sums[1] / n
    before = _variance_of_products(y)
    after = second - first**2 + mean_beta**2 * _variance_of_products(c) * n / len(more)
    reduction = _ratio(before, after) * freedom / (n - 1)
    return ControlledCovariance(total, sample_covariance(y), mean_beta, reduction)


def _diagonal_beta(y: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Cov(y, c) / Var(c) of each component, (d,); 0 where c does not vary."""
    y, c = y - y.mean(0), c - c.mean(0)
    return _ratio((y * c).sum(0), (c * c).sum(0), empty=0.0)


def _full_beta(y: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The diagonal plus a ridge regression of the residuals on all components, (d, d).

    Components are scaled to unit variance first. The penalty is the one of least squared error
    of each row predicted from the others; an endless one, which leaves the diagonal, is allowed.
    """
    n, diagonal = len(c), _diagonal_beta(y, c)
    spread = (c - c[0]).std(0)  # of a constant exactly 0
    scale = np.where(spread > 0, spread, 1.0)
    scaled = (c - c.mean(0)) / scale
    left = y - y.mean(0) - diagonal * scaled * scale
    unit = np.where(left.std(0) > 0, left.std(0), 1.0)
    u, s, v = np.linalg.svd(scaled, full_matrices=False)
    best, filtered = np.inf, np.zeros_like(s)
    for penalty in (np.inf, *n * _PENALTIES):
        gain = s**2 / (s**2 + penalty)
        alone = 1 - 1 / n - (u**2 @ gain)[:, None]
        missed = (left - u @ (gain[:, None] * (u.T @ left))) / np.maximum(alone, 1e-6)
        error = float(((missed / unit) ** 2).sum())
        if error < best:
            best, filtered = error, np.divide(gain, s, out=np.zeros_like(s), where=s > 0)
    return np.diag(diagonal) + (left.T @ u * filtered) @ v / scale


def _apply(beta: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return vectors * beta if beta.ndim == 1 else vectors @ beta.T


def _product_beta(y: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Cov(P, Q) / Var(Q) of each element of P = y y^T and Q = c c^T, about the means, (d, d)."""
    y, c = y - y.mean(0), c - c.mean(0)
    both, n = y * c, len(y)
    return _ratio(
        both.T @ both / n - (y.T @ y / n) * (c.T @ c / n), _variance_of_products(c), empty=0.0
    )


def _variance_of_products(y: np.ndarray) -> np.ndarray:
    """Var(P) of each element of P = y y^T about the mean, (d, d)."""
    y = y - y.mean(0)
    return (y**2).T @ y**2 / len(y) - (y.T @ y / len(y)) ** 2


def _left_over(y: np.ndarray, c: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the rows of P - beta Q and of its square, (d, d)."""
    both = y * c
    squares = (y**2).T @ y**2 - 2 * beta * (both.T @ both) + beta**2 * ((c**2).T @ c**2)
    return y.T @ y - beta * (c.T @ c), squares


def _folds(n: int, folds: int) -> list[np.ndarray]:
    """Masks (n,) of the members of each fold, two members or more in each."""
    if folds < 2:
        raise ConfigError("folds", expected="2 or more", got=f"{folds}", fix="pass folds=5, say")
    fold = np.arange(n) % min(folds, n // 2)
    return [fold == k for k in range(fold.max() + 1)]


def _ratio(top: np.ndarray, below: np.ndarray, empty: float = np.inf) -> np.ndarray:
    """top / below, and `empty` where there is nothing to divide by."""
    return np.divide(top, below, out=np.full_like(top, empty), where=below > 0)


def _checked(
    expensive: np.ndarray, paired: np.ndarray, extra: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y, c, more = as_rows(expensive, 4), as_rows(paired, 4), as_rows(extra, 2)
    if y.shape != c.shape or more.shape[1] != y.shape[1]:
        raise ShapeError(
            "control variates", expected="expensive (n, d), paired (n, d) and extra (m, d)",
            got=f"{y.shape}, {c.shape} and {more.shape}", fix="pair simulations row by row",
        )  # fmt: skip
    return y, c, more
