"""The fit of the log weight that makes reference truths most probable."""

from __future__ import annotations

import numpy as np

from sbitools.inference.repaired.tilt import Tilt, basis
from sbitools.seeds import derive

from .evidence import Evidence

__all__ = ["fit_tilt"]

_COMPONENTS = 3

# Penalties to choose from: prior standard deviations of a coefficient. The last is no repair.
_WIDTHS = (0.3, 0.2, 0.1, 0.05, 0.0)
_INNER_FOLDS = 5
_FOLDS = 75
_STEPS = 30

# One in so many draws of an observation is enough for the mean weight in the fit; in its judgement
# all are used, since the log of a mean of few heavy weights is too low.
_THINNED = 4


def fit_tilt(evidence: Evidence, seed: int) -> Tilt:
    """The weights that make reference truths most probable, shrunk to none.

    Coefficients have a normal prior around 0 whose width, 0.3 at most, is chosen by the log
    probability that they gain on truths of inner folds.

    Args:
        evidence: reference simulations as the posterior sees them.
        seed: of the inner folds.
    """
    centre, axes = _principal(evidence.features)
    empty = Tilt(np.zeros(0), centre, axes)
    components = empty.components(evidence.features)
    truth = basis(evidence.scores[:, None], components)[:, 0]
    draws = basis(evidence.draw_scores, components)
    few = draws[:, ::_THINNED]
    groups, which = np.unique(evidence.group, return_inverse=True)
    fold = np.random.default_rng(derive(seed, _FOLDS)).permutation(len(groups)) % _INNER_FOLDS
    fold, weights = fold[which], evidence.weights
    gains = np.zeros(len(_WIDTHS))
    for k in range(_INNER_FOLDS):
        rest, out = fold != k, fold == k
        for i, width in enumerate(_WIDTHS):
            w = _maximise(truth[rest], few[rest], weights[rest], width)
            gains[i] += weights[out] @ _gain(w, truth[out], draws[out])
    width = _WIDTHS[int(gains.argmax())]
    return Tilt(_maximise(truth, few, weights, width), centre, axes)


def _principal(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the features, and directions along which they vary most, scaled to variance 1."""
    values = np.asarray(features, dtype=np.float64)
    centre = values.mean(0)
    _, spread, axes = np.linalg.svd(values - centre, full_matrices=False)
    deviation = spread / np.sqrt(max(len(values) - 1, 1))
    keep = np.flatnonzero(deviation > 1e-6 * max(float(deviation.max(initial=0)), 1e-30))
    keep = keep[:_COMPONENTS]
    return centre, (axes[keep] / deviation[keep, None]).T


def _gain(w: np.ndarray, truth: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """f at the truth minus the log mean of exp f over draws: nats gained, shape (R,)."""
    values = draws @ w
    top = values.max(1)
    return truth @ w - top - np.log(np.exp(values - top[:, None]).mean(1))


def _maximise(
    truth: np.ndarray, draws: np.ndarray, weights: np.ndarray, width: float
) -> np.ndarray:
    """Newton's method: the penalised gain is concave."""
    w = np.zeros(truth.shape[1])
    if width == 0.0:
        return w
    for _ in range(_STEPS):
        values = draws @ w
        p = np.exp(values - values.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        mean = np.einsum("rl,rlk->rk", p, draws)
        scaled = draws * np.sqrt(p * weights[:, None])[..., None]
        flat = scaled.reshape(-1, len(w))
        hessian = flat.T @ flat - (mean * weights[:, None]).T @ mean
        hessian[np.diag_indices(len(w))] += 1 / width**2
        step = np.linalg.solve(hessian, weights @ (truth - mean) - w / width**2)
        # The quadratic model of the gain holds nearby only: no coefficient moves by more than 1.
        w = w + step * min(1.0, 1.0 / float(np.abs(step).max(initial=1e-12)))
        if np.abs(step).max() < 1e-6:
            break
    return w
