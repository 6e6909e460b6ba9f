"""Ridge regression whose penalty, and whose errors, are those of held-out rows."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["ridge"]

_PENALTIES = 10.0 ** torch.arange(-6, 3, dtype=torch.float64)  # for each row
_FOLDS = 5


def ridge(z: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Linear regression with the penalty that five-fold cross-validation likes best.

    Args:
        z: (n, S) of about unit size, n at least 5.
        targets: (n, P) of about unit size.

    Returns:
        Slopes (S, P), and what each row would have been predicted by the others, (n, P); float64.
    """
    z, targets = z.double(), targets.double()
    fold = torch.arange(len(z)) % _FOLDS
    found = torch.empty(len(_PENALTIES), *targets.shape, dtype=torch.float64)
    for k in range(_FOLDS):
        held = fold == k
        for i, slopes in enumerate(_solve(z[~held], targets[~held], _PENALTIES)):
            found[i, held] = z[held] @ slopes
    best = int((found - targets).square().mean((1, 2)).argmin())
    return _solve(z, targets, _PENALTIES[[best]])[0], found[best]


def _solve(z: Tensor, targets: Tensor, penalties: Tensor) -> list[Tensor]:
    """Slopes for each penalty."""
    values, vectors = torch.linalg.eigh(z.T @ z / len(z))
    right = vectors.T @ (z.T @ targets) / len(z)
    return [vectors @ (right / (values.clamp(min=0) + p)[:, None]) for p in penalties]
