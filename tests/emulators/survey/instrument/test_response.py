"""The response matrix: equal to the time-ordered data, and its covariance to theirs."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

from emulators.survey.instrument.gains import GainModel
from emulators.survey.instrument.mapmaking import MapMaker
from emulators.survey.instrument.response import LinearResponse, ring_templates
from emulators.survey.instrument.scan import Scan
from emulators.survey.instrument.sky import sky_map
from sbitools.errors import ConfigError, ShapeError

TAIL = 1e-6  # false-alarm rate of a statistical test
SCAN = Scan(n_rings=96, samples=64)
MAKER = MapMaker(SCAN.pointing(4))
SKY = 1e6 * sky_map(4, 1)
RESPONSE = LinearResponse.build(MAKER, SKY)


def gains(n, model=GainModel(1e-3), maker=MAKER):  # noqa: B008  (frozen)
    shape = maker.tod_shape[:2]
    return np.stack([model.draw(i, *shape, SCAN.ring_interval) for i in range(n)])


@pytest.mark.parametrize("components", ["QU", "TQU", "T", "TU"])
@pytest.mark.parametrize("detectors", [(0.0, 90.0, 45.0, 135.0), (0.0, 50.0)])
@pytest.mark.parametrize("strategy", ["planck", "litebird"])
def test_response_is_the_map_of_the_time_ordered_data(components, detectors, strategy):
    scan = Scan(strategy, n_rings=96, samples=64)
    maker = MapMaker(scan.pointing(4, 70.0), detectors, max_condition=50.0)
    response = LinearResponse.build(maker, SKY, components)
    drawn = gains(3, maker=maker)
    found = response.maps(drawn)
    assert found.shape == (3, len(components), 192) == (3, *response.map_shape)
    tod, rows = maker.observe(SKY), ["TQU".index(c) for c in components]
    for gain, row in zip(drawn, found, strict=True):
        exact = maker.bin((1 + gain)[:, :, None] * tod) - maker.bin(tod)
        # The difference of two maps of 3362 uK loses six digits of sixteen.
        np.testing.assert_allclose(row, exact[rows], atol=1e-9)
    assert np.abs(found).max() > 0.1
    assert not found[:, :, ~maker.mask].any()


def test_maps_of_a_batch_have_the_bits_of_single_ones():
    drawn = gains(7)
    whole = RESPONSE.maps(drawn)
    for i in range(7):
        assert np.array_equal(RESPONSE.maps(drawn[i : i + 1])[0], whole[i])
    assert np.array_equal(RESPONSE.maps(drawn.reshape(7, -1)), whole)
    assert RESPONSE.maps(drawn[:0]).shape == (0, 2, 192)


@pytest.mark.parametrize("model", [GainModel(1e-3), GainModel(1e-3, correlation_time=20.0)])
def test_covariance_against_explicit_sums(model):
    matrix = model.covariance(96, SCAN.ring_interval)
    dense = RESPONSE.matrix.toarray().reshape(4, 96, -1)
    exact = np.einsum("drp,rs,dsq->pq", dense, matrix, dense, optimize=True)
    found = RESPONSE.covariance(matrix)
    np.testing.assert_allclose(found, exact, atol=1e-12 * exact.max())
    assert np.array_equal(found, found.T)
    np.testing.assert_allclose(RESPONSE.variance(matrix).ravel(), np.diag(exact), rtol=1e-10)
    if not model.correlation_time:
        np.testing.assert_allclose(RESPONSE.covariance(1e-6), exact, atol=1e-12 * exact.max())
        np.testing.assert_allclose(RESPONSE.variance(1e-6).ravel(), np.diag(exact), rtol=1e-10)


@pytest.mark.parametrize("time", [0.0, 10.0])
def test_simulated_maps_have_the_exact_variance(time):
    n, model = 1000, GainModel(1e-3, time)
    maps = RESPONSE.maps(gains(n, model))
    variance = RESPONSE.variance(model.covariance(96, SCAN.ring_interval))
    # n s^2 / sigma^2 of a Gaussian pixel is chi^2 with n degrees of freedom.
    chi2 = (maps**2).sum(axis=0) / variance
    lowest, highest = stats.chi2(n).ppf(TAIL / (2 * 384)), stats.chi2(n).isf(TAIL / (2 * 384))
    assert lowest < chi2.min() < chi2.max() < highest
    # Rings that were taken as independent, or correlated, would be seen.
    other = GainModel(1e-3, 10.0 - time).covariance(96, SCAN.ring_interval)
    wrong = (maps**2).sum(axis=0) / RESPONSE.variance(other)
    assert wrong.min() < lowest or wrong.max() > highest


def test_maps_are_white_in_the_exact_covariance():
    n = 200
    model = GainModel(1e-3, 5.0)
    covariance = RESPONSE.covariance(model.covariance(96, SCAN.ring_interval))
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-10 * values.max()  # two components of 192 pixels, 4 x 96 gains
    white = RESPONSE.maps(gains(n, model)).reshape(n, -1) @ vectors[:, kept]
    chi2 = (white**2 / values[kept]).sum()
    assert TAIL / 2 < stats.chi2(n * kept.sum()).cdf(chi2) < 1 - TAIL / 2
    assert stats.chi2(n * kept.sum()).cdf(1.05 * chi2) > 1 - TAIL / 2


def test_templates_know_the_scan_alone():
    templates = ring_templates(SCAN, 4)
    assert templates.shape == (4 * 96, 2 * 192)
    # All rings together make data of 1: intensity without polarisation.
    assert np.abs(templates.sum(axis=0)).max() < 1e-12
    uniform = np.stack([np.ones(192), np.zeros(192), np.zeros(192)])
    assert (templates != LinearResponse.build(MAKER, uniform).matrix).nnz == 0
    # Each ring touches only pixels that it crosses.
    for ring in (0, 50):
        touched = templates[[ring]].indices % 192
        assert set(touched) <= set(MAKER.pointing.pixels[ring])
    other = ring_templates(SCAN, 4, detectors=(0.0, 45.0), scan_angle=70.0)
    assert other.shape == (2 * 96, 2 * 192)


def test_smooth_sky_is_templates_times_what_the_ring_sees():
    # Where the sky hardly varies along a pixel crossing, B is K times the intensity there.
    dipole = SKY.copy()
    dipole[1:] = 0
    response = LinearResponse.build(MAKER, dipole)
    product = ring_templates(SCAN, 4).multiply(np.tile(dipole[0], 2))
    assert np.abs(response.matrix - product).max() < 1e-9


@pytest.mark.parametrize("components", ["", "UQ", "QQ", "EB"])
def test_wrong_components(components):
    with pytest.raises(ConfigError, match="components: expected letters of 'TQU' in this order"):
        LinearResponse.build(MAKER, SKY, components)


def test_wrong_shapes():
    with pytest.raises(
        ShapeError, match=r"gains: expected shape \(B, 4, 96\); got shape \(2, 4, 95"
    ):
        RESPONSE.maps(np.zeros((2, 4, 95)))
    with pytest.raises(
        ShapeError, match=r"ring_covariance: expected a symmetric matrix \(96, 96\)"
    ):
        RESPONSE.covariance(np.eye(95))
    with pytest.raises(ShapeError, match="ring_covariance: expected a symmetric matrix"):
        RESPONSE.variance(np.triu(np.ones((96, 96))))
    large = LinearResponse(sp.csr_array((4, 2 * 12 * 64**2)), 4)
    with pytest.raises(
        ShapeError, match=r"covariance: expected at most 8 GiB; .*fix: use variance"
    ):
        large.covariance(1.0)
