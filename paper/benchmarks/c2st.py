"""Classifier two-sample test by the exact rule of the published benchmark.

Lueckmann et al. 2021 (arXiv:2101.04653), section 2.3, after Friedman 2004 and Lopez-Paz & Oquab
2017. The number depends on the classifier, so it is comparable only under one rule:

- both samples are shifted and scaled by mean and standard deviation of the reference;
- a perceptron of two hidden layers, each of ten units per dimension, trained by Adam;
- accuracy averaged over five shuffled folds: 0.5 if the samples cannot be told apart, up to 1.

Equal sizes are needed (10,000 against 10,000 in the published tables): with unequal ones the
classifier gains by naming the larger sample.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import ArrayLike

__all__ = ["c2st"]

_FOLDS = 5
_UNITS_PER_DIMENSION = 10
# The published code allows this many epochs. Training ends of itself, when the loss has not
# fallen by 1e-4 in ten epochs, after fifty or so.
_EPOCHS = 10_000


def c2st(reference: ArrayLike, samples: ArrayLike, seed: int = 1) -> float:
    """Accuracy of a classifier between `reference` and `samples`.

    Args:
        reference: samples of the true posterior, shape (n, P).
        samples: samples of the posterior that is judged, shape (n, P).
        seed: of the folds and the network's weights; the published tables have 1.

    Raises:
        ValueError: if the shapes differ or a value is not finite.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neural_network import MLPClassifier

    # Single precision and torch's moments, as published: then the numbers are those, bit by bit.
    one, two = (torch.from_numpy(np.array(v, dtype=np.float32)) for v in (reference, samples))
    if one.ndim != 2 or one.shape != two.shape or not torch.isfinite(torch.cat([one, two])).all():
        got = f"{tuple(one.shape)} and {tuple(two.shape)}"
        raise ValueError(f"c2st: expected two finite samples of one shape (n, P); got {got}")
    mean, scale = one.mean(0), one.std(0)
    data = torch.cat([(one - mean) / scale, (two - mean) / scale]).numpy()
    target = np.repeat([0.0, 1.0], len(one))
    units = _UNITS_PER_DIMENSION * one.shape[1]
    classifier = MLPClassifier(
        activation="relu", hidden_layer_sizes=(units, units), max_iter=_EPOCHS, solver="adam",
        random_state=seed,
    )  # fmt: skip
    folds = KFold(_FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        scores = cross_val_score(classifier, data, target, cv=folds, scoring="accuracy")
    return float(np.mean(scores))
