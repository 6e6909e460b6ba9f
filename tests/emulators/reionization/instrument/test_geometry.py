"""Lengths, angles and the slope of the wedge."""

import numpy as np
import pytest

from emulators.reionization.instrument.geometry import LINE, Background, wavelength


def test_lengths_are_those_of_an_einstein_de_sitter_universe():
    background = Background(1.0, 0.7)
    for z in (5.0, 9.0, 20.0):
        frequency = LINE / (1 + z)
        distance = 2 * 2997.92458 / 0.7 * (1 - (1 + z) ** -0.5)
        hubble = 70.0 * (1 + z) ** 1.5
        # The distance is a sum of trapezia of 0.01 in z.
        assert background.distance(frequency) == pytest.approx(distance, rel=1e-4)
        assert background.hubble(frequency) == pytest.approx(hubble, rel=1e-12)
        slope = distance * hubble / (299792.458 * (1 + z))
        assert background.wedge_slope(0.5, frequency) == pytest.approx(slope / 2, rel=1e-4)
        k = 2 * np.pi * 100.0 / wavelength(frequency) / distance
        assert background.k_perp(100.0, frequency) == pytest.approx(k, rel=1e-4)


def test_a_megahertz_is_the_difference_of_two_distances():
    background = Background()
    deep = background.distance(149.5) - background.distance(150.5)
    # The derivative over a finite interval, on a grid of distances that is interpolated linearly.
    assert background.depth(150.0) == pytest.approx(deep, rel=1e-3)
    assert 15 < background.depth(150.0) < 18  # Mpc per MHz, e.g. Morales & Wyithe 2010


def test_the_wedge_is_a_horizon_delay():
    # A delay tau is k_par = 2 pi tau / Y, and the horizon is at tau = b / c.
    background, frequency, baseline = Background(), 150.0, 250.0
    delay = baseline / 299.792458  # microseconds
    k_par = 2 * np.pi * delay / background.depth(frequency)
    slope = background.wedge_slope(1.0, frequency)
    assert slope * background.k_perp(baseline, frequency) == pytest.approx(k_par, rel=1e-9)
