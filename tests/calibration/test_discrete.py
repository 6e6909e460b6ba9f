"""Discrete posteriors: an exact test, and figures whose values are known."""

import numpy as np
import pytest
from scipy.stats import binom

from sbitools.calibration import discrete
from sbitools.calibration.check import Check
from sbitools.errors import ShapeError


def cases(n, k, seed):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(k), size=n)
    labels = (rng.random(n)[:, None] > np.cumsum(p, 1)[:, :-1]).sum(1)
    return p, labels


def sharpened(p, power):
    q = p**power
    return q / q.sum(1, keepdims=True)


def test_false_alarm_rate():
    p_values = [discrete(*cases(60, 3, i), seed=i).p_value for i in range(300)]
    for level in (0.05, 0.2):
        low, high = binom.ppf([5e-5, 1 - 5e-5], 300, level)  # left with probability 1e-4
        assert low <= (np.array(p_values) <= level).sum() <= high


@pytest.mark.parametrize(("power", "sign"), [(1.7, 1), (0.55, -1)])
def test_over_and_under_confidence(power, sign):
    p, labels = cases(800, 3, 1)
    check = discrete(sharpened(p, power), labels)
    assert check.passed is False
    assert check.p_value <= 0.002
    assert np.sign(check.effect) == sign
    assert not check.band[0] <= check.effect <= check.band[1]
    assert ("over" if sign > 0 else "under") in check.summary
    assert check.details["ece"] > 2 * check.details["ece_expected"]


def test_a_wrong_category_is_found_where_confidence_is_right():
    # Two categories exchanged in a quarter of the tests, where they are both improbable.
    p, labels = cases(2000, 4, 2)
    rows = (p[:, 0] < 0.2) & (p[:, 1] > 0.3)
    wrong = p.copy()
    wrong[rows] = wrong[rows][:, [1, 0, 2, 3]]
    assert discrete(wrong, labels).passed is False


def test_brier_score_and_its_parts():
    # Labels follow p exactly in each of four kinds of tests.
    p = np.repeat([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.1, 0.9]], 1000, axis=0)
    labels = np.concatenate([np.arange(1000) >= 1000 * q for q in (0.9, 0.6, 0.3, 0.1)])
    check = discrete(p, labels.astype(int))
    brier = check.details["brier"]
    assert brier["score"] == pytest.approx(2 * np.mean([0.09, 0.24, 0.21, 0.09]))
    assert brier["reliability"] == pytest.approx(0, abs=1e-12)
    parts = brier["reliability"] - brier["resolution"] + brier["uncertainty"]
    assert parts == pytest.approx(brier["score"])
    assert check.details["ece"] == pytest.approx(0, abs=1e-12)
    assert check.effect == pytest.approx(0, abs=1e-12)
    # Perfectly calibrated labels are, if anything, too regular.
    assert check.passed


def test_extreme_probabilities_and_files():
    p = np.array([[1.0, 0.0], [0.0, 1.0]] * 20)
    labels = np.array([0, 1] * 20)
    assert discrete(p, labels).passed
    check = discrete(p, 1 - labels)
    assert check.passed is False
    assert Check.from_dict(check.to_dict()) == check
    ax = check.plot(label="model")
    assert "probability" in ax.get_xlabel()
    ax.figure.canvas.draw()


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda p, y: (p[:5], y[:5]), "20 tests at least"), (lambda p, y: (2 * p, y), "sum 1"),
     (lambda p, y: (p[:, 0], y), "shapes"), (lambda p, y: (p, y + 1), "integers in 0..2"),
     (lambda p, y: (p, y.astype(float)), "integers"), (lambda p, y: (p * np.nan, y), "sum 1")],
)  # fmt: skip
def test_bad_input_is_named(change, message):
    with pytest.raises(ShapeError, match=message):
        discrete(*change(*cases(60, 3, 0)))
