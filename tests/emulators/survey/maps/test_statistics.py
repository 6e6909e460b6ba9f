"""Distances between sets of maps: none where there is none, and seen where there is one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from emulators.survey.maps.covariance import gaussian_maps
from emulators.survey.maps.statistics import (
    PDF_EDGES,
    THRESHOLDS,
    distances,
    measure,
    noise_floors,
    split_sets,
    standardise,
    values_distance,
)
from sbitools.errors import ShapeError
from tests.emulators.survey.striped import blurred, shuffled, stripes

SIZE = 24


def measured(maps):
    return [measure(part) for part in split_sets(maps, SIZE)]


@pytest.fixture(scope="module")
def reference():
    return measured(stripes(6 * SIZE, 1))


@pytest.fixture(scope="module")
def tailed():
    return measured(stripes(8 * SIZE, 3, tails=True))


def minkowski_noise(n, m):
    """Rms of the difference of two means over n and m maps, in units of the scatter of one."""
    return (1 / n + 1 / m) ** 0.5


def test_the_reference_is_at_no_distance_from_itself(reference):
    """Limits are twice the noise of what is an rms of 150 numbers, with a far smaller scatter."""
    found = distances(measured(stripes(2 * SIZE, 2)), reference)
    assert found.minkowski_rms < 2 * minkowski_noise(2 * SIZE, 6 * SIZE)
    assert abs(found.scattering) < minkowski_noise(SIZE, 3 * SIZE)
    assert abs(found.excess) < 5 * found.excess_error
    assert 0.8 < found.spread < 1.25
    assert found.pdf < 0.02
    for floor in noise_floors(reference):
        assert floor.minkowski_rms < 2 * minkowski_noise(2 * SIZE, 4 * SIZE)
        assert found.pdf < 10 * floor.pdf


@pytest.mark.parametrize("wrong", ["blurred", "shuffled"])
def test_wrong_shapes_are_seen(reference, wrong):
    maps = stripes(2 * SIZE, 2)
    maps = blurred(maps) if wrong == "blurred" else shuffled(maps, 5)
    found = distances(measured(maps), reference)
    assert found.minkowski_rms > 2 * minkowski_noise(2 * SIZE, 6 * SIZE)
    assert found.scattering > minkowski_noise(SIZE, 3 * SIZE)


def test_a_gaussian_is_told_from_heavy_tails_of_the_same_covariance(tailed):
    gaussian = gaussian_maps(stripes(800, 4, tails=True), 2 * SIZE, 6)
    found, same = (
        distances(measured(maps), tailed) for maps in (gaussian, stripes(2 * SIZE, 7, tails=True))
    )
    assert found.pdf > 2 * max(floor.pdf for floor in noise_floors(tailed))
    assert found.excess < -3 * found.excess_error
    assert abs(same.excess) < 5 * same.excess_error
    assert same.pdf < found.pdf / 2
    assert found.spread < 0.8 < same.spread


def test_the_scattering_distance_has_no_bias_by_noise(reference):
    """Its square is positive and negative; a plain one would be the noise, 2 / SIZE and more."""
    squares = [np.sign(f.scattering) * f.scattering**2 for f in noise_floors(reference, 2)]
    assert min(squares) < 0 or max(squares) < 0.3 / SIZE
    assert abs(np.mean(squares)) < 0.5 / SIZE


def test_pixels_are_standardised_by_their_own_or_by_given_numbers():
    maps = stripes(30, 8) + 3.0
    maps[:, :, 5] = 0.0  # never seen
    z = standardise(maps)
    seen = np.arange(192) != 5
    # float32 of maps that vary by a thousandth of their mean
    assert np.abs(z.mean(0)).max() < 1e-2
    assert np.abs(z.std(0)[:, seen] - 1).max() < 1e-2
    assert np.all(z[:, :, 5] == 0)
    again = standardise(2 * maps, maps.mean(0), maps.std(0))
    assert np.allclose(again[..., seen].std(0), 2.0, rtol=1e-2)


def test_the_distance_of_pixels_is_that_of_scipy():
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((20, 2, 192)), 1.2 * rng.standard_normal((20, 2, 192)) + 0.3
    expected = wasserstein_distance(a.ravel(), b.ravel())
    step = PDF_EDGES[1] - PDF_EDGES[0]
    assert abs(values_distance(a, b) - expected) < step / 2


def test_shapes_of_what_is_measured():
    found = measure(stripes(5, 1))
    assert found.values.sum() == pytest.approx(1)
    assert found.fourth.shape == (5,)
    assert found.minkowski.shape == (5, 3, 2, len(THRESHOLDS))
    # V0 of a map goes from 1 to 0; of Q and U alike
    assert np.all(np.diff(found.minkowski[:, 0], axis=-1) <= 0)
    assert len(found.scattering) == 5


def test_maps_and_sets_that_do_not_fit_are_refused(reference):
    with pytest.raises(ShapeError, match="Q and U"):
        measure(np.zeros((4, 192)))
    with pytest.raises(ShapeError, match="at least 2"):
        measure(stripes(1, 1))
    broken = stripes(4, 1)
    broken[0, 0, 0] = np.nan
    with pytest.raises(ShapeError, match="NaN"):
        measure(broken)
    with pytest.raises(ShapeError, match="sets"):
        split_sets(stripes(5, 1), 3)
    with pytest.raises(ShapeError, match="of one size"):
        distances(reference[:1], reference)
    with pytest.raises(ShapeError, match="of one size"):
        distances([measure(stripes(4, 1))] * 2, reference)
