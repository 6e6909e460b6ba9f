"""All measures of one set of maps against a reference."""

from __future__ import annotations

import json

import numpy as np
import pytest

from emulators.survey.maps.assessment import Reference, assess
from sbitools.errors import ShapeError
from sbitools.statistics import SampledTruth
from tests.emulators.survey.striped import blurred, covariance, stripes

SIZE = 24


@pytest.fixture(scope="module")
def reference():
    return Reference.of(stripes(6 * SIZE, 1), covariance(), SIZE)


def test_right_maps_are_within_the_floor(reference):
    found = assess(stripes(2 * SIZE, 2), reference)
    floors = reference.floors()
    assert len(floors) == 3
    # Three floors: the largest of them is exceeded, twice is not.
    assert found.pdf_fixed < 3 * max(f.pdf_fixed for f in floors)
    assert found.distances.minkowski_rms < 2 * max(f.distances.minkowski_rms for f in floors)
    for near in (*floors, found):
        assert abs(near.covariance.squared) < 5 * near.covariance.squared_error


def test_maps_that_are_too_wide_are_seen_where_they_should_be(reference):
    """Ten per cent: not in what is standardised by their own spread, but in the other two."""
    maps = stripes(2 * SIZE, 2)
    plain, wide = assess(maps, reference), assess(1.1 * maps, reference, 1.1 * stripes(1500, 3))
    assert wide.distances.pdf == pytest.approx(plain.distances.pdf, abs=1e-4)
    # E |z| is 0.8, a tenth of it is the distance of the two.
    assert wide.pdf_fixed == pytest.approx(0.08, abs=0.04)
    assert wide.pdf_fixed > 2 * plain.pdf_fixed
    assert abs(wide.covariance.squared - 0.21**2) < 5 * wide.covariance.squared_error
    assert wide.covariance.squared > 3 * wide.covariance.squared_error


def test_blurred_maps_are_seen(reference):
    found = assess(blurred(stripes(2 * SIZE, 2)), reference)
    floors = reference.floors()
    assert found.distances.minkowski_rms > 2 * max(f.distances.minkowski_rms for f in floors)
    assert found.distances.scattering > 3 * max(abs(f.distances.scattering) for f in floors)
    assert found.covariance.squared > 5 * found.covariance.squared_error


def test_a_sampled_truth_and_plain_values():
    truth = SampledTruth.of(stripes(300, 5))
    found = assess(stripes(2 * SIZE, 2), Reference.of(stripes(4 * SIZE, 1), truth, SIZE))
    assert abs(found.covariance.squared) < 5 * found.covariance.squared_error
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["covariance"] == found.covariance.error
    assert plain["minkowski_rms"] == pytest.approx(np.sqrt(np.mean(np.square(plain["minkowski"]))))


def test_too_few_maps_are_refused(reference):
    with pytest.raises(ShapeError, match="sets"):
        Reference.of(stripes(3 * SIZE, 1), covariance(), SIZE)
    with pytest.raises(ShapeError, match="sets"):
        assess(stripes(SIZE, 1), reference)
