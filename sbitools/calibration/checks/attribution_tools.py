"""Numerics of `attribution`: discriminants and responses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sbitools.calibration.statistics.regression import quadratic
from sbitools.errors import ShapeError

if TYPE_CHECKING:
    from sbitools.calibration.drawing.observed_tests import ObservedTests

__all__ = ["Discriminant", "conditional_features", "paired_values", "response"]

# Of a discriminant, relative to the mean variance: features of a network can be collinear.
_RIDGE = 1e-2


def paired_values(
    emulated: ObservedTests, reference: ObservedTests, name: str
) -> tuple[tuple[np.ndarray, np.ndarray], bool]:
    """A statistic of both sets, in its logarithm if it is positive, and whether it is.

    Raises:
        ShapeError: if a set lacks it, or the numbers of bins differ.
    """
    missing = np.empty((0, 0))
    first, second = (
        np.asarray(d.statistics.get(name, missing), dtype=np.float64)
        for d in (emulated, reference)
    )
    if first.ndim != 2 or not first.size or first.shape[1:] != second.shape[1:]:
        raise ShapeError(
            f"statistic {name!r}", expected="the same bins, shape (tests, bins), in both sets",
            got=f"shapes {first.shape} and {second.shape}", fix="measure both in the same way",
        )  # fmt: skip
    positive = bool((first > 0).all() and (second > 0).all())
    return ((np.log(first), np.log(second)) if positive else (first, second)), positive


def conditional_features(
    emulated: ObservedTests, reference: ObservedTests, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of the classifier (N, 2 F) and labels (N,), one random test of each group.

    Features are freed of a quadratic function of theta that is common to both sets.
    """
    chosen = [_members(d.group, rng) for d in (emulated, reference)]
    theta = np.concatenate(
        [d.theta[c] for d, c in zip((emulated, reference), chosen, strict=True)]
    )
    f = np.concatenate([d.features[c] for d, c in zip((emulated, reference), chosen, strict=True)])
    label = np.repeat([0, 1], [len(c) for c in chosen])
    x = quadratic(theta, theta.mean(0), theta.std(0))
    rest = f - x @ np.linalg.lstsq(x, f, rcond=None)[0]
    spread = rest.std(0)
    rest = rest[:, spread > 1e-9 * max(float(spread.max(initial=0.0)), 1e-300)]
    rest = np.clip(rest / rest.std(0), -5, 5)
    return np.concatenate([rest, rest**2 - (rest**2).mean(0)], axis=1), label


class Discriminant:
    """Linear discriminants of folds, for any labels: what does not depend on them is done once."""

    def __init__(self, inputs: np.ndarray, fold: np.ndarray) -> None:
        self.parts = []
        for k in np.unique(fold):
            rest, out = inputs[fold != k], inputs[fold == k]
            centred = rest - rest.mean(0)
            covariance = centred.T @ centred / len(rest)
            ridge = _RIDGE * np.trace(covariance) / max(len(covariance), 1) + 1e-12
            whitened = np.linalg.solve(covariance + ridge * np.eye(len(covariance)), out.T).T
            self.parts.append((fold != k, fold == k, rest, whitened))

    def auc(self, labels: np.ndarray) -> np.ndarray:
        """Areas under the ROC curves on held-out rows, mean over folds, of labels (M, N): (M,)."""
        from scipy.stats import rankdata

        total, count = np.zeros(len(labels)), np.zeros(len(labels))
        for train, test, rest, whitened in self.parts:
            y, mine = labels[:, train].astype(np.float64), labels[:, test]
            sizes, n1 = y.sum(1), mine.sum(1)
            n0 = mine.shape[1] - n1
            usable = (sizes > 0) & (sizes < y.shape[1]) & (n1 > 0) & (n0 > 0)
            first = y @ rest / np.maximum(sizes, 1)[:, None]
            second = (1 - y) @ rest / np.maximum(y.shape[1] - sizes, 1)[:, None]
            rank = rankdata(whitened @ (first - second).T, axis=0).T
            area = ((rank * mine).sum(1) - n1 * (n1 + 1) / 2) / np.maximum(n0 * n1, 1)
            total += np.where(usable, area, 0.0)
            count += usable
        return np.where(count > 0, total / np.maximum(count, 1), 0.5)


def response(
    emulated: ObservedTests,
    reference: ObservedTests,
    values: tuple[np.ndarray, np.ndarray],
    w0: np.ndarray,
    w1: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Change of the mean error (P,), what each bin is expected to change (P, B), and R^2 (P,).

    Args:
        emulated: tests of the emulator.
        reference: tests of the reference.
        values: the statistic of both, (N, B).
        w0: weights of the emulated tests, shape (N,).
        w1: weights of the reference tests.
    """
    centre, scale = emulated.theta.mean(0), emulated.theta.std(0)
    x0, x1 = (quadratic(d.theta, centre, scale) for d in (emulated, reference))
    law = _solve(x0, values[0], w0)
    r0, r1 = values[0] - x0 @ law, values[1] - x1 @ law
    bias = np.average(r1, axis=0, weights=w1)  # reference minus emulated, at equal theta
    joined = np.concatenate([x0, r0], axis=1)
    slope = _solve(joined, emulated.errors, w0)
    predicted = slope[x0.shape[1] :].T * bias
    change = np.average(reference.errors, axis=0, weights=w1) - np.average(
        emulated.errors, axis=0, weights=w0
    )
    alone = emulated.errors - x0 @ _solve(x0, emulated.errors, w0)
    left = emulated.errors - joined @ slope
    r2 = 1 - (w0 @ left**2) / np.maximum(w0 @ alone**2, 1e-300)
    return change, predicted, r2


def _solve(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    weighted = x * weights[:, None]
    square = weighted.T @ x
    square += 1e-9 * np.trace(square) / len(square) * np.eye(len(square))
    return np.linalg.solve(square, weighted.T @ y)


def _members(group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    order = rng.permutation(len(group))
    return np.sort(order[np.unique(group[order], return_index=True)[1]])
