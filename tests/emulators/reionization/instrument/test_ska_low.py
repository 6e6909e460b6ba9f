"""The radiometer equation of SKA1-Low against closed forms, and against others' numbers."""

import numpy as np
import pytest

from emulators.reionization.instrument import Background, shipped_table, ska_low_table
from emulators.reionization.instrument.ska_low import (
    FREQUENCIES,
    REFERENCE_ERRORS,
    SCENARIOS,
    STATION,
    baseline_density,
    effective_area,
    mode_power,
    shell_error,
    stations,
    system_temperature,
)
from sbitools.errors import ObservationError


def test_the_layout_is_that_of_the_design():
    place = stations()
    radius = np.sort(np.hypot(*place.T))
    assert place.shape == (512, 2)
    assert radius[223] <= 500 < 600 < radius[224]  # 224 stations in the core
    assert radius[295] < 2000 < radius[296]  # and 72 more within 2 km
    assert 34e3 < radius[-1] < 36e3
    # No two stations of 38 m overlap.
    distance = np.hypot(*(place[:, None] - place).transpose(2, 0, 1)) + 1e9 * np.eye(512)
    assert distance.min() > 38
    assert np.array_equal(place, stations())


def test_every_pair_of_stations_is_in_the_density():
    length = np.geomspace(45, 60707, 20001)
    pairs = np.trapezoid(baseline_density(length) * np.pi * length**2, np.log(length))
    # Between the middles of bins the density is a power law: 3 % here.
    assert pairs == pytest.approx(512 * 511 / 2, rel=0.05)
    assert baseline_density(np.array([30.0, 70000.0])).tolist() == [0.0, 0.0]


def test_temperature_and_area():
    assert system_temperature(300.0) == pytest.approx(106.0)
    assert effective_area(80.0) == effective_area(80.0, True) == pytest.approx(1134.1, rel=1e-4)
    assert effective_area(220.0) == pytest.approx(1134.1 / 4, rel=1e-4)
    # 2 k_B T / A in kJy: 1.82 at 160 MHz by the SKAO's calculator (21cmSense issue 204).
    flux = 2 * 1.380649 * system_temperature(160.0) / effective_area(160.0)
    assert flux == pytest.approx(1.82, rel=0.1)


def test_the_power_of_a_mode_is_the_radiometer_equation():
    background, frequency, hours = Background(), 100.0, 500.0
    baseline = 300.0
    k = background.k_perp(baseline, frequency)
    # Noise of one visibility of 1 Hz and all baselines of a u-v cell of 1 / Omega, in K sr.
    wave = 2.99792458
    beam = wave**2 / effective_area(frequency)
    samples = hours * 3600 * baseline_density(np.array(baseline)) * wave**2 / beam
    visibility = system_temperature(frequency) * beam / np.sqrt(2 * samples)
    # |T(k)|^2 of a volume X^2 Omega by Y B is (X^2 Y)^2 V^2 B, over that volume is P.
    volume = background.distance(frequency) ** 2 * background.depth(frequency) * 1e-6  # per Hz
    want = volume * (visibility * 1e3) ** 2 / beam
    assert mode_power(k, frequency, background, hours) == pytest.approx(want, rel=1e-9)
    assert mode_power(k, frequency, background, 2 * hours) == pytest.approx(want / 2, rel=1e-9)
    assert np.isinf(mode_power(np.array([1e-3, 100.0]), frequency, background, hours)).all()


def test_errors_agree_with_21cmsense_for_stations_of_constant_area():
    background = Background()
    for frequency, k_h, *errors in REFERENCE_ERRORS:
        k = np.array([k_h * background.h])
        for scenario, theirs in zip(SCENARIOS, errors, strict=True):
            dense = shell_error(k, frequency, scenario, background, 1080.0, dense=True)[0]
            # Another model of the layout and of the receivers: 0.69 to 1.07.
            assert 0.6 < dense / theirs < 1.2
            true = shell_error(k, frequency, scenario, background, 1080.0)[0]
            assert true / dense == pytest.approx(max(1, (frequency / 110) ** 4), rel=1e-9)


def test_the_facts_at_85_and_187_megahertz():
    # mK^2 at k = 0.36 and 0.5, which are h/Mpc: what a recipe reads from those tables.
    for frequency, k, optimistic, moderate in ((85.0, 0.36, 8.8, 14.6), (187.0, 0.5, 0.05, 0.08)):
        for scenario, theirs in zip(SCENARIOS, (optimistic, moderate), strict=True):
            at = np.array([k * Background().h])
            ours = shell_error(at, frequency, scenario, Background(), 1080.0, dense=True)[0]
            assert 0.5 < ours / theirs < 2


def test_foregrounds_cost_modes_and_time_gains_them():
    k, background = np.array([0.05, 0.2, 0.4]), Background()
    few, many = (shell_error(k, 150.0, s, background, 1080.0) for s in ("moderate", "optimistic"))
    assert np.isinf(few[0])  # below the buffer of 0.1 h/Mpc
    assert (few > many).all()
    half = shell_error(k, 150.0, "optimistic", background, 540.0)
    np.testing.assert_allclose(half, 2 * many, rtol=1e-12)


def test_an_average_over_a_shell_is_the_sum_of_its_modes():
    # Brute force: the modes of a box of 8 MHz and the field of view of the squared beam, a
    # Gaussian of 2.35 x 0.45 lambda / D, in a shell two modes thick. The box is 4 times as large
    # in every direction, so that sums are integrals, and its modes count a 64th.
    background, frequency = Background(), 120.0
    depth = float(background.depth(frequency)) * 8.0
    width = 2.35 * 0.45 * 299.792458 / frequency / STATION
    side = float(background.distance(frequency)) * np.sqrt(1.13 * width**2 / 2)
    low, high, larger = 0.2, 0.2 + 4 * np.pi / depth, 4
    side, depth = larger * side, larger * depth
    reach = int(high * side / (2 * np.pi)) + 1
    across = 2 * np.pi / side * np.arange(-reach, reach + 1)
    along = 2 * np.pi / depth * np.arange(int(high * depth / (2 * np.pi)) + 2)
    k_perp, along = np.broadcast_arrays(np.hypot(across[:, None], across)[..., None], along)
    k = np.hypot(k_perp, along)
    slope = background.wedge_slope(1.0, frequency)
    # Half of all modes, those with k_par > 0.
    seen = (k >= low) & (k < high) & (along >= slope * k_perp + 0.1 * background.h)
    power = mode_power(k_perp[seen], frequency, background, 1080.0)
    brute = ((2 * np.pi**2 / (k[seen] ** 3 * power)) ** 2).sum() / larger**3
    edges = np.linspace(low, high, 9)
    middle = (edges[1:] + edges[:-1]) / 2
    errors = shell_error(middle, frequency, "moderate", background, 1080.0)
    shares = (edges[1] - edges[0]) / (2 * np.pi * larger / depth)
    # 4,512 modes stand for an integral of a function that falls steeply in k_perp.
    assert (shares / errors**2).sum() == pytest.approx(brute, rel=0.1)


def test_the_shipped_tables_are_what_the_code_makes():
    rows = [0, 40, 91]
    for scenario in SCENARIOS:
        shipped = shipped_table(scenario)
        assert shipped.hours == 1080.0
        np.testing.assert_allclose(shipped.frequency, FREQUENCIES, rtol=5e-6)
        made = ska_low_table(scenario, frequencies=FREQUENCIES[rows])
        for name, power in made.powers.items():
            # Four digits, five of k.
            np.testing.assert_allclose(shipped.powers[name][rows], power, rtol=6e-4)
    for call in (ska_low_table, shipped_table):
        with pytest.raises(ObservationError, match="optimistic or moderate; got 'pessimistic'"):
            call("pessimistic")
