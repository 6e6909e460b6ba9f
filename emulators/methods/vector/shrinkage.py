"""Regressions and correlations of many numbers from few simulations, without what chance explains.

References:
    | Optimal shrinkage of singular values (Gavish & Donoho 2017, arXiv:1405.7511), equation 7
    | A well-conditioned estimator for large-dimensional covariance matrices
      (Ledoit & Wolf 2004)
    | Regularized estimation of large covariance matrices (Bickel & Levina 2008,
      arXiv:0803.1909), section 3: bands of the Cholesky factor
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from .smoothing import Smoother

__all__ = ["Regression", "choose_correlation"]

_TINY = 1e-10  # of the largest: singular values below are those of columns that repeat others
_JITTER = 1e-6
_BANDS = (1, 2, 4)


class Regression:
    """y ~ b + sum_d A_d W_d: each degree d adds to the lower ones what stands out of the noise.

    The coefficients of one degree are a matrix, of products by entries of y. Chance alone gives it
    singular values up to a known edge: those beyond are kept, shrunk by as much as noise adds, and
    the others vanish. Entries that follow theta in common so share what is known of it.

    Args:
        a: products, (N, F), degree by degree.
        terms: number of products of each degree.
        weight: of each simulation, (N,).
        smoother: of curves along y.
    """

    def __init__(
        self, a: Tensor, terms: Sequence[int], weight: Tensor, smoother: Smoother
    ) -> None:  # fmt: skip
        self.smoother = smoother
        self.root = (weight / weight.mean()).sqrt()[:, None]
        self.centre = (self.root**2 * a).mean(0)
        bases, maps, start = [], [], 0
        # Columns of each degree, made orthonormal to those of lower ones: q = (a - centre) @ map.
        done = self.root / self.root.norm()
        wide = torch.zeros(a.shape[1], 0, dtype=a.dtype)
        scaled = self.root * (a - self.centre)
        for n in terms:
            block = scaled[:, start : start + n]
            back = torch.zeros(a.shape[1], n, dtype=a.dtype)
            back[start : start + n] = torch.eye(n, dtype=a.dtype)
            if wide.shape[1]:
                shared = torch.cat(bases, 1).T @ block
                block, back = block - torch.cat(bases, 1) @ shared, back - wide @ shared
            block = block - done @ (done.T @ block)
            u, s, vt = torch.linalg.svd(block, full_matrices=False)
            size = float(scaled[:, start : start + n].norm()) if n else 0.0
            kept = s > max(_TINY, 1e-6) * max(size, 1e-300)
            bases.append(u[:, kept])
            maps.append(back @ vt[kept].T / s[kept])
            wide = torch.cat([wide, maps[-1]], 1)
            start += n
        self.bases, self.maps = bases, maps

    def fit(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients (F, n) and constants (n,) of y (N, n)."""
        return self.explained(y, _ledoit_wolf)[:2]

    def explained(
        self, y: Tensor, correlation: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `fit`, and the factor (n, n) of the covariance of what is left.

        Args:
            y: (N, n).
            correlation: the matrix (n, n) of residuals (N, n) of variance 1.
        """
        n = len(y)
        mean = (self.root**2 * y).mean(0)
        y0 = self.root * (y - mean)
        seen = [q.T @ y0 for q in self.bases]
        rest = y0 - sum((q @ b for q, b in zip(self.bases, seen, strict=True)), y0 * 0)
        used = sum(q.shape[1] for q in self.bases)
        sd = (rest.square().sum(0) / max(n - 1 - used, 1)).sqrt().clamp(min=1e-150)
        factor = torch.linalg.cholesky(correlation(rest / sd))
        coefficients = torch.zeros(len(self.centre), y.shape[1], dtype=y.dtype)
        for b, back in zip(seen, self.maps, strict=True):
            white = torch.linalg.solve_triangular(factor, (b / sd).T, upper=False).T
            rows, curves = _shrunk_matrix(white)
            curves = self.smoother(curves @ factor.T * sd, sd)
            coefficients += back @ (rows @ curves)
        return coefficients, mean - self.centre @ coefficients, sd[:, None] * factor


def _shrunk_matrix(b: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix without noise of unit variance: singular values beyond the edge, shrunk.

    Returns:
        Rows (F, K) and curves (K, n) whose product it is; curves have noise of unit variance.
    """
    if not b.numel():
        return b[:, :0], b[:0]
    u, s, vt = torch.linalg.svd(b, full_matrices=False)
    m, n = sorted(b.shape)
    beta, y = m / n, s / n**0.5
    inner = ((y**2 - beta - 1) ** 2 - 4 * beta).clamp(min=0).sqrt() / y.clamp(min=1e-300)
    kept = y > 1 + beta**0.5
    share = (inner / y.clamp(min=1e-300))[kept]
    return u[:, kept] * share, s[kept, None] * vt[kept]


def choose_correlation(z: Tensor, fold: Tensor) -> Tensor:
    """The correlation matrix of normal scores z (N, n), by the estimate that predicts best."""
    kinds: list[Callable[[Tensor], Tensor]] = [_identity, _thresholded, _ledoit_wolf, _spiked]
    kinds += [partial(_banded, width=width) for width in _BANDS if width < z.shape[1]]
    scores = [0.0] * len(kinds)
    for k in fold.unique().tolist():
        held = fold == k
        for i, kind in enumerate(kinds):
            scores[i] += _score(z[held], kind(z[~held]))
    return kinds[max(range(len(kinds)), key=lambda i: scores[i])](z)


def _score(z: Tensor, r: Tensor) -> float:
    factor = torch.linalg.cholesky(r)
    white = torch.linalg.solve_triangular(factor, z.T, upper=False)
    return float(-0.5 * white.square().sum() - len(z) * factor.diagonal().log().sum())


def _correlation(z: Tensor) -> Tensor:
    unit = z / z.norm(dim=0).clamp(min=1e-150)
    return _safe(unit.T @ unit)


def _identity(z: Tensor) -> Tensor:
    return torch.eye(z.shape[1], dtype=z.dtype)


def _ledoit_wolf(z: Tensor) -> Tensor:
    r, n = _correlation(z), len(z)
    off = (r - torch.diag(r.diagonal())).square().sum()
    noise = ((1 - r**2) ** 2).sum() / max(n - 1, 1)
    share = float((noise / off.clamp(min=1e-300)).clamp(0, 1)) if z.shape[1] > 1 else 0.0
    return _safe((1 - share) * r)


def _thresholded(z: Tensor) -> Tensor:
    r, n = _correlation(z), len(z)
    square_t = n * r**2 / ((1 - r**2) ** 2).clamp(min=1e-12)
    limit = 2 * torch.log(torch.tensor(float(max(len(r), 2)), dtype=r.dtype))
    kept = r * (1 - limit / square_t.clamp(min=1e-12)).clamp(min=0)
    kept.fill_diagonal_(1)
    values, vectors = torch.linalg.eigh(kept)
    return _safe(vectors * values.clamp(min=1e-2) @ vectors.T)


def _banded(z: Tensor, width: int) -> Tensor:
    """Each entry follows the few before it, and through them all others."""
    r = _correlation(z)
    back, rest = torch.eye(len(r), dtype=r.dtype), torch.ones(len(r), dtype=r.dtype)
    for i in range(1, len(r)):
        near = slice(max(0, i - width), i)
        share = torch.linalg.solve(r[near, near], r[near, i])
        back[i, near], rest[i] = -share, 1 - r[near, i] @ share
    factor = torch.linalg.inv(back) * rest.clamp(min=_JITTER).sqrt()
    return _safe(factor @ factor.T)


def _spiked(z: Tensor) -> Tensor:
    """Few modes beyond the edge of noise, and no correlation else (Donoho & al. 2018)."""
    r, gamma = _correlation(z), z.shape[1] / len(z)
    values, vectors = torch.linalg.eigh(r)
    edge = (1 + gamma**0.5) ** 2
    t = values + 1 - gamma
    spike = (t + (t**2 - 4 * values).clamp(min=0).sqrt()) / 2
    cosine = ((1 - gamma / (spike - 1) ** 2) / (1 + gamma / (spike - 1).clamp(min=1e-9))).clamp(0)
    shrunk = torch.where(values > edge, 1 + (spike - 1) * cosine, torch.ones_like(values))
    return _safe(vectors * shrunk @ vectors.T)


def _safe(r: Tensor) -> Tensor:
    """With ones on the diagonal, and positive."""
    sd = r.diagonal().clamp(min=1e-12).sqrt()
    r = r / (sd[:, None] * sd)
    n = len(r)
    r = r * (1 - _JITTER)
    r[range(n), range(n)] = 1.0
    return r
