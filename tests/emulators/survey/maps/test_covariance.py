"""Covariances of emulated maps: rivals, draws and chi squared against exact matrices."""

from __future__ import annotations

import numpy as np
import pytest

from emulators.survey.maps.covariance import (
    TAPER_WIDTHS,
    compressed_chi2,
    gaussian_maps,
    isotropic_maps,
    leading_modes,
    limit_error,
    matrix_error,
    rival_covariances,
    rival_errors,
    truth_matrix,
)
from sbitools.errors import ConfigError, ShapeError
from sbitools.statistics import (
    SampledTruth,
    angular_power,
    infinite_map_error,
    relative_error,
    sample_covariance,
)
from tests.emulators.survey.striped import NSIDE, covariance, shuffled, stripes


@pytest.fixture(scope="module")
def truths():
    """The same covariance, exactly and as 600 reference maps know it."""
    return {"exact": covariance(), "sampled": SampledTruth.of(stripes(600, 1))}


@pytest.mark.parametrize("kind", ["exact", "sampled"])
def test_errors_of_maps_that_are_right_and_wrong(truths, kind):
    """Five standard errors (6e-7); the jackknife's are too large, not too small, at zero."""
    maps, truth = stripes(300, 2), truths[kind]
    right = limit_error(maps, truth)
    assert abs(right.squared) < 5 * right.squared_error
    wide = limit_error(1.1 * maps, truth)  # the covariance is 21 % too large
    assert abs(wide.squared - 0.21**2) < 5 * wide.squared_error
    gone = limit_error(shuffled(maps, 3), truth)
    assert gone.error > 0.5
    assert gone.squared > 5 * gone.squared_error


def test_errors_of_matrices(truths):
    half = 0.5 * covariance()
    assert matrix_error(half, truths["exact"]) == pytest.approx(0.5)
    assert matrix_error(half, truths["sampled"]) == pytest.approx(0.5, abs=0.1)
    assert truth_matrix(truths["sampled"]).shape == truth_matrix(truths["exact"]).shape


def test_rivals_are_those_of_the_inputs_and_the_taper_is_the_best(truths):
    inputs = stripes(12, 4)
    found = rival_errors(inputs, truths["exact"])
    assert [name.split(",")[0] for name in found] == [
        "sample", "Ledoit-Wolf", "diagonal", "best taper",
    ]  # fmt: skip
    matrices = rival_covariances(inputs, truths["exact"])
    for name, matrix in matrices.items():
        assert found[name] == pytest.approx(relative_error(matrix, truths["exact"]), rel=1e-12)
    best = min(v for k, v in found.items() if "taper" in k)
    others = [
        rival_errors(inputs, truths["exact"], [width]) for width in (TAPER_WIDTHS[0], 0.3, 4.0)
    ]
    assert all(best <= v for other in others for k, v in other.items() if "taper" in k)
    # Against reference maps alone the same, within what 600 maps know.
    sampled = rival_errors(inputs, truths["sampled"])
    assert sampled["sample"] == pytest.approx(found["sample"], rel=0.2)


def test_gaussian_maps_have_the_mean_and_the_sample_covariance():
    """In 6 numbers: 40,000 draws, 5 standard errors; the covariance itself is exact."""
    maps = np.random.default_rng(1).standard_normal((9, 2, 3)) ** 3 + 2
    drawn = gaussian_maps(maps, 40_000, 2).astype(np.float64)
    assert drawn.shape == (40_000, 2, 3)
    error = drawn.std(0) / 200
    assert np.all(np.abs(drawn.mean(0) - maps.mean(0)) < 5.5 * error)
    limit = infinite_map_error(drawn, sample_covariance(maps))
    assert abs(limit.squared) < 5 * limit.squared_error
    kurtosis = ((drawn - drawn.mean(0)) ** 4).mean(0) / drawn.var(0) ** 2
    assert np.all(np.abs(kurtosis - 3) < 6 * (24 / 40_000) ** 0.5)
    assert np.array_equal(gaussian_maps(maps, 3, 2), gaussian_maps(maps, 3, 2))
    with pytest.raises(ShapeError, match="2 or more"):
        gaussian_maps(maps[:1], 3, 2)


def test_isotropic_maps_have_the_spectra():
    """Means of 400 maps up to 2 nside, where the quadrature is good: six standard errors + 2 %."""
    ell = np.arange(3 * NSIDE)
    ee, bb = 1.0 / (1.0 + ell), 0.2 + 0.0 * ell
    found = angular_power(isotropic_maps(ee, bb, NSIDE, 400, 1), ordering="nested")
    for name, expected in (("EE", ee), ("BB", bb)):
        for l in range(2, 2 * NSIDE):  # noqa: E741
            mean, error = found[name][:, l].mean(), found[name][:, l].std() / 20
            assert abs(mean - expected[l]) < 6 * error + 0.02 * expected[l], (name, l)


def test_leading_modes_are_those_of_the_whole_problem():
    matrix = covariance()
    values, vectors = np.linalg.eigh(matrix)
    basis = leading_modes(matrix, 12)
    assert np.allclose(basis.values, values[::-1][:12], rtol=1e-8)
    # Neighbouring eigenvalues may be close: it is the space that must agree.
    outside = basis.vectors[:, :3] - vectors[:, -14:] @ (vectors[:, -14:].T @ basis.vectors[:, :3])
    assert np.abs(outside).max() < 1e-6
    with pytest.raises(ConfigError, match="n_modes"):
        leading_modes(matrix, len(matrix))


def test_chi_squared_of_each_inverse():
    """400 maps, 8 modes: the mean of chi2 / 8 has the error sqrt(2 / 8 / 400) = 0.025."""
    maps, basis = stripes(400, 5), leading_modes(covariance(), 8)
    exact = compressed_chi2(maps, basis, covariance(), True)
    assert (exact.rank, exact.inverse) == (8, "exact")
    assert abs(exact.values.mean() - 1) < 5 * 0.025
    many = compressed_chi2(maps, basis, stripes(400, 6), False)
    assert many.inverse == "Hartlap"
    # Both sets scatter: 0.035 together.
    assert abs(many.values.mean() - 1) < 5 * 0.035
    few = compressed_chi2(maps, basis, stripes(6, 7), False)
    assert (few.rank, few.inverse) == (5, "pseudo-inverse")
    wide = compressed_chi2(1.2 * maps, basis, covariance(), True)
    assert wide.values.mean() == pytest.approx(1.44 * exact.values.mean())
    assert wide.values.mean() > 1 + 5 * 0.025
