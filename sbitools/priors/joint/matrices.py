"""Correlation and covariance matrices as users write them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbitools.errors import ParameterError
from sbitools.gate.arrays import real_tensor

__all__ = ["Rows", "correlation_of", "covariance_of", "factor", "rows_of"]

Rows = tuple[tuple[float, ...], ...]

# Of the largest number: matrices that were rounded to float32 are not meant to be lopsided.
_ROUNDED = 1e-6
# Smallest eigenvalue of a correlation matrix: u is told to 1e-10 above it.
_SMALLEST = 1e-10


def rows_of(matrix: Tensor) -> Rows:
    """The numbers of a matrix."""
    return tuple(tuple(row) for row in matrix.tolist())


def correlation_of(values: Any, k: int, what: str) -> Tensor:
    """A correlation matrix (k, k), float64, checked; of two parameters one number will do.

    Raises:
        ParameterError: unless it is a symmetric, positive definite matrix with ones.
    """
    if k == 2 and np.ndim(values) == 0:
        values = [[1.0, values], [values, 1.0]]
    matrix = _symmetric(values, k, what)
    off = matrix - torch.diag(matrix.diagonal())
    if bool((matrix.diagonal() - 1).abs().max() > _ROUNDED) or bool(off.abs().max() >= 1):
        raise ParameterError(
            what, expected="ones on the diagonal, and others between -1 and 1",
            got=f"diagonal {matrix.diagonal().tolist()}, largest other {float(off.abs().max()):g}",
            fix="divide a covariance by the standard deviations, or use multivariate_normal",
        )  # fmt: skip
    matrix = off + torch.eye(k, dtype=torch.float64)
    _check_definite(matrix, what)
    return matrix


def covariance_of(values: Any, k: int, what: str) -> tuple[Tensor, Tensor]:
    """Standard deviations (k,) and correlation (k, k) of a covariance matrix, float64, checked.

    Raises:
        ParameterError: unless it is symmetric and positive definite.
    """
    matrix = _symmetric(values, k, what)
    if not bool((matrix.diagonal() > 0).all()):
        raise ParameterError(
            what, expected="variances above 0 on the diagonal",
            got=f"{matrix.diagonal().tolist()}", fix="correct the matrix",
        )  # fmt: skip
    # Python's root, which is the same on all machines: it is part of what a space is known by.
    scale = torch.tensor([math.sqrt(v) for v in matrix.diagonal().tolist()], dtype=torch.float64)
    correlation = matrix / scale / scale[:, None]
    correlation.fill_diagonal_(1.0)
    _check_definite(correlation, what)
    return scale, correlation


def factor(correlation: Rows) -> Tensor:
    """The lower Cholesky factor of a checked matrix."""
    return torch.linalg.cholesky(torch.tensor(correlation, dtype=torch.float64))


def _symmetric(values: Any, k: int, what: str) -> Tensor:
    matrix = real_tensor(values, what, ParameterError).detach().cpu().to(torch.float64)
    if tuple(matrix.shape) != (k, k):
        raise ParameterError(
            what, expected=f"shape ({k}, {k}), one row for each name",
            got=f"shape {tuple(matrix.shape)}", fix="give the whole matrix",
        )  # fmt: skip
    if not bool(torch.isfinite(matrix).all()):
        raise ParameterError(
            what, expected="finite numbers", got=f"{matrix.tolist()}", fix="correct the matrix"
        )
    size = matrix.diagonal().abs().sqrt()
    unlike = (matrix - matrix.T).abs() > _ROUNDED * size * size[:, None] + 1e-300
    if bool(unlike.any()):
        i, j = unlike.nonzero()[0].tolist()
        raise ParameterError(
            what, expected="a symmetric matrix",
            got=f"{float(matrix[i, j]):g} in row {i}, column {j}, {float(matrix[j, i]):g} across",
            fix="correct the matrix",
        )  # fmt: skip
    return 0.5 * (matrix + matrix.T)


def _check_definite(correlation: Tensor, what: str) -> None:
    least = float(torch.linalg.eigvalsh(correlation).min())
    if not math.isfinite(least) or least < _SMALLEST:
        raise ParameterError(
            what, expected=f"a positive definite matrix (as correlations, eigenvalues above "
            f"{_SMALLEST:g})", got=f"a smallest eigenvalue of {least:.2g}",
            fix="leave out a parameter that follows from the others, or add to the diagonal",
        )  # fmt: skip
