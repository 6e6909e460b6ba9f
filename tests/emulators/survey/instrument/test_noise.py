"""Noise: its level and spectrum, and that it is one stream through all rings."""

import numpy as np
import pytest
from scipy import stats

from emulators.survey.instrument.noise import NoiseModel
from emulators.survey.instrument.scan import Scan
from sbitools.errors import ConfigError

TAIL = 1e-6  # false-alarm rate of a statistical test
SCAN = Scan(n_rings=60, samples=64)


def powers(model, scan, n, seed=1):
    """|modes|^2 / n P of a draw, without mode 0 and, of an even number, the last: (n, modes)."""
    stream = model.draw(seed, scan, n).reshape(n, -1).astype(float)
    frequency = np.fft.rfftfreq(stream.shape[1], scan.sample_interval) * 1e3  # mHz
    modes = np.abs(np.fft.rfft(stream)) ** 2 / stream.shape[1]
    inner = slice(1, (stream.shape[1] + 1) // 2)
    return modes[:, inner], frequency[inner]


@pytest.mark.parametrize("scan", [SCAN, Scan("litebird", n_rings=61, samples=63)])
@pytest.mark.parametrize("alpha", [1.0, 1.7])
def test_spectrum_is_the_formula(scan, alpha):
    model = NoiseModel(net=50.0, knee=30.0, alpha=alpha)
    modes, frequency = powers(model, scan, 10)
    sigma = 50.0 / np.sqrt(scan.sample_interval * scan.circles)
    exact = sigma**2 * (1 + (30.0 / frequency) ** alpha)
    np.testing.assert_allclose(model.spectrum(frequency, scan), exact)
    # A mode of Gaussian noise has exponential power; the slow and the fast third by themselves.
    third = len(frequency) // 3
    for part in (slice(0, third), slice(-third, None)):
        ratio = (modes / exact)[:, part].ravel()
        assert stats.kstest(ratio, "expon").pvalue > TAIL
        assert stats.kstest(ratio / 0.8, "expon").pvalue < TAIL


def test_white_level():
    # Planck: 1027.27 circles of 60 s in a ring, 256 samples: 240.77 s each.
    scan, model = Scan(), NoiseModel(net=50.0)
    assert model.sigma(scan) == pytest.approx(50 / np.sqrt(240.765), rel=1e-5)
    draw = model.draw(1, scan, 2).astype(float) / model.sigma(scan)
    chi2 = (draw**2).sum()
    assert TAIL / 2 < stats.chi2(draw.size - 2).cdf(chi2) < 1 - TAIL / 2
    assert stats.chi2(draw.size - 2).cdf(1.03 * chi2) > 1 - TAIL / 2


def test_more_circles_less_noise():
    short, long = Scan(n_rings=100, samples=64), Scan(n_rings=100, samples=64, years=4.0)
    model = NoiseModel(net=50.0)
    assert model.sigma(short) == pytest.approx(2 * model.sigma(long))


@pytest.mark.parametrize("samples", [64, 63])
def test_streams_have_no_mean(samples):
    draw = NoiseModel(50.0, 30.0).draw(3, Scan(n_rings=61, samples=samples), 3)
    assert draw.shape == (3, 61, samples)
    assert draw.dtype == np.float32
    assert np.abs(draw.mean(axis=(1, 2), dtype=float)).max() < 1e-5 * draw.std()


def test_rings_follow_each_other():
    # Across the end of a ring samples correlate as neighbours do anywhere in the stream.
    model = NoiseModel(net=50.0, knee=200.0, alpha=1.5)
    n = SCAN.n_rings * SCAN.samples
    frequency = np.abs(np.fft.fftfreq(n, SCAN.sample_interval)[1:]) * 1e3
    spectrum = model.spectrum(frequency, SCAN)
    lag = np.cos(2 * np.pi * frequency * 1e-3 * SCAN.sample_interval)
    variance, neighbours = spectrum.sum() / n, (spectrum * lag).sum() / n
    draws = np.concatenate([model.draw(seed, SCAN, 4) for seed in range(60)]).astype(float)
    product = (draws[:, :-1, -1] * draws[:, 1:, 0]).mean(axis=1)  # independent between detectors
    error = product.std() / np.sqrt(len(product))
    bound = stats.norm.isf(TAIL / 2) * error
    assert abs(product.mean() - neighbours) < bound
    assert abs(product.mean()) > bound
    assert 0.5 < neighbours / variance < 0.99


def test_detectors_are_independent_and_seeds_count():
    model = NoiseModel(50.0)
    draw = model.draw(1, SCAN, 4).reshape(4, -1).astype(float)
    correlation = np.corrcoef(draw) - np.eye(4)
    bound = stats.norm.isf(TAIL / 12) / np.sqrt(draw.shape[1])
    assert np.abs(correlation).max() < bound
    assert np.array_equal(draw, model.draw(1, SCAN, 4).reshape(4, -1))
    assert np.array_equal(draw[:2], model.draw(1, SCAN, 2).reshape(2, -1))
    other = model.draw(2, SCAN, 4).reshape(4, -1)
    assert abs(np.corrcoef(draw[0], other[0])[0, 1]) < bound


def test_no_noise():
    assert not NoiseModel(0.0, 30.0).draw(1, SCAN, 2).any()


@pytest.mark.parametrize("name", ["net", "knee", "alpha"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_wrong_arguments(name, value):
    with pytest.raises(ConfigError, match=f"NoiseModel {name}: expected 0 or more; got"):
        NoiseModel(**{"net": 50.0, name: value})
