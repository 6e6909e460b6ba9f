"""Calibration of discrete posteriors: probabilities of categories against what was true.

Among all tests to which a posterior gave a category the probability p, the share p must be of that
category. Under this null hypothesis the true labels are draws from the stated probabilities, so
any statistic has an exact null: draw labels again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sbitools.calibration.check import Check
from sbitools.errors import ShapeError
from sbitools.seeds import derive

from .gate import checked
from .reliability import equal_bins, reliability_curve

__all__ = ["discrete"]

_LABELS, _WRONG = 51, 52
_RESAMPLES = 999
_REPEATS = 200  # sets of labels for a power, whose error is at most 0.035

# Wrong probabilities that the power is stated against: log odds that are so many times those of
# the truth, and log odds of the first category that are too high by so much.
_ALTERNATIVES = {
    "log odds 1.25 times too large": (1.25, 0.0),
    "log odds 1.25 times too small": (0.8, 0.0),
    "log odds of the first category 0.2 too high": (1.0, 0.2),
}
_MIN_TESTS = 20
_TOLERANCE = 1e-4
_TINY = 1e-12


@checked
def discrete(
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    names: Sequence[str] = (),
    bins: int = 15,
    false_alarm: float = 0.01,
    seed: int = 0,
) -> Check:
    r"""Calibration of a categorical posterior: test, ECE, Brier score, reliability diagram.

    Three statistics are compared with their values for labels drawn from the probabilities: the
    :math:`\chi^2` of the numbers of tests of each category in bins of its probability, which sees
    any shape of miscalibration; the deviation of the Brier score from its expectation
    (Spiegelhalter's z), which sees over- and under-confidence best; and the :math:`\chi^2` of the
    numbers of tests of each category, which sees wrong odds that are the same everywhere. The
    p-value is that of the most extreme in the joint null of all, exact at any number of tests.

    ECE: mean over tests of the difference between the most probable category's probability and
    the share of hits, in bins of equal numbers of tests. Brier score: mean squared distance of
    probabilities to the truth, split into reliability (0 is calibrated), resolution (what is
    learnt) and uncertainty (of the labels themselves).

    Effect: mean confidence minus share of hits: above zero, over-confident. Band: where it lies
    for a calibrated posterior with probability 1 - `false_alarm`. Reliability curves, of the most
    probable category and of each one, have bands that hold a whole curve with that probability
    (all curves of the categories together). ``details["power"]``: how probably the check would
    catch probabilities that are wrong by a stated amount, with these tests.

    Args:
        probabilities: of K categories in N tests, shape (N, K), rows of sum 1.
        labels: the true category of each, integers in 0..K-1, shape (N,).
        names: of the categories.
        bins: of the reliability diagram and of the test.
        false_alarm: of the check.
        seed: of labels drawn again.

    Raises:
        ShapeError: for other shapes, values that are no probabilities, or fewer than 20 tests.

    References:
        | Probabilistic prediction in patient management and clinical trials (Spiegelhalter 1986)
        | A new vector partition of the probability score (Murphy 1973)
        | Evaluating model calibration in classification
          (Vaicenavicius et al. 2019, arXiv:1902.06977), section 5 (resampled labels)
    """
    p, truth = _checked(probabilities, labels)
    n, k = p.shape
    cells = [equal_bins(p[:, j], bins) for j in range(k)]
    drawn = _draw(p, _RESAMPLES, np.random.default_rng(derive(seed, _LABELS)))
    everything = np.concatenate([truth[None], drawn])
    statistics = _statistics(p, everything, cells, bins)
    p_value = _joint_p(statistics)
    top = p.max(1)
    hits = everything == p.argmax(1)
    excess = top.mean() - hits.mean(1)
    low, high = np.quantile(excess[1:], (false_alarm / 2, 1 - false_alarm / 2))
    ece = np.array([_ece(top, row, bins) for row in hits[:200]])
    scores = np.log(np.maximum(p, _TINY))
    passed = p_value >= false_alarm
    word = "as it should" if passed else ("over-confident" if excess[0] > 0 else "under-confident")
    return Check(
        name="discrete", kind="reliability", statistic=float(statistics[0, 0]),
        p_value=p_value, effect=float(excess[0]), band=(float(low), float(high)), passed=passed,
        false_alarm=false_alarm,
        summary=f"the most probable category is true in {100 * hits[0].mean():.1f} % of tests, "
        f"{100 * top.mean():.1f} % stated ({word}); ECE {ece[0]:.3f}",
        details={
            "ece": float(ece[0]), "ece_expected": float(ece[1:].mean()), "n_tests": n,
            "brier": _brier(p, truth, bins), "accuracy": float(hits[0].mean()),
            "log_score": float(scores[np.arange(n), truth].mean()),
            "log_score_expected": float((p * scores).sum(1).mean()),
            "spiegelhalter_z": float(statistics[1, 0]),
            "reliability": reliability_curve(top, hits[0], bins, false_alarm),
            "curves": _curves(p, truth, bins, false_alarm),
            "power": _power(p, statistics[:, 1:], cells, bins, false_alarm, seed),
            "parameters": [_category(p, truth, j, names) for j in range(k)],
            "names": [_name(j, names) for j in range(k)],
        },
    )  # fmt: skip


def _checked(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if p.ndim != 2 or p.shape[1] < 2 or truth.shape != p.shape[:1]:
        raise ShapeError(
            "probabilities, labels", expected="shapes (tests, categories) and (tests,)",
            got=f"{p.shape} and {truth.shape}", fix="one row of at least two categories per test",
        )  # fmt: skip
    if len(p) < _MIN_TESTS:
        raise ShapeError(
            "probabilities", expected=f"{_MIN_TESTS} tests at least", got=f"{len(p)}",
            fix="a calibration error of 0.1 needs some 200 tests to be seen with 80 % power",
        )  # fmt: skip
    if not np.isfinite(p).all() or (p < 0).any() or (abs(p.sum(1) - 1) > _TOLERANCE).any():
        raise ShapeError(
            "probabilities", expected="rows of probabilities with sum 1",
            got="values below 0, not finite, or rows with another sum", fix="use a softmax",
        )  # fmt: skip
    if truth.dtype.kind not in "iu" or (truth < 0).any() or (truth >= p.shape[1]).any():
        raise ShapeError(
            "labels", expected=f"integers in 0..{p.shape[1] - 1}", got=f"dtype {truth.dtype}, "
            f"values {np.unique(truth)[:5]}", fix="number the categories as the columns",
        )  # fmt: skip
    return p / p.sum(1, keepdims=True), truth.astype(np.int64)


def _draw(p: np.ndarray, repeats: int, rng: np.random.Generator) -> np.ndarray:
    """Labels drawn from the probabilities, (repeats, n)."""
    edges = np.cumsum(p, axis=1)[:, :-1]
    labels = np.zeros((repeats, len(p)), dtype=np.int64)
    u = rng.random((repeats, len(p)))
    for edge in edges.T:
        labels += u > edge
    return labels


def _statistics(
    p: np.ndarray, labels: np.ndarray, cells: Sequence[np.ndarray], bins: int
) -> np.ndarray:
    """All that are compared, (3, rows of labels)."""
    one = [np.zeros(len(p), dtype=np.int64)] * p.shape[1]
    return np.stack([
        _chi2(p, labels, cells, bins), _spiegelhalter(p, labels), _chi2(p, labels, one, 1)
    ])  # fmt: skip


def _chi2(p: np.ndarray, labels: np.ndarray, cells: Sequence[np.ndarray], bins: int) -> np.ndarray:
    """Sum over categories and bins of (observed - expected)^2 / variance, for rows of labels."""
    total = np.zeros(len(labels))
    for j, cell in enumerate(cells):
        size = int(cell.max()) + 1
        member = (cell[:, None] == np.arange(size)).astype(np.float64)  # (n, bins)
        expected, variance = p[:, j] @ member, (p[:, j] * (1 - p[:, j])) @ member
        observed = (labels == j).astype(np.float64) @ member
        total += ((observed - expected) ** 2 / np.maximum(variance, _TINY)).sum(1)
    return total


def _spiegelhalter(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Brier score less its expectation, in its own standard deviations, for rows of labels."""
    n = np.arange(len(p))
    score = -2 * p[n, labels].sum(1)  # the rest of the Brier score does not depend on labels
    mean = -2 * (p**2).sum()
    variance = 4 * ((p**3).sum(1) - (p**2).sum(1) ** 2).sum()
    return (score - mean) / np.sqrt(max(variance, _TINY))


def _joint_p(statistics: np.ndarray) -> float:
    """p-value of the more extreme statistic of row 0; each row of columns is one repeat.

    The rank of each repeat among all, itself included, is what makes the null exact.
    """
    extreme = np.abs(statistics)
    ordered = np.sort(extreme, axis=1)
    above = np.stack([
        extreme.shape[1] - np.searchsorted(o, e, side="left")
        for o, e in zip(ordered, extreme, strict=True)
    ])  # fmt: skip
    smallest = above.min(0)
    return float((smallest <= smallest[0]).mean())


def _ece(top: np.ndarray, hit: np.ndarray, bins: int) -> float:
    cell = equal_bins(top, bins)
    size = int(cell.max()) + 1
    difference = np.bincount(cell, weights=top - hit, minlength=size)
    return float(np.abs(difference).sum() / len(top))


def _brier(p: np.ndarray, truth: np.ndarray, bins: int) -> dict[str, float]:
    """Score and Murphy's parts, summed over categories, of binned probabilities."""
    one_hot = (truth[:, None] == np.arange(p.shape[1])).astype(np.float64)
    base = one_hot.mean(0)
    reliability = resolution = 0.0
    for j in range(p.shape[1]):
        cell = equal_bins(p[:, j], bins)
        size = np.bincount(cell)
        filled = size > 0
        stated, seen = (
            np.bincount(cell, weights=v)[filled] / size[filled] for v in (p[:, j], one_hot[:, j])
        )
        share = size[filled] / len(p)
        reliability += float(share @ (stated - seen) ** 2)
        resolution += float(share @ (seen - base[j]) ** 2)
    return {
        "score": float(((p - one_hot) ** 2).sum(1).mean()), "reliability": reliability,
        "resolution": resolution, "uncertainty": float((base * (1 - base)).sum()),
    }  # fmt: skip


def _curves(
    p: np.ndarray, truth: np.ndarray, bins: int, false_alarm: float
) -> list[dict[str, Any]]:
    """Reliability of each category; of two categories, either says what the other does."""
    k = p.shape[1]
    level = false_alarm / (k if k > 2 else 1)
    return [reliability_curve(p[:, j], truth == j, bins, level) for j in range(k)]


def _power(
    p: np.ndarray, null: np.ndarray, cells: Sequence[np.ndarray], bins: int, false_alarm: float,
    seed: int,
) -> dict[str, float]:  # fmt: skip
    """Share of sets of labels that fail if p is wrong as said; `null` (statistics, repeats)."""
    extreme = np.sort(np.abs(null), axis=1)
    n = extreme.shape[1]

    def smallest(statistics: np.ndarray) -> np.ndarray:
        places = [np.searchsorted(e, np.abs(s), side="left")
                  for e, s in zip(extreme, statistics, strict=True)]  # fmt: skip
        return n - np.max(places, axis=0)

    least, found = np.sort(smallest(null)), {}
    for i, (name, (scale, shift)) in enumerate(_ALTERNATIVES.items()):
        logits = np.log(np.maximum(p, _TINY)) / scale
        logits[:, 0] -= shift
        right = np.exp(logits - logits.max(1, keepdims=True))
        rng = np.random.default_rng(derive(seed, _WRONG, i))
        labels = _draw(right / right.sum(1, keepdims=True), _REPEATS, rng)
        # One more than those of the null: the set itself is one of the repeats.
        own = smallest(_statistics(p, labels, cells, bins)) + 1
        p_values = (np.searchsorted(least + 1, own, side="right") + 1) / (n + 1)
        found[name] = float((p_values < false_alarm).mean())
    return found


def _name(j: int, names: Sequence[str]) -> str:
    return names[j] if j < len(names) else str(j)


def _category(p: np.ndarray, truth: np.ndarray, j: int, names: Sequence[str]) -> dict[str, Any]:
    """Stated and actual frequency of one category, and their difference in its errors."""
    hit = truth == j
    error = float(np.sqrt((p[:, j] * (1 - p[:, j])).sum())) / len(p)
    difference = float(p[:, j].mean() - hit.mean())
    return {
        "name": _name(j, names), "stated": float(p[:, j].mean()), "actual": float(hit.mean()),
        "effect": difference, "z": difference / max(error, _TINY),
    }  # fmt: skip
