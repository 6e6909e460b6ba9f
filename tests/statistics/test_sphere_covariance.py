"""Covariance matrices of maps: estimators against known matrices, errors against exact sums."""

import itertools

import healpy
import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf as reference_ledoit_wolf

from sbitools.errors import ConfigError, ShapeError
from sbitools.statistics import (
    LimitError,
    cross_half_error,
    diagonal_covariance,
    effective_rank,
    eigenbasis,
    expected_sample_error,
    gaussian_taper,
    hartlap_factor,
    infinite_map_error,
    inverse_covariance,
    ledoit_wolf,
    projected_spectrum,
    reduced_chi2,
    relative_error,
    sample_covariance,
    scan_tapers,
    taper_covariance,
)


def some_covariance(d, seed=0):
    """A matrix with a wide range of eigenvalues and long correlations."""
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]
    return basis * 4.0 / np.arange(1, d + 1) @ basis.T


def draws(covariance, n, seed, mean=0.0):
    root = np.linalg.cholesky(covariance)
    return np.random.default_rng(seed).standard_normal((n, len(root))) @ root.T + mean


# The limit of endlessly many maps


def test_the_closed_form_is_the_mean_over_all_splits_in_halves():
    maps, truth = draws(some_covariance(5), 8, 1, mean=3.0), some_covariance(5, seed=1)
    squares = []
    for first in itertools.combinations(range(8), 4):
        second = [i for i in range(8) if i not in first]
        error = cross_half_error(maps[list(first)], maps[second], truth)
        squares.append(np.copysign(error**2, error))
    assert infinite_map_error(maps, truth).squared == pytest.approx(np.mean(squares), rel=1e-12)


@pytest.mark.parametrize("d", [3, 20])  # more maps than numbers, and fewer
def test_groups_stand_for_maps_and_are_never_paired_with_themselves(d):
    maps, truth = draws(some_covariance(d), 11, 2, mean=-1.0), some_covariance(d, seed=1)
    groups = np.array([4, 0, 0, 1, 1, 7, 7, 3, 3, 4, 4])
    names = np.unique(groups)
    outer = [np.mean([np.outer(m, m) for m in maps[groups == g]], 0) for g in names]
    mean = [maps[groups == g].mean(0) for g in names]
    products = [
        ((outer[a] - np.outer(mean[a], mean[c]) - truth)
         * (outer[b] - np.outer(mean[b], mean[e]) - truth)).sum()
        for a, b, c, e in itertools.permutations(range(len(names)), 4)
    ]  # fmt: skip
    wanted = np.mean(products) / (truth**2).sum()
    assert infinite_map_error(maps, truth, groups).squared == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("d", [3, 20])
def test_single_groups_in_any_order_are_no_groups(d):
    maps, truth = draws(some_covariance(d), 9, 3), some_covariance(d)
    plain = infinite_map_error(maps, truth)
    named = infinite_map_error(maps, truth, np.random.default_rng(1).permutation(9) * 10)
    assert named.squared == pytest.approx(plain.squared, rel=1e-12)
    assert named.squared_error == pytest.approx(plain.squared_error, rel=1e-12)
    shifted = infinite_map_error(maps + 5.0, truth)
    assert shifted.squared == pytest.approx(plain.squared, rel=1e-9)


@pytest.mark.parametrize("wrong", [False, True])
def test_the_error_of_the_process_is_found_under_that_of_the_sample(wrong):
    truth = some_covariance(40)
    process = truth + 0.1 * some_covariance(40, seed=5) if wrong else truth
    error = relative_error(process, truth)
    found = [infinite_map_error(draws(process, 60, seed), truth) for seed in range(100, 300)]
    squares = np.array([f.squared for f in found])
    scatter = squares.std(ddof=1)
    # 5.2 standard errors of 200 estimates: 5e-7 for Student's t with 199 degrees of freedom.
    assert abs(squares.mean() - error**2) < 5.2 * scatter / 200**0.5
    assert expected_sample_error(truth, 60) > 3 * error  # which is what it had to look through
    # The jackknife is up to sqrt(2) too large where the process is right, and right elsewhere;
    # the scatter itself is known to 5 %.
    stated = np.mean([f.squared_error for f in found])
    assert 0.75 < stated / scatter < 1.8


def test_dependent_maps_deceive_unless_they_are_grouped():
    truth = np.eye(30)
    own, shared = draws(truth, 200, 4), np.repeat(draws(truth, 40, 5), 5, axis=0)
    maps, groups = (own + 2 * shared) / 5**0.5, np.repeat(np.arange(40), 5)
    blind, right = infinite_map_error(maps, truth), infinite_map_error(maps, truth, groups)
    assert blind.squared > 6 * blind.squared_error  # 1e-9, and wrong
    assert abs(right.squared) < 5 * right.squared_error  # the jackknife's error is too large here


def test_what_the_result_says():
    low = LimitError(-0.04, 0.01)
    assert low.error == pytest.approx(-0.2)
    assert low.standard_error == pytest.approx(0.025)
    assert low.interval(2) == pytest.approx((-(0.06**0.5), -(0.02**0.5)))
    assert LimitError(0.0, 0.01).standard_error == pytest.approx(0.1)
    assert LimitError(0.0, 0.0).standard_error == 0.0


# Measures of a matrix


def test_relative_error_and_effective_rank():
    truth = some_covariance(6)
    assert relative_error(1.5 * truth, truth) == pytest.approx(0.5)
    assert effective_rank(np.eye(7)) == pytest.approx(7)
    assert effective_rank(np.outer([1, 2.0], [1, 2.0])) == pytest.approx(1)


@pytest.mark.parametrize("known_mean", [False, True])
def test_expected_error_of_a_sample_covariance(known_mean):
    truth = some_covariance(20)
    squares = []
    for seed in range(400):
        maps = draws(truth, 12, seed)
        sample = maps.T @ maps / 12 if known_mean else sample_covariance(maps)
        squares.append(relative_error(sample, truth) ** 2)
    error = np.std(squares) / 400**0.5
    expected = expected_sample_error(truth, 12, known_mean=known_mean) ** 2
    # Means of 400 skew numbers: 6 standard errors.
    assert abs(np.mean(squares) - expected) < 6 * error
    assert 6 * error < 0.3 * expected
    with pytest.raises(ConfigError, match="2 or more"):
        expected_sample_error(truth, 1)


# Estimators


@pytest.mark.parametrize(("n", "d"), [(5, 30), (60, 8), (200, 30)])
def test_ledoit_wolf_is_that_of_scikit_learn(n, d):
    maps = draws(some_covariance(d), n, 6, mean=2.0)
    ours, intensity = ledoit_wolf(maps.reshape(n, 2, -1))
    theirs, shrinkage = reference_ledoit_wolf(maps)
    assert intensity == pytest.approx(shrinkage, rel=1e-10)
    assert np.allclose(ours, theirs, rtol=1e-10, atol=1e-14)
    assert 0 < intensity < 1


def test_sample_and_diagonal():
    maps = draws(some_covariance(4), 9, 7, mean=1.0)
    assert np.allclose(sample_covariance(maps), np.cov(maps.T))
    assert np.allclose(diagonal_covariance(maps), np.diag(np.diag(np.cov(maps.T))))
    assert ledoit_wolf(np.ones((3, 4)))[0] == pytest.approx(np.zeros((4, 4)))


@pytest.mark.parametrize("ordering", ["ring", "nested"])
def test_taper(ordering):
    taper = gaussian_taper(2, 0.5, ordering=ordering)
    where = np.array(healpy.pix2vec(2, np.arange(48), nest=ordering == "nested")).T
    angle = healpy.rotator.angdist(where[3], where[40])[0]
    assert taper[3, 40] == pytest.approx(np.exp(-(angle**2) / 0.5))
    assert np.allclose(np.diag(taper), 1)
    assert np.array_equal(taper, taper.T)
    full = some_covariance(96)
    tapered = taper_covariance(full, taper)
    for rows, columns in itertools.product((slice(48), slice(48, 96)), repeat=2):
        assert np.array_equal(tapered[rows, columns], full[rows, columns] * taper)


def test_the_scan_finds_the_width_with_and_without_the_truth():
    taper = gaussian_taper(2, 0.5, ordering="nested")
    smooth = taper_covariance(np.kron([[2, 0.5], [0.5, 1]], np.ones((48, 48))), taper)
    truth = smooth + 0.1 * np.eye(96)
    widths = [0.1, 0.5, 1.0, 3.0]
    first, other = (sample_covariance(draws(truth, 40, seed)) for seed in (8, 9))
    errors = scan_tapers(first, truth, widths, 2, ordering="nested")
    by_hand = relative_error(
        taper_covariance(first, gaussian_taper(2, 1.0, ordering="nested")), truth
    )
    assert errors[2] == pytest.approx(by_hand)
    assert errors.min() < 0.9 * relative_error(first, truth)
    assert (
        np.argmin(errors)
        == np.argmin(scan_tapers(first, other, widths, 2, ordering="nested"))
        in (1, 2)
    )


# Inverses


def test_the_inverse_is_unbiased_with_the_factor_of_hartlap():
    n, d, truth = 20, 6, some_covariance(6)
    root = np.linalg.cholesky(truth)
    inverses = np.array(
        [inverse_covariance(sample_covariance(draws(truth, n, s)), n) for s in range(3000)]
    )
    whitened = root.T @ inverses @ root  # the mean of this is the identity
    error = whitened.std(0, ddof=1) / 3000**0.5
    # 36 numbers within 6 standard errors: 7e-8 for Gaussian means.
    assert (np.abs(whitened.mean(0) - np.eye(d)) < 6 * error).all()
    factor = hartlap_factor(n, d)
    assert factor == pytest.approx(12 / 19)
    assert (np.abs(np.diag(whitened.mean(0) / factor) - 1) > 6 * np.diag(error)).all()


def test_hartlap_is_refused_where_it_does_not_hold():
    assert hartlap_factor(13, 10) == pytest.approx(1 / 12)
    for n in (12, 10, 3):
        with pytest.raises(ConfigError, match="more than d"):
            hartlap_factor(n, 10)
    with pytest.raises(ConfigError, match="more than d"):
        inverse_covariance(np.eye(10), 8)
    with pytest.raises(ShapeError, match="singular"):
        inverse_covariance(np.zeros((2, 2)))
    assert np.allclose(inverse_covariance(4 * np.eye(2)), np.eye(2) / 4)


def test_reduced_chi2():
    truth = some_covariance(30)
    maps = draws(truth, 400, 10, mean=1.0)
    chi2 = reduced_chi2(maps.reshape(400, 2, 15), eigenbasis(truth), mean=np.ones((2, 15)))
    exact = np.einsum("ij,jk,ik->i", maps - 1, np.linalg.inv(truth), maps - 1) / 30
    assert np.allclose(chi2, exact)
    # Mean 1 and variance 2 / rank: 5 standard errors, 6e-7.
    assert abs(chi2.mean() - 1) < 5 * (2 / 30 / 400) ** 0.5


def test_the_rank_has_a_stated_tolerance():
    basis = np.linalg.qr(np.random.default_rng(1).standard_normal((12, 12)))[0]
    values = np.array([9.0, 4.0, 1.0, *[1e-6] * 3, *[0.0] * 6])
    singular = basis * values @ basis.T
    assert len(eigenbasis(singular).values) == 6
    kept = eigenbasis(singular, tolerance=1e-4)
    assert kept.values == pytest.approx([9, 4, 1])
    inside = np.random.default_rng(2).standard_normal((5, 3)) * [3, 2, 1] @ basis[:, :3].T
    outside = inside + 7 * basis[:, 11]
    assert np.allclose(reduced_chi2(inside, kept), reduced_chi2(outside, kept))
    assert projected_spectrum(2 * singular, kept) == pytest.approx([18, 8, 2])
    assert projected_spectrum(np.eye(12), kept) == pytest.approx([1, 1, 1])
    with pytest.raises(ShapeError, match="eigenvalue"):
        eigenbasis(np.zeros((3, 3)))


# What is refused


@pytest.mark.parametrize("value", [np.nan, np.inf, healpy.UNSEEN])
def test_maps_that_are_no_numbers(value):
    maps = np.ones((5, 4))
    maps[2, 1] = value
    for function in (sample_covariance, diagonal_covariance, ledoit_wolf):
        with pytest.raises(ShapeError, match="1 of 20"):
            function(maps)
    with pytest.raises(ShapeError, match="1 of 20"):
        infinite_map_error(maps, np.eye(4))
    with pytest.raises(ShapeError, match="truth"):
        infinite_map_error(np.ones((5, 4)), np.full((4, 4), value))


def test_wrong_shapes():
    for maps in (np.ones(5), np.ones((1, 5)), np.ones((3, 4), complex)):
        with pytest.raises(ShapeError, match="maps"):
            sample_covariance(maps)
    for truth in (np.eye(5), np.ones((4, 5)), np.ones(4)):
        with pytest.raises(ShapeError):
            infinite_map_error(np.ones((6, 4)), truth)
    with pytest.raises(ShapeError, match="4 or more"):
        infinite_map_error(np.ones((3, 4)), np.eye(4))
    for groups in (np.zeros(6), np.arange(5), [0, 0, 1, 1, 2, 2]):
        with pytest.raises(ShapeError, match="4 or more"):
            infinite_map_error(np.ones((6, 4)), np.eye(4), groups)
    with pytest.raises(ShapeError, match="as the truth"):
        relative_error(np.eye(3), np.eye(4))
    with pytest.raises(ShapeError, match="as the truth"):
        cross_half_error(np.ones((3, 3)), np.ones((3, 3)), np.eye(4))
    with pytest.raises(ShapeError, match="pixels of the taper"):
        taper_covariance(np.eye(50), np.ones((48, 48)))
    with pytest.raises(ShapeError, match="as the basis"):
        reduced_chi2(np.ones((2, 5)), eigenbasis(np.eye(4)))


def test_wrong_options():
    with pytest.raises(ConfigError, match="power of two"):
        gaussian_taper(3, 0.1, ordering="ring")
    with pytest.raises(ConfigError, match="'ring' or 'nested'"):
        gaussian_taper(2, 0.1, ordering="NEST")
    for width in (0.0, -1.0, np.nan):
        with pytest.raises(ConfigError, match="radian"):
            gaussian_taper(2, width, ordering="ring")
