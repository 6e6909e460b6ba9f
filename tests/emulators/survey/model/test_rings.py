"""The Gaussian model of the rings: what it draws, and what it finds in a few maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emulators.survey.instrument.geometry import RingGeometry
from emulators.survey.instrument.scan import Scan
from emulators.survey.model.ring_fit import RingDesign, fit_rings, templates
from emulators.survey.model.rings import RingModel
from emulators.survey.simulator import TodSimulator
from sbitools.errors import TrainingError
from sbitools.seeds import normal, simulation_seeds
from sbitools.statistics import diagonal_covariance, relative_error, sample_covariance

NSIDE = 4
PIXELS = 12 * NSIDE**2


def white(n, size, seed=0):
    return normal([seed], (n, size), torch.float64)[0].numpy()


@pytest.fixture(scope="module", params=[None, 5], ids=["given", "estimated"])
def model(request):
    geometry = RingGeometry(Scan(n_rings=48, samples=64), period=request.param)
    model = RingModel(geometry, NSIDE, lmax=1)
    model.sky.copy_(torch.tensor([0.3, 1.0, -0.5, 0.2]))
    model.powers.fill_(-3.0)
    model.powers[0, :2] = torch.tensor([0.5, -1.0])
    model.powers[0, -1] = -1.0
    return model


def exact_covariance(model):
    place = model.geometry.at(NSIDE)
    place, v = model.geometry.at(NSIDE), model.variances(np.ones(1))
    every = templates(model.geometry, place, np.arange(2 * PIXELS)).double().numpy()
    first, sky = [*v.amplitudes, v.period], np.tile(model.amplitude(), 2)
    modulated = np.einsum("c,cpq->pq", first, every[: len(first)]) * np.outer(sky, sky)
    rest = every[len(first) :]
    return modulated + np.einsum("c,cpq->pq", [*v.offsets, *v.waves, v.white], rest)


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
    maps = simulated(simulator, n, 3)
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


@pytest.fixture(scope="module")
def calibrated():
    return TodSimulator(NSIDE, calibration="dipole", parameters=[], n_rings=96, samples=64)


def test_the_period_of_calibration_is_worth_knowing(calibrated):
    """What is left of gains after calibration has no mean in each period."""
    errors = []
    truth = simulated(calibrated, 1000, 7).reshape(1000, -1)
    for period in (calibrated.gain_period, None):
        maps = simulated(calibrated, 20, 3)
        geometry = RingGeometry(calibrated.scan, calibrated.detectors, period)
        model = RingModel(geometry, NSIDE)
        fit_rings(model, [RingDesign(np.ones(1), None, maps, 19)], 0, 2 * PIXELS)
        errors.append(relative_error(exact_covariance(model), sample_covariance(truth)))
    assert errors[0] < 0.8 * errors[1]


def test_white_noise_is_found_below_louder_gains(calibrated):
    maps = simulated(calibrated, 40, 5)
    geometry = RingGeometry(calibrated.scan, calibrated.detectors, calibrated.gain_period)
    model = RingModel(geometry, NSIDE)
    fit_rings(model, [RingDesign(np.ones(1), None, maps, 39)], 0, 2 * PIXELS)
    true = calibrated._models(calibrated.fixed)[1].sigma(calibrated.scan) ** 2
    # 384 numbers of 40 maps know a variance to 2 %; the misfit of the rest is larger.
    assert model.variances(np.ones(1)).white == pytest.approx(true, rel=0.3)


def simulated(simulator, n, seed):
    seeds = torch.from_numpy(simulation_seeds(seed, range(n)))
    maps = simulator.simulate(torch.zeros(n, 0, dtype=torch.float64), seeds).double().numpy()
    return maps - maps.mean(0)
