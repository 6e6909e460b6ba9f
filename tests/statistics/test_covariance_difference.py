"""Errors of covariances where reference maps stand for the truth, against exact numbers."""

import numpy as np
import pytest

from sbitools.errors import ShapeError
from sbitools.statistics import (
    SampledTruth,
    infinite_map_difference,
    infinite_map_error,
    matrix_difference,
    sample_covariance,
)

from .test_sphere_covariance import draws, some_covariance


@pytest.mark.parametrize("d", [3, 20])  # more maps than numbers, and fewer
def test_the_square_is_that_of_the_error_against_a_zero_matrix(d):
    """|Sigma - 0|^2 / |1|^2 d of `infinite_map_error` is the same sum."""
    maps = draws(some_covariance(d), 9, 3, mean=2.0)
    truth = SampledTruth.of(maps)
    scale = 1e6 * np.eye(d)  # the term |Sigma|^2 is what is left after those linear in it
    product = np.trace(truth.matrix) * 1e6
    expected = infinite_map_error(maps, scale).squared * (scale**2).sum()
    rest = expected - (scale**2).sum() + 2 * product
    assert truth.square == pytest.approx(rest, abs=1e-3)
    assert np.allclose(truth.matrix, sample_covariance(maps), rtol=1e-12)


def test_groups_of_one_are_no_groups_and_a_truth_can_be_used_twice():
    maps, reference = draws(some_covariance(8), 12, 4), draws(some_covariance(8), 15, 5)
    truth = SampledTruth.of(reference)
    alone = infinite_map_difference(maps, reference)
    assert infinite_map_difference(maps, truth) == alone
    grouped = infinite_map_difference(np.repeat(maps, 2, axis=0), truth, np.arange(24) // 2)
    assert grouped.squared == pytest.approx(alone.squared, rel=1e-10)
    assert grouped.squared_error == pytest.approx(alone.squared_error, rel=1e-10)


@pytest.mark.parametrize("wrong", [0.3, 1.0])
def test_standard_errors_are_those_of_many_trials(wrong):
    """The median one of 300, within a factor of 2; so is the jackknife's own promise."""
    truth = some_covariance(6)
    other = truth + wrong * np.diag(np.diag(truth))
    limits, fixed = [], []
    for i in range(300):
        reference = SampledTruth.of(draws(truth, 60, 1000 + i, mean=1.0))
        limits.append(infinite_map_difference(draws(other, 40, 5000 + i), reference))
        fixed.append(matrix_difference(other, reference))
    for found in (limits, fixed):
        scatter = np.std([f.squared for f in found])
        assert 0.5 < np.median([f.squared_error for f in found]) / scatter < 2


def test_numerators_are_unbiased():
    """Without the division: 2,000 trials, 5 sigma of their own scatter (false alarm 6e-7)."""
    truth, other = some_covariance(5), some_covariance(5, seed=1)
    expected = ((other - truth) ** 2).sum()
    limits, fixed = [], []
    for i in range(2000):
        reference = SampledTruth.of(draws(truth, 7, i, mean=1.0))
        limit = infinite_map_difference(draws(other, 6, 9000 + i, mean=-2.0), reference)
        limits.append(limit.squared * reference.square)
        fixed.append(matrix_difference(other, reference).squared * reference.square)
    for values in (limits, fixed):
        assert abs(np.mean(values) - expected) < 5 * np.std(values) / 2000**0.5
    # What is biased: the plain difference of two sample covariances, by their noise.
    plain = [
        ((sample_covariance(draws(other, 6, 9000 + i)) - sample_covariance(draws(truth, 7, i)))
         ** 2).sum() for i in range(300)
    ]  # fmt: skip
    assert np.mean(plain) - expected > 5 * np.std(plain) / 300**0.5


def test_a_known_truth_and_endless_reference_maps_agree():
    """With 20,000 reference maps: to four of its standard errors, which are 0.01."""
    truth, other = some_covariance(10), some_covariance(10, seed=2)
    reference = SampledTruth.of(draws(truth, 20_000, 1))
    maps = draws(other, 30, 2)
    exact, sampled = infinite_map_error(maps, truth), infinite_map_difference(maps, reference)
    spread = (sampled.squared_error**2 - exact.squared_error**2) ** 0.5
    assert abs(exact.squared - sampled.squared) < max(6 * spread, 0.05 * exact.squared)


def test_maps_that_do_not_fit_are_refused():
    reference = draws(some_covariance(5), 10, 1)
    with pytest.raises(ShapeError, match="shape"):
        infinite_map_difference(draws(some_covariance(4), 10, 1), reference)
    with pytest.raises(ShapeError, match="shape"):
        matrix_difference(np.eye(4), reference)
    with pytest.raises(ShapeError, match="4 or more maps"):
        SampledTruth.of(reference[:3])
    with pytest.raises(ShapeError, match="above its noise"):
        SampledTruth.of(np.ones((6, 3)))
