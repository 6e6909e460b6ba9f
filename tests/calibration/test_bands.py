"""The null distribution of rank ECDFs is exact: compared with complete enumeration."""

import itertools

import numpy as np
import pytest

from sbitools.calibration.statistics.bands import ecdf_test, simultaneous_band, stay_probability


def every_rank_set(n, n_draws):
    return [np.array(r) for r in itertools.product(range(n_draws + 1), repeat=n)]


@pytest.mark.parametrize(("n", "n_draws"), [(1, 3), (3, 4), (5, 3), (4, 1)])
def test_p_values_have_their_nominal_frequency_exactly(n, n_draws):
    p = np.array([ecdf_test(r, n_draws).p_value for r in every_rank_set(n, n_draws)])
    for value in np.unique(p.round(12)):
        # A p-value is exact if each value it takes is the frequency of that value or less.
        # 1e-9: rounding of a sum of at most 125 probabilities.
        assert np.mean(p <= value + 1e-9) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("false_alarm", [0.3, 0.1, 0.02])
def test_band_is_left_exactly_when_the_p_value_says_so(false_alarm):
    n, n_draws = 5, 3
    _, lower, upper = simultaneous_band(n, n_draws, false_alarm)
    outside = []
    for ranks in every_rank_set(n, n_draws):
        test = ecdf_test(ranks, n_draws)
        left = bool((test.ecdf < lower - 1e-12).any() or (test.ecdf > upper + 1e-12).any())
        assert left == (test.p_value <= false_alarm)
        outside.append(left)
    assert np.mean(outside) <= false_alarm


def test_stay_probability_against_enumeration_with_unequal_steps():
    z = np.array([0.2, 0.3, 0.9])
    lower, upper, n = np.array([0, 0, 2]), np.array([1, 2, 3]), 3
    mass = np.diff([0, *z, 1])
    expected = 0.0
    for cells in itertools.product(range(4), repeat=n):
        counts = [sum(c <= k for c in cells) for k in range(3)]
        if all(lower <= counts) and all(counts <= upper):
            expected += np.prod(mass[list(cells)])
    # 1e-12: a few float64 products.
    assert stay_probability(lower, upper, n, z) == pytest.approx(expected, abs=1e-12)


def test_empty_band_is_never_kept():
    z = np.array([0.3, 0.6])
    assert stay_probability(np.array([2, 3]), np.array([1, 3]), 3, z) == 0.0


@pytest.mark.parametrize("n_draws", [7, 1000, 5000])
def test_false_alarm_rate_at_any_number_of_draws(n_draws):
    rng = np.random.default_rng(n_draws)
    p = [ecdf_test(rng.integers(0, n_draws + 1, 100), n_draws).p_value for _ in range(400)]
    # Binomial(400, 0.05): 20 expected; 47 or more, or 2 or fewer, has probability 1e-6.
    assert 2 < np.sum(np.array(p) <= 0.05) < 47


def test_tiny_p_values_are_floored_and_finite():
    test = ecdf_test(np.zeros(1000, dtype=np.int64), 100)
    assert test.p_value == 1e-12
    assert test.deviation == pytest.approx(1 - 1 / 101)


def test_band_narrows_with_the_square_root_of_tests():
    widths = []
    for n in (100, 400, 1600):
        _, lower, upper = simultaneous_band(n, 99, 0.05)
        widths.append((upper - lower)[49])
    # 10 %: counts are whole numbers.
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.1)
    assert widths[1] / widths[2] == pytest.approx(2, rel=0.1)
