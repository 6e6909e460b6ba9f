"""Mean spectra against the band of the paper."""

from __future__ import annotations

import numpy as np

from emulators.survey.maps.spectra import band_deviation, band_shares, controlled_spectra
from sbitools.statistics import angular_power
from tests.emulators.survey.striped import blurred, stripes


def test_deviations_are_in_units_of_the_error_of_the_inputs_mean():
    rng = np.random.default_rng(1)
    reference = 5.0 + 2.0 * rng.standard_normal((100_000, 4))
    deviation = band_deviation(np.array([0.0, 0.0, 5.0, 6.0]), reference, 16)
    # sigma / sqrt(16) = 0.5; the reference mean is known to 0.0063, six of these are 0.08
    assert np.allclose(deviation, [0.0, 2.0], atol=0.08)
    assert band_shares(np.array([0.5, -0.9, 1.5, -3.0])) == (0.5, 0.75)


def test_the_inputs_themselves_are_normal_deviates():
    """Shares of 20 sets of 10 maps: 68 and 95 %, the binomial error of correlated multipoles."""
    reference = {s: angular_power(stripes(1000, 1), ordering="nested")[s] for s in ("EE", "BB")}
    shares = []
    for seed in range(20):
        found = angular_power(stripes(10, 100 + seed), ordering="nested")
        shares += [
            band_shares(band_deviation(found[s].mean(0), reference[s], 10)) for s in ("EE", "BB")
        ]
    one, two = np.mean(shares, axis=0)
    assert 0.5 < one < 0.85
    assert two > 0.85
    wrong = angular_power(blurred(stripes(10, 3)), ordering="nested")["EE"].mean(0)
    assert band_shares(band_deviation(wrong, reference["EE"], 10))[0] < 0.5


def test_control_variates_know_the_mean_better():
    """Emulations that are 1.1 times their starts: the mean is 1.21 that of all starts."""
    starts, more = stripes(12, 1), stripes(1200, 2)
    found = controlled_spectra(1.1 * starts, starts, more)
    every = angular_power(np.concatenate([starts, more]), ordering="nested")
    plain = angular_power(1.1 * starts, ordering="nested")
    assert set(found) == {"EE", "BB"}
    for name, mean in found.items():
        expected = 1.21 * every[name].mean(0)
        assert np.allclose(mean[2:], expected[2:], rtol=0.02)  # beta is 1.21 (1 - 1 %)
        assert np.abs(plain[name].mean(0)[2:] / expected[2:] - 1).max() > 0.1
