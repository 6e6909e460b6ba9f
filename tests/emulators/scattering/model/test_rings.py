"""The Gaussian model of the rings: what it draws, and what it finds in a few maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emulators.scattering.model.rings import (
    RingDesign,
    RingModel,
    _correlated,
    _heavy,
    _octaves,
    _templates,
    fit_rings,
)
from emulators.scattering.simulator import TodSimulator
from emulators.scattering.survey.geometry import RingGeometry
from emulators.scattering.survey.scan import Scan
from sbitools.errors import TrainingError
from sbitools.seeds import normal, simulation_seeds
from sbitools.statistics import diagonal_covariance, relative_error, sample_covariance

NSIDE = 4
PIXELS = 12 * NSIDE**2


def white(n, size, seed=0):
    return normal([seed], (n, size), torch.float64)[0].numpy()


def test_octaves_are_all_frequencies_once():
    octaves = _octaves(64, 4)
    assert ((octaves > 0).sum(0) == 1).all()
    assert np.allclose(np.fft.irfft(octaves, 64, axis=1)[:, 0], 1)


def test_series_have_the_spectrum_that_was_asked_for():
    weights = np.array([0.5, 0.0, 2.0, 1.0])
    series = _correlated(white(4000, 64).reshape(4000, 1, 64), weights)
    assert series.shape == (4000, 1, 32)
    wanted = np.fft.irfft(weights @ _octaves(64, 4), 64)[:32]
    found = np.array([(series[:, 0, : 32 - k] * series[:, 0, k:]).mean() for k in range(32)])
    # 4,000 series: a standard error of 3.5 * sqrt(2 / 4000) = 0.08 for lags with few products.
    assert np.abs(found - wanted).max() < 5 * 0.08


def test_heavy_tails_keep_the_variance():
    g = 3 * white(1, 400_000)[0]
    heavy = _heavy(g, 9.0, 0.1)
    assert heavy.var() == pytest.approx(9.0, rel=0.03)  # its own error is 0.5 %
    # Tukey's h has the kurtosis 3 (1 - 2 h)^3 / (1 - 4 h)^(5/2): 5.5 at h = 0.1.
    assert (heavy**4).mean() / heavy.var() ** 2 == pytest.approx(5.5, rel=0.15)
    assert _heavy(g, 9.0, 0.0) is g


@pytest.fixture(scope="module")
def model():
    model = RingModel(RingGeometry(Scan(n_rings=48, samples=64)), NSIDE, lmax=1)
    model.sky.copy_(torch.tensor([0.3, 1.0, -0.5, 0.2]))
    model.powers.fill_(-3.0)
    model.powers[0, :2] = torch.tensor([0.5, -1.0])
    model.powers[0, -1] = -1.0
    return model


def exact_covariance(model):
    place = model.geometry.at(NSIDE)
    templates = _templates(place, np.arange(2 * PIXELS), model.geometry.streams).double().numpy()
    first, second, noise = model._weights(np.ones(1))
    sky = np.tile(model.amplitude(), 2)
    modulated = np.einsum("c,cpq->pq", first, templates[: len(first)]) * np.outer(sky, sky)
    return modulated + np.einsum("c,cpq->pq", [*second, noise], templates[len(first) :])


def test_maps_have_the_covariance_that_is_fitted(model):
    maps = model.draw(white(6000, sum(model.latent_sizes)), np.ones(1), None)
    covariance = exact_covariance(model)
    found = sample_covariance(maps.reshape(6000, -1))
    rank = np.trace(covariance) ** 2 / (covariance**2).sum()
    # The relative error of a sample covariance is sqrt((1 + rank) / n), to a few per cent.
    assert relative_error(found, covariance) < 1.15 * np.sqrt((1 + rank) / 6000)
    wrong = covariance + np.diag(0.5 * np.diag(covariance))
    assert relative_error(found, wrong) > 1.5 * np.sqrt((1 + rank) / 6000)


@pytest.fixture(scope="module")
def simulator():
    return TodSimulator(NSIDE, parameters=[], n_rings=96, samples=64)


def fitted(simulator, n, **options):
    seeds = torch.from_numpy(simulation_seeds(3, range(n)))
    maps = simulator.simulate(torch.zeros(n, 0, dtype=torch.float64), seeds).double().numpy()
    maps -= maps.mean(0)
    model = RingModel(RingGeometry(simulator.scan, simulator.detectors), NSIDE)
    fit_rings(model, [RingDesign(np.ones(1), None, maps, n - 1)], 0, 2 * PIXELS, **options)
    return model, maps


def test_fit_to_ten_maps_is_far_better_than_what_knows_no_rings(simulator):
    model, maps = fitted(simulator, 10)
    truth = simulator.response().covariance(simulator.gain_covariance(np.zeros(0)))
    error = relative_error(exact_covariance(model), truth)
    rows = maps.reshape(10, -1)
    assert error < 0.5  # 0.2 to 0.35, with the maps
    assert error < 0.6 * relative_error(diagonal_covariance(rows), truth)
    assert error < 0.6 * relative_error(sample_covariance(rows), truth)


def test_fit_depends_on_its_seed_alone(simulator):
    one, two = (fitted(simulator, 4, steps=5)[0] for _ in range(2))
    assert torch.equal(one.powers, two.powers)
    assert torch.equal(one.sky, two.sky)


def test_maps_that_are_not_finite_are_refused(model):
    maps = np.full((4, 2, PIXELS), np.nan)
    with pytest.raises(TrainingError, match="finite loss"):
        fit_rings(RingModel(model.geometry, NSIDE), [RingDesign(np.ones(1), None, maps, 3)], 0, 32)
