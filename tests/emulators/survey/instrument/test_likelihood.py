"""The exact likelihood of maps: against scipy and the gains; scores; what is refused."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from emulators.survey.instrument.likelihood import TOLERANCE, GainLikelihood
from emulators.survey.instrument.sky import dipole_map
from emulators.survey.simulator import TodSimulator
from sbitools.errors import ConfigError, ObservationError, ParameterError, ShapeError
from sbitools.priors import LogUniform, Normal

TAIL = 1e-6  # false-alarm rate of a statistical test
VARIED = ("gain_rms", "correlation_time")


def make(**options):
    told = {"nside": 4, "parameters": VARIED, "n_rings": 48, "samples": 64, **options}
    return TodSimulator(**told)


def unpolarised(**options):
    sky = np.zeros((3, 192))
    sky[0] = dipole_map(4, "galactic")[0]
    return make(sky=sky, **options)


def maps_of(simulator, theta, first=0):
    """Maps in float64, and their gains."""
    gains = simulator.gains(theta, torch.arange(len(theta)) + first)
    return simulator.response().maps(gains), gains


SIMULATOR = make()
LIKELIHOOD = GainLikelihood(SIMULATOR)


@pytest.mark.parametrize("parameters", [VARIED, VARIED[::-1]])
def test_against_scipy(parameters):
    # Detectors of a pair see an unpolarised sky alike: half of the modes do not exist.
    simulator = unpolarised(n_rings=24, parameters=parameters)
    likelihood = GainLikelihood(simulator)
    assert likelihood.n_modes == 2 * 24
    theta = simulator.parameters.design(6, 1)
    maps, _ = maps_of(simulator, theta)
    theta = theta.flip(0)  # likelihoods of maps that were made with other theta
    found = likelihood.log_likelihood(theta, maps)
    for row, x, value in zip(theta, maps, found, strict=True):
        covariance = simulator.response().covariance(simulator.gain_covariance(row))
        scale = np.sqrt(np.diag(covariance).max())  # scipy calls small numbers zero
        normal = stats.multivariate_normal(cov=covariance / scale**2, allow_singular=True)
        exact = normal.logpdf(x.ravel() / scale) - 48 * np.log(scale)
        # Eigenvalues down to 1e-6 of the largest are good to ten digits.
        assert value == pytest.approx(exact, rel=1e-7, abs=1e-4)
        wrong = stats.multivariate_normal(cov=1.1 * covariance / scale**2, allow_singular=True)
        off = wrong.logpdf(x.ravel() / scale) - 48 * np.log(scale)
        assert abs(value - off) > 0.1


@pytest.mark.parametrize("strategy", ["planck", "litebird"])
def test_with_all_modes_it_is_the_density_of_the_gains(strategy):
    # x = g B with independent rows: p(x) = p(g) / sqrt(det B B^T).
    simulator = make(strategy=strategy, n_rings=16)
    likelihood = GainLikelihood(simulator, 1e-12)
    assert likelihood.n_modes == 4 * 16
    theta = simulator.parameters.design(5, 1)
    maps, gains = maps_of(simulator, theta)
    matrix = simulator.response().matrix.toarray()
    volume = np.log(np.linalg.svd(matrix, compute_uv=False)).sum()
    exact = []
    for row, g in zip(theta, gains, strict=True):
        rings: Any = simulator.gain_covariance(row)
        exact.append(stats.multivariate_normal.logpdf(g, cov=rings).sum() - volume)
    # Faint modes are a millionth of the map: ten digits are left, of numbers of about 500.
    np.testing.assert_allclose(likelihood.log_likelihood(theta, maps), exact, atol=1e-5)


def test_louder_maps_with_louder_gains():
    theta = SIMULATOR.parameters.design(4, 1).clamp(max=5.0)
    maps, _ = maps_of(SIMULATOR, theta)
    theta[:, 0] = 1e-4
    louder = theta * torch.tensor([3.0, 1.0])
    found = LIKELIHOOD.log_likelihood(louder, 3 * maps)
    expected = LIKELIHOOD.log_likelihood(theta, maps) - LIKELIHOOD.n_modes * np.log(3)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_coordinates_are_gains_in_the_modes_that_are_kept():
    theta = SIMULATOR.parameters.design(3, 2)
    maps, gains = maps_of(SIMULATOR, theta)
    z = LIKELIHOOD.coordinates(maps)
    matrix = SIMULATOR.response().matrix.toarray()
    left, values, _ = np.linalg.svd(matrix, full_matrices=False)
    kept = values > TOLERANCE * values[0]
    assert 0 < LIKELIHOOD.n_modes == kept.sum() < len(values)
    exact = gains.reshape(3, -1) @ left[:, kept]
    np.testing.assert_allclose(np.abs(z), np.abs(exact), atol=1e-9)  # the signs are free


def test_rounding_to_float32_does_not_count_at_the_tolerance():
    simulator = make(nside=8, n_rings=256)
    theta = simulator.parameters.design(8, 1)
    maps, _ = maps_of(simulator, theta)

    def shift(tolerance):
        likelihood = GainLikelihood(simulator, tolerance)
        rounded = likelihood.log_likelihood(theta, maps.astype(np.float32))
        return np.abs(rounded - likelihood.log_likelihood(theta, maps)).max()

    assert shift(TOLERANCE) < 0.03 < 0.1 < shift(1e-9)


def test_scores_vanish_on_average_at_the_truth_and_nowhere_else():
    n, width, truth = 400, 0.05, torch.tensor([[1e-4, 8.0]], dtype=torch.float64)
    maps, _ = maps_of(SIMULATOR, truth.expand(n, 2))
    limit = stats.norm.isf(TAIL / 8)  # four tests with two sides

    def deviation(at, column):
        """Mean score in ln theta, in standard errors of chance."""
        steps = torch.zeros(2, 2, dtype=torch.float64)
        steps[:, column] = torch.tensor([-width, width])
        low, high = (
            LIKELIHOOD.log_likelihood((at * s.exp()).expand(n, 2), maps) for s in steps
        )  # fmt: skip
        score = (high - low) / (2 * width)
        return score.mean() / (score.std() / np.sqrt(n))

    # The difference is off by f''' h^2 / 6, a quarter of a standard error of chance.
    assert abs(deviation(truth, 0)) < limit
    assert abs(deviation(truth, 1)) < limit
    assert deviation(truth * torch.tensor([1.1, 1.0]), 0) < -limit
    assert deviation(truth * torch.tensor([1.0, 1.5]), 1) < -limit


def test_squares_are_chi_squared():
    n = 200
    theta = SIMULATOR.parameters.design(n, 3)
    maps, _ = maps_of(SIMULATOR, theta)
    louder = theta * torch.tensor([0.999, 1.0])
    # d ln p / d ln rms = square - k: of a chi squared with n k degrees of freedom in all.
    change = LIKELIHOOD.log_likelihood(theta, maps) - LIKELIHOOD.log_likelihood(louder, maps)
    ratio = np.expm1(-2 * np.log(0.999))
    square = 2 * (change - LIKELIHOOD.n_modes * np.log(0.999)) / ratio
    chi2 = stats.chi2(n * LIKELIHOOD.n_modes)
    assert TAIL / 2 < chi2.cdf(square.sum()) < 1 - TAIL / 2
    assert chi2.cdf(1.1 * square.sum()) > 1 - TAIL / 2


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"calibration": "dipole", "net": 0.0, "distribution": "gaussian"}, "calibration"),
        ({"distribution": "student"}, "distribution"),
        ({"net": 1.0}, "net"),
        ({"parameters": ["gain_rms"]}, "parameters"),
        ({"parameters": [*VARIED, "scan_angle"]}, "parameters"),
        ({"priors": {"correlation_time": Normal(5.0, 2.0)}}, "correlation_time"),
    ],
)
def test_simulators_with_another_likelihood(options, what):
    with pytest.raises(ConfigError, match=what):
        GainLikelihood(make(**options))


@pytest.mark.parametrize("tolerance", [0.0, 1.0, -1e-5, float("nan")])
def test_tolerances_that_keep_nothing_or_rounding(tolerance):
    with pytest.raises(ConfigError, match="tolerance"):
        GainLikelihood(SIMULATOR, tolerance)


def test_maps_that_do_not_fit():
    theta = SIMULATOR.parameters.design(2, 1)
    maps, _ = maps_of(SIMULATOR, theta)
    for wrong in (maps[0], maps[:, :1], maps[..., :48], maps.astype(complex)):
        with pytest.raises(ShapeError, match="maps"):
            LIKELIHOOD.log_likelihood(theta, wrong)
    for bad in (np.nan, np.inf, -1.6375e30):
        broken = maps.copy()
        broken[1, 0, 5] = bad
        with pytest.raises(ShapeError, match="infinity"):
            LIKELIHOOD.log_likelihood(theta, broken)


def test_maps_of_something_else():
    theta = SIMULATOR.parameters.design(2, 1)
    maps, _ = maps_of(SIMULATOR, theta)
    noisy = maps + 0.01 * maps.std() * np.random.default_rng(1).standard_normal(maps.shape)
    for wrong in (noisy, 0 * maps):
        with pytest.raises(ObservationError, match="map 0"):
            LIKELIHOOD.coordinates(wrong)
    assert LIKELIHOOD.coordinates(maps[:0]).shape == (0, LIKELIHOOD.n_modes)


def test_theta_that_does_not_fit():
    theta = SIMULATOR.parameters.design(2, 1)
    maps, _ = maps_of(SIMULATOR, theta)
    for wrong in (theta[:1], theta[:, :1], 2e3 * theta):
        with pytest.raises(ParameterError):
            LIKELIHOOD.log_likelihood(wrong, maps)


def test_maps_and_theta_may_be_tensors_of_any_precision():
    theta = SIMULATOR.parameters.design(2, 1)
    maps = SIMULATOR.simulate(theta, torch.arange(2))
    found = LIKELIHOOD.log_likelihood(theta, maps)
    assert found.dtype == np.float64
    assert np.array_equal(found, LIKELIHOOD.log_likelihood(theta.numpy(), maps.double().numpy()))


def test_priors_far_and_near():
    prior = {"correlation_time": LogUniform(0.01, 1000.0)}
    likelihood = GainLikelihood(make(priors=prior))
    theta = likelihood.parameters.design(3, 1)
    theta[:, 1] = torch.tensor([0.01, 1.0, 1000.0], dtype=torch.float64)
    maps, _ = maps_of(make(priors=prior), theta)
    assert np.isfinite(likelihood.log_likelihood(theta, maps)).all()
