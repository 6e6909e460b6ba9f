"""Gain errors: their distribution in a ring and between rings; gains from the dipole."""

import numpy as np
import pytest
from scipy import stats

from emulators.survey.instrument.gains import GainModel, dipole_gains
from emulators.survey.instrument.scan import Scan
from emulators.survey.instrument.sky import dipole_map
from sbitools.errors import ConfigError, ParameterError, ShapeError

TAIL = 1e-6  # false-alarm rate of a statistical test


def largest_deviation(draws, covariance):
    """Largest |z| of the sample covariance's elements, and the bound with rate `TAIL`."""
    n, rings = draws.shape
    products = draws[:, :, None] * draws[:, None, :]
    z = (products.mean(axis=0) - covariance) / (products.std(axis=0) / np.sqrt(n))
    return np.abs(z).max(), stats.norm.isf(TAIL / (rings * (rings + 1)))


@pytest.mark.parametrize("model", [
    GainModel(1e-4),
    GainModel(1e-4, correlation_time=3.0),
    GainModel(2e-3, 3.0, "student", dof=10.0),
    GainModel(2e-3, 0.0, "student", dof=10.0),
])  # fmt: skip
def test_covariance_between_rings(model):
    # Detectors are independent: as many as are needed. With dof 10 the products have moments
    # enough for their mean to be normal.
    draws = model.draw(1, 20000, 8, interval=1.0)
    found, bound = largest_deviation(draws, model.covariance(8, 1.0))
    assert found < bound
    other = GainModel(model.rms, model.correlation_time + 1.0, model.distribution, model.dof)
    found, bound = largest_deviation(draws, other.covariance(8, 1.0))
    assert found > bound


def test_gaussian_drift_is_autoregressive():
    covariance = GainModel(0.1, correlation_time=2.0).covariance(5, interval=0.5)
    np.testing.assert_allclose(covariance[0], 0.01 * np.exp(-0.25 * np.arange(5)))
    # Of an AR(1) process the precision matrix is tridiagonal.
    precision = np.linalg.inv(covariance)
    assert np.abs(np.triu(precision, 2)).max() < 1e-10 * precision.max()


@pytest.mark.parametrize("dof", [2.6, 4.0, 30.0])
def test_student_correlation_against_integration(dof):
    model = GainModel(1.0, 1.0, "student", dof)
    covariance = model.covariance(3, interval=0.5)
    # E[h(x) h(rho x + sqrt(1 - rho^2) y)] on a grid, for rho of neighbours and next neighbours.
    grid = np.linspace(-12, 12, 601)
    weight = stats.norm.pdf(grid) * (grid[1] - grid[0])
    for lag, rho in ((1, np.exp(-0.5)), (2, np.exp(-1.0))):
        other = rho * grid[:, None] + np.sqrt(1 - rho**2) * grid
        product = model._marginal(grid)[:, None] * model._marginal(other)
        exact = weight @ product @ weight
        # At dof 2.6 a thousandth of E[h^2] lies beyond the grid.
        assert covariance[0, lag] == pytest.approx(exact, rel=3e-3 if dof < 3 else 1e-5)
    assert covariance[0, 0] == pytest.approx(1)
    assert covariance[0, 1] < np.exp(-0.5)  # a copula weakens the correlation


@pytest.mark.parametrize("time", [0.0, 5.0])
def test_student_distribution_in_a_ring(time):
    model = GainModel(0.3, time, "student", dof=3.0)
    draws = model.draw(2, 20000, 3, interval=1.0)[:, -1] / 0.3
    law = stats.t(3.0, scale=np.sqrt(1 / 3))  # of variance 1
    assert stats.kstest(draws, law.cdf).pvalue > TAIL
    assert stats.kstest(draws, stats.norm.cdf).pvalue < TAIL


def test_student_kurtosis():
    draws = GainModel(1.0, 0.0, "student", dof=14.0).draw(3, 100, 4000, interval=1.0)
    blocks = (draws**4).mean(axis=1) - 3 * (draws**2).mean(axis=1) ** 2
    error = blocks.std() / np.sqrt(len(blocks))
    assert abs(blocks.mean() - 6 / (14.0 - 4)) < stats.norm.isf(TAIL / 2) * error
    assert blocks.mean() > 10 * error


def test_seeds_and_rms():
    model = GainModel(1e-3, 2.0, "student", 4.0)
    a = model.draw(1, 2, 50, 0.7)
    assert np.array_equal(a, model.draw(1, 2, 50, 0.7))
    assert abs(np.corrcoef(a.ravel(), model.draw(2, 2, 50, 0.7).ravel())[0, 1]) < 0.7
    twice = GainModel(2e-3, 2.0, "student", 4.0).draw(1, 2, 50, 0.7)
    np.testing.assert_allclose(twice, 2 * a)
    assert not GainModel(0.0).draw(1, 2, 50, 0.7).any()
    with pytest.raises(ParameterError, match="seed"):
        model.draw(-1, 2, 50, 0.7)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rms": -1e-4}, "GainModel rms: expected 0 or more"),
        ({"rms": float("nan")}, "GainModel rms: expected 0 or more; got nan"),
        ({"correlation_time": -1.0}, "GainModel correlation_time: expected 0 or more, in days"),
        ({"distribution": "cauchy"}, "GainModel distribution: expected 'gaussian' or 'student'"),
        ({"dof": 2.0}, "GainModel dof: expected more than 2"),
    ],
)
def test_wrong_arguments(wrong, message):
    with pytest.raises(ConfigError, match=message):
        GainModel(**{"rms": 1e-4, **wrong})


def dipole_along(scan):
    """The dipole in uK in every sample, (n_rings, samples)."""
    return 1e6 * dipole_map(16)[0][scan.pointing(16).pixels]


SCAN = Scan(n_rings=50, samples=256)


def test_gains_of_a_clean_dipole_are_exact():
    dipole = dipole_along(SCAN)
    gains = GainModel(0.1).draw(1, 3, 50, 1.0)
    offsets = GainModel(500.0).draw(2, 3, 50, 1.0)  # uK, of each ring and detector
    tod = (1 + gains)[:, :, None] * dipole + offsets[:, :, None]
    np.testing.assert_allclose(dipole_gains(tod, dipole), gains, atol=1e-13)


def test_rings_that_share_a_gain_weigh_by_their_dipole():
    dipole = dipole_along(SCAN)
    gains = GainModel(0.1).draw(1, 3, 50, 1.0)
    found = dipole_gains((1 + gains)[:, :, None] * dipole, dipole, rings=8)
    weight = dipole.var(axis=1)
    for start in range(0, 50, 8):  # the last block has two rings
        block = slice(start, min(start + 8, 50))
        mean = (gains[:, block] * weight[block]).sum(axis=1) / weight[block].sum()
        np.testing.assert_allclose(found[:, block], mean[:, None].repeat(50, 1)[:, block])


def test_noise_and_foregrounds_leak_as_predicted():
    dipole = dipole_along(SCAN)
    template = dipole - dipole.mean(axis=1, keepdims=True)
    power = (template**2).sum(axis=1)
    rng = np.random.Generator(np.random.PCG64(4))
    noise = 100 * rng.standard_normal((40, 50, 256))  # uK
    error = dipole_gains(dipole + noise, dipole)
    # <n, D> / <D, D> has the variance sigma^2 / <D, D>.
    chi2 = (error**2 * power).sum() / 100**2
    assert TAIL / 2 < stats.chi2(error.size).cdf(chi2) < 1 - TAIL / 2
    assert stats.chi2(error.size).cdf(1.25 * chi2) > 1 - TAIL / 2
    sky = rng.standard_normal((1, 50, 256)) + 0.02 * dipole
    leaked = (sky * template).sum(axis=2) / power
    np.testing.assert_allclose(dipole_gains(dipole + sky, dipole), leaked, atol=1e-12)


def test_wrong_calibrations():
    with pytest.raises(ConfigError, match="rings: expected 1 or more; got 0"):
        dipole_gains(np.ones((1, 2, 3)), np.ones((2, 3)), rings=0)
    with pytest.raises(ShapeError, match=r"tod: expected shape \(n_detectors, 2, 3\)"):
        dipole_gains(np.ones((1, 2, 4)), np.ones((2, 3)))
