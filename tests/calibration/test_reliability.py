"""Reliability curves: bands at the stated rate, and the power of the check that shows them."""

import numpy as np
import pytest
from scipy.stats import binom

from sbitools.calibration import discrete
from sbitools.calibration.checks.reliability import reliability_curve
from tests.calibration.test_discrete import cases, sharpened


def leaves(curve):
    inside = (curve["actual"] >= curve["lower"]) & (curve["actual"] <= curve["upper"])
    return not inside.all()


def test_whole_curves_leave_their_bands_at_most_at_the_stated_rate():
    rng = np.random.default_rng(1)
    p = rng.random(3000) ** 2
    left = sum(leaves(reliability_curve(p, rng.random(3000) < p, 10, 0.2)) for _ in range(300))
    # 200 tests a bin: counts are discrete, so a little below 0.2; outside once in 10^4 runs.
    low, high = binom.ppf(5e-5, 300, 0.13), binom.ppf(1 - 5e-5, 300, 0.2)
    assert low <= left <= high


def test_a_band_is_the_binomial_one_where_probabilities_are_equal():
    curve = reliability_curve(np.full(50, 0.3), np.zeros(50, bool), 5, 0.05)
    assert curve["tests"].tolist() == [50]
    assert curve["lower"][0] == binom.ppf(0.025, 50, 0.3) / 50
    assert curve["upper"][0] == binom.isf(0.025, 50, 0.3) / 50
    assert leaves(curve)


def test_certain_events_have_no_band():
    curve = reliability_curve(np.array([0.0] * 20 + [1.0] * 20), np.arange(40) >= 20, 2, 0.01)
    assert curve["lower"].tolist() == curve["upper"].tolist() == [0.0, 1.0]
    assert not leaves(curve)


def test_every_category_has_its_curve_and_wrong_ones_leave_their_bands():
    p, labels = cases(1500, 3, 1)
    right, wrong = discrete(p, labels), discrete(sharpened(p, 1.7), labels)
    assert [len(check.details["curves"]) for check in (right, wrong)] == [3, 3]
    assert not any(leaves(curve) for curve in right.details["curves"])
    assert all(leaves(curve) for curve in wrong.details["curves"])


@pytest.mark.parametrize(("power", "name"), [(1.25, "large"), (0.8, "small")])
def test_the_stated_power_is_the_rate_at_which_wrong_probabilities_fail(power, name):
    """Labels of p, probabilities with other log odds; 100 sets of tests of 400."""
    caught, stated = 0, []
    for i in range(100):
        p, labels = cases(400, 3, 100 + i)
        check = discrete(sharpened(p, power), labels, false_alarm=0.05, seed=i)
        caught += check.passed is False
        stated.append(check.details["power"][f"log odds 1.25 times too {name}"])
    # Errors of 0.05 of the rate, and 0.004 of the mean of what is stated: 4 of them.
    assert abs(caught / 100 - np.mean(stated)) < 0.2
    assert np.mean(stated) > 0.3


def test_odds_that_are_wrong_alike_everywhere_are_caught():
    """Log odds of the first category 0.4 too high."""
    p, labels = cases(1500, 3, 3)
    wrong = p * np.exp([0.4, 0.0, 0.0])
    check = discrete(wrong / wrong.sum(1, keepdims=True), labels)
    assert check.passed is False
    assert check.details["parameters"][0]["effect"] > 0.03


def test_power_grows_with_the_number_of_tests():
    few, many = (discrete(*cases(n, 3, 7)).details["power"] for n in (60, 3000))
    assert max(few.values()) < 0.3
    # The hardest are log odds 0.2 too high; bins alone would catch 0.5 of these.
    assert min(many.values()) > 0.7
