"""Recalibration: the map that makes marginals agree with reference truths, fitted to them."""

from __future__ import annotations

import numpy as np

from sbitools.inference.repaired.recalibrated import RecalibratedPosterior
from sbitools.seeds import derive

from .evidence import Evidence
from .shape import choose_strength, fit_shape

__all__ = ["RecalibratedPosterior", "recalibrate", "shape_errors"]

_BOOTSTRAP, _RESAMPLES = 72, 100


def recalibrate(evidence: Evidence, seed: int = 0) -> RecalibratedPosterior:
    """Fit the map to reference truths; see `RecalibratedPosterior`.

    How far the map may go from none is chosen by truths of inner folds.

    Args:
        evidence: reference simulations as the posterior sees them.
        seed: of the inner folds.
    """
    strength = choose_strength(evidence.scores, evidence.weights, evidence.group, seed)
    shape = fit_shape(evidence.scores, evidence.weights, strength)
    return RecalibratedPosterior(evidence.posterior, shape, **evidence.provenance())


def shape_errors(evidence: Evidence, seed: int) -> np.ndarray:
    """Standard errors of (shift, log width, skew, log tail), shape (P, 4), by bootstrap.

    Whole groups of simulations are resampled, so that members of one volume and redrawn noises of
    one simulation do not count as independent. The strength of the change stays as it is.
    """
    strength = choose_strength(evidence.scores, evidence.weights, evidence.group, seed)
    rng = np.random.default_rng(derive(seed, _BOOTSTRAP))
    _, which = np.unique(evidence.group, return_inverse=True)
    n = int(which.max()) + 1
    fits = []
    for _ in range(_RESAMPLES):
        times = np.bincount(rng.integers(0, n, n), minlength=n)[which]
        fits.append(fit_shape(evidence.scores, evidence.weights * times, strength).numbers)
    return np.std(fits, axis=0)
