"""Background, growth and power spectra against exact limits and published numbers."""

import numpy as np
import pytest
from scipy.integrate import quad

from emulators.nbody.cosmology import (
    Cosmology,
    growth_factor,
    growth_rate,
    hubble,
    scale_factor,
    second_order_growth,
)
from emulators.nbody.halofit import halofit
from emulators.nbody.transfer import eisenstein_hu
from sbitools.errors import ParameterError

OMEGA = [0.1, 0.3, 0.5, 0.95]

# CAMB 2.0 (Lewis & Challinor; Takahashi halofit), massless neutrinos, T_CMB = 2.7255 K, A_s set by
# sigma_8: rows are k in h/Mpc, P_linear in (Mpc/h)^3 and P_nonlinear / P_linear.
CAMB = {
    (0.3175, 0.834, 0.049, 0.6711, 0.9624): {
        0: [(0.09981, 5776.4, 1.0141), (0.29829, 941.35, 1.5458), (0.99044, 73.362, 5.9462),
            (3.02308, 5.0341, 20.1657)],
        1: [(0.09981, 2121.2, 1.0098), (0.29829, 345.69, 1.2422), (0.99044, 26.94, 3.2847),
            (3.02308, 1.8487, 11.9249)],
    },
    (0.15, 0.95, 0.03, 0.8, 1.1): {
        0: [(0.09981, 8876.2, 0.9920), (0.29829, 1114.1, 1.8565), (0.99044, 82.874, 8.5668),
            (3.02308, 5.9653, 28.1823)],
        1: [(0.09981, 4173.7, 0.9843), (0.29829, 523.88, 1.3971), (0.99044, 38.968, 4.6850),
            (3.02308, 2.8049, 15.8291)],
    },
    (0.45, 0.65, 0.06, 0.55, 0.85): {
        0: [(0.09981, 3804.4, 1.0295), (0.29829, 575.81, 1.4238), (0.99044, 41.266, 4.8119),
            (3.02308, 2.5877, 18.1172)],
        1: [(0.09981, 1240.3, 1.0281), (0.29829, 187.72, 1.2114), (0.99044, 13.453, 2.5495),
            (3.02308, 0.84363, 9.0826)],
    },
}  # fmt: skip

# Colossus 1.4 (Diemer 2018, arXiv:1712.04512), modelEisenstein98 with T_CMB = 2.7255 K: another
# implementation of the same fit. Keys are Omega_m, Omega_b, h.
COLOSSUS_K = [0.003, 0.02, 0.05, 0.07, 0.09, 0.12, 0.15, 0.2, 1.0, 10.0]
COLOSSUS = {
    (0.3175, 0.049, 0.6711): [0.9530339, 0.5884938, 0.27647, 0.2075257, 0.1565771, 0.108252,
                              0.08324014, 0.05667195, 0.004851466, 9.326442e-05],
    (0.15, 0.03, 0.8): [0.8961172, 0.3914396, 0.1536117, 0.09926203, 0.0699958, 0.04717424,
                        0.03554551, 0.02299849, 0.001739348, 3.059526e-05],
    (0.45, 0.06, 0.55): [0.9626775, 0.6402593, 0.3268379, 0.2430593, 0.1940244, 0.1346256,
                         0.104692, 0.07082414, 0.006518252, 0.0001290312],
}  # fmt: skip


@pytest.mark.parametrize("om", OMEGA)
def test_growth_is_the_integral_of_heath(om):
    """D is proportional to H int da / (a H)^3 (Heath 1977): a different route to the same D."""

    def unnormalised(a):
        def rate(b):
            return float(hubble(1 / b - 1, om)) / 100

        return rate(a) * quad(lambda b: (b * rate(b)) ** -3, 0, a, epsabs=0, epsrel=1e-11)[0]

    for z in (0.5, 2.0, 10.0):
        expected = unnormalised(1 / (1 + z)) / unnormalised(1.0)
        assert growth_factor(z, om) == pytest.approx(expected, rel=1e-9)  # quadrature


@pytest.mark.parametrize("om", OMEGA)
def test_growth_rate_is_the_slope_and_scale_factor_the_inverse(om):
    z, eps = np.array([0.0, 1.0, 5.0, 50.0]), 1e-5
    up, down = ((1 + z) * np.exp(s * eps) - 1 for s in (-1, 1))
    slope = np.log(growth_factor(up, om) / growth_factor(down, om)) / (2 * eps)
    np.testing.assert_allclose(growth_rate(z, om), slope, rtol=1e-8)  # central difference
    np.testing.assert_allclose(scale_factor(growth_factor(z, om), om), 1 / (1 + z), rtol=1e-12)


def test_einstein_de_sitter_is_exact():
    d = np.array([0.0, 0.01, 0.3, 1.0])
    e, de = second_order_growth(d, 1.0)
    np.testing.assert_allclose(e, -3 / 7 * d**2, rtol=1e-7)  # the start of the integration
    np.testing.assert_allclose(de, -6 / 7 * d, rtol=1e-7)
    assert growth_factor(3.0, 1.0) == pytest.approx(0.25)
    assert growth_rate(3.0, 1.0) == pytest.approx(1.0)


@pytest.mark.parametrize("om", OMEGA)
def test_second_order_growth_solves_its_equation(om):
    """In the time t with dt = da / (a^3 H): E'' = 3/2 Omega_m a (E - D^2), by differences."""
    eps, log_a = 1e-3, np.log([0.1, 0.5, 0.9])

    def e_of(shift):
        z = np.exp(-(log_a + shift)) - 1
        return second_order_growth(growth_factor(z, om), om)[0]

    a = np.exp(log_a)
    h2 = om * a**-3 + 1 - om
    omega = om * a**-3 / h2
    first = (e_of(eps) - e_of(-eps)) / (2 * eps)
    second = (e_of(eps) - 2 * e_of(0) + e_of(-eps)) / eps**2
    d = growth_factor(1 / a - 1, om)
    left = second + (2 - 1.5 * omega) * first
    np.testing.assert_allclose(left, 1.5 * omega * (e_of(0) - d**2), rtol=2e-5)  # eps^2 terms


@pytest.mark.parametrize("om", OMEGA)
def test_second_order_growth_early_and_its_published_fit(om):
    d = growth_factor(np.array([0.0, 1.0, 1000.0]), om)
    e, de = second_order_growth(d, om)
    assert e[2] / d[2] ** 2 == pytest.approx(-3 / 7, rel=1e-6)
    omega = 1 / (1 + (1 - om) / om / np.array([1.0, 2.0]) ** 3)
    # Bouchet et al. 1995: -3/7 D^2 Omega^(-1/143), a fit good to 0.6 % for Omega > 0.1.
    np.testing.assert_allclose(e[:2], -3 / 7 * d[:2] ** 2 * omega ** (-1 / 143), rtol=6e-3)
    eps = 1e-5
    up, down = (second_order_growth(d[1] * (1 + sign * eps), om)[0] for sign in (1, -1))
    slope = (up - down) / (2 * eps * d[1])
    assert de[1] == pytest.approx(slope, rel=1e-6)


def test_transfer_function_limits():
    k = np.array([1e-6, 1e-5])
    np.testing.assert_allclose(eisenstein_hu(k, 0.3, 0.05, 0.7), 1, atol=1e-4)
    k = np.geomspace(0.05, 0.3, 200)  # baryons imprint oscillations, and more of them more so
    wiggle = [np.diff(np.log(eisenstein_hu(k, 0.3, b, 0.7)), 3).std() for b in (0.01, 0.07)]
    assert wiggle[1] > 3 * wiggle[0]


@pytest.mark.parametrize("values", list(COLOSSUS))
def test_transfer_function_against_another_implementation(values):
    transfer = eisenstein_hu(np.array(COLOSSUS_K), *values)
    np.testing.assert_allclose(transfer, COLOSSUS[values], rtol=2e-6)  # seven digits are printed


@pytest.mark.parametrize("values", list(CAMB))
def test_power_spectra_against_a_boltzmann_code(values):
    cosmology = Cosmology(*values)
    for z, rows in CAMB[values].items():
        k, linear, boost = np.array(rows).T
        # Eisenstein & Hu state a few per cent; at these k it is within 5 % for all three.
        np.testing.assert_allclose(cosmology.linear_power(k, z), linear, rtol=0.05)
        # With CAMB's own linear spectrum the halofit here agrees with CAMB's to 3e-4; the 3 %
        # are what the different linear spectrum does to the boost.
        ratio = halofit(k, cosmology, z) / cosmology.linear_power(k, z)
        np.testing.assert_allclose(ratio, boost, rtol=0.03)


def test_sigma_8_is_that_of_the_spectrum():
    cosmology = Cosmology(sigma_8=0.77)

    def integrand(log_k):
        k = np.exp(log_k)
        window = 3 * (np.sin(8 * k) - 8 * k * np.cos(8 * k)) / (8 * k) ** 3
        return k**3 * float(cosmology.linear_power(k)) * window**2 / (2 * np.pi**2)

    value = quad(integrand, np.log(1e-4), np.log(20.0), limit=400, epsrel=1e-8)[0]
    assert np.sqrt(value) == pytest.approx(0.77, rel=1e-5)  # the trapezium rule of the module


def test_power_scales_with_sigma_8_and_growth_squared():
    k = np.array([0.01, 0.1, 1.0])
    one, two = Cosmology(sigma_8=0.6), Cosmology(sigma_8=1.2)
    np.testing.assert_allclose(two.linear_power(k), 4 * one.linear_power(k), rtol=1e-12)
    ratio = one.linear_power(k, 2.0) / one.linear_power(k)
    np.testing.assert_allclose(ratio, growth_factor(2.0, one.Omega_m) ** 2, rtol=1e-12)


@pytest.mark.parametrize(
    "bad", [{"Omega_m": 0.04}, {"Omega_m": 1.1}, {"sigma_8": 0}, {"h": -1}, {"n_s": np.nan},
            {"Omega_b": 0}]
)  # fmt: skip
def test_unphysical_cosmologies_are_refused(bad):
    with pytest.raises(ParameterError, match="fix: correct"):
        Cosmology(**bad)
