"""The sinh-arcsinh family: how normal scores of truths are distributed, in four numbers.

A score s of a truth is s = shift + width sinh((asinh(z) + skew) / tail) with z standard normal
(Jones & Pewsey 2009, "Sinh-arcsinh distributions", Biometrika 96, 761). An exact posterior has
shift 0, width 1, skew 0, tail 1.
"""

from __future__ import annotations

import numpy as np
import torch

from sbitools.inference.repaired.shape import ScoreShape
from sbitools.seeds import derive

__all__ = ["ScoreShape", "choose_strength", "fit_shape"]

# Standard deviations of the normal prior of (shift, log width, skew, log tail) around an exact
# posterior: what is fitted to few simulations is pulled to no change. Skew and tail are pulled
# more, since few simulations say little about them.
_PRIOR = np.array([0.5, 0.3, 0.1, 0.1])
_STRENGTHS = (1.0, 0.5, 0.2, 0.1, 0.0)
_INNER_FOLDS, _FOLDS = 5, 83
_BOUNDS = ((-6.0, 6.0), (-3.0, 3.0), (-1.0, 1.0), (-0.7, 0.7))


def fit_shape(
    scores: np.ndarray, weights: np.ndarray | None = None, strength: float = 1.0
) -> ScoreShape:
    """The most probable shapes for scores of truths, parameter by parameter.

    Maximises the log likelihood plus the logarithm of a normal prior around an exact posterior, of
    standard deviation `strength` times 0.5 in shift, 0.3 in log width, and 0.1 in skew and log
    tail.

    Args:
        scores: shape (N, P).
        weights: of the rows, shape (N,): they sum to the number of independent simulations; ones
            if None.
        strength: of the change that is expected; 0 fits nothing.
    """
    from scipy.optimize import minimize

    if strength == 0.0:
        return ScoreShape(np.zeros((scores.shape[1], 4)))
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, dtype=np.float64)
    rows = [
        minimize(
            _loss, np.zeros(4), (column, weights, strength * _PRIOR), jac=True,
            method="L-BFGS-B", bounds=_BOUNDS,
        ).x
        for column in np.asarray(scores, dtype=np.float64).T
    ]  # fmt: skip
    return ScoreShape(np.array(rows))


def choose_strength(
    scores: np.ndarray, weights: np.ndarray, group: np.ndarray, seed: int
) -> float:
    """The strength that makes scores of left-out groups most probable, in five inner folds.

    Four numbers for each of P parameters cost about 2 P / N nats if they are not needed.

    Args:
        scores: shape (N, P).
        weights: shape (N,).
        group: shape (N,).
        seed: of the folds.
    """
    names, which = np.unique(group, return_inverse=True)
    fold = np.random.default_rng(derive(seed, _FOLDS)).permutation(len(names)) % _INNER_FOLDS
    fold, gains = fold[which], np.zeros(len(_STRENGTHS))
    for k in range(_INNER_FOLDS):
        rest, out = fold != k, fold == k
        for i, strength in enumerate(_STRENGTHS):
            shape = fit_shape(scores[rest], weights[rest], strength)
            z, slope = shape.inverse(torch.from_numpy(scores[out]))
            gained = slope.numpy() + 0.5 * (scores[out] ** 2 - z.numpy() ** 2)
            gains[i] += weights[out] @ gained.sum(1)
    return _STRENGTHS[int(gains.argmax())]


def _loss(
    numbers: np.ndarray, s: np.ndarray, weights: np.ndarray, prior: np.ndarray
) -> tuple[float, np.ndarray]:
    """Minus the log posterior of the four numbers, and its gradient."""
    shift, log_width, skew, log_tail = numbers
    tail, y = np.exp(log_tail), (s - shift) * np.exp(-log_width)
    arc, root = np.arcsinh(y), np.sqrt(1 + y**2)
    inner = tail * arc - skew
    z, size = np.sinh(inner), np.abs(inner)
    log_cosh = size + np.log1p(np.exp(-2 * size)) - np.log(2.0)
    log_q = -0.5 * z**2 + log_tail - log_width + log_cosh - np.log(root)
    by_inner = -z * np.cosh(inner) + np.tanh(inner)
    by_y = by_inner * tail / root - y / root**2
    gradient = np.array([
        weights @ by_y * -np.exp(-log_width), -(weights @ (by_y * y + 1)), -(weights @ by_inner),
        weights @ (by_inner * tail * arc + 1),
    ])  # fmt: skip
    value = weights @ log_q - 0.5 * ((numbers / prior) ** 2).sum()
    return -float(value), -(gradient - numbers / prior**2)
