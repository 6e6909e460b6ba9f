"""Cylindrical spectra of noise, waves and chunks of light cones."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from sbitools import seeds
from sbitools.errors import ConfigError, ShapeError
from sbitools.statistics import cylindrical_power
from sbitools.statistics.cylindrical import taper

N, LOS, CELL = 10, 24, 1.5
EVERY = np.array([-1e-9, 1e9])  # one bin for every mode
WINDOWS = [None, "hann", "blackman-harris"]


def white(seed, *shape):
    return seeds.normal([seed], shape, torch.float64)[0].numpy()


def along(n, cell=CELL):
    """One bin per mode of the line of sight."""
    return (np.arange(n // 2 + 2) - 0.5) * 2 * math.pi / (n * cell)


@pytest.mark.parametrize("window", WINDOWS)
def test_white_noise_has_the_level_of_the_cell_volume(window):
    cones = white(1, 60, N, N, LOS)
    perp = np.array([0.2, 0.9, 2.0, 3.5])
    found = cylindrical_power(
        cones, CELL, edges_perp=perp, edges_par=along(12), window=window, chunks=[0, 12, 24]
    )
    level = CELL**3
    independent = found.n_modes / 2 * 60
    assert independent.min() >= 360
    # Within a bin along the line of sight modes are +k and -k, or a single one: these only mix
    # next to k = 0 and Nyquist, which at most doubles the variance there. 6 sigma of that, 1e-6.
    error = level * np.sqrt(2 / independent)
    assert (np.abs(found.power.mean(0) - level) < 6 * error).all()


@pytest.mark.parametrize(("n", "length"), [(10, 24), (9, 23)])
@pytest.mark.parametrize("window", WINDOWS)
def test_parseval_of_every_chunk(n, length, window):
    cone = white(2, n, n, length)
    cuts = [2, 9, 20]
    found = cylindrical_power(
        cone, CELL, edges_perp=EVERY, edges_par=EVERY, window=window, chunks=cuts
    )
    for i, (start, stop) in enumerate(pairwise(cuts)):
        size = stop - start
        assert found.n_modes[i, 0, 0] == n * n * size
        total = found.power[i, 0, 0] * found.n_modes[i, 0, 0] / (n * n * size * CELL**3)
        part = cone[..., start:stop] * taper(size, window)
        assert total == pytest.approx((part**2).mean(), rel=1e-12)  # rounding of one FFT


@pytest.mark.parametrize(
    ("window", "shares"),
    [
        (None, [1]),
        ("hann", [2 / 3, 1 / 6]),
        ("blackman-harris", [0.35875**2, 0.48829**2 / 4, 0.14128**2 / 4, 0.01168**2 / 4]),
    ],
)
def test_a_wave_is_in_its_bin_and_spreads_by_the_series_of_the_taper(window, shares):
    los_wave = 6
    x, z = np.arange(N) / N, np.arange(LOS) / LOS
    phase = (2 * x[:, None] + x)[..., None] + los_wave * z
    perp = np.array([0.0, 2.1, 2.4, 8.0]) * 2 * math.pi / (N * CELL)  # sqrt 5 is in the second
    found = cylindrical_power(
        0.7 * np.cos(2 * np.pi * phase + 0.4),
        CELL,
        edges_perp=perp,
        edges_par=along(LOS),
        window=window,
    )
    variance = (found.power * found.n_modes)[0] / (N * N * LOS * CELL**3)
    expected = np.zeros((3, LOS // 2 + 1))
    total = shares[0] + 2 * sum(shares[1:])
    for i, share in enumerate(shares):
        expected[1, [los_wave - i, los_wave + i]] = 0.7**2 / 2 * share / total
    np.testing.assert_allclose(variance, expected, atol=1e-14)
    assert found.k_perp[1] == pytest.approx(math.hypot(2, 1) * 2 * math.pi / (N * CELL))
    np.testing.assert_allclose(found.k_par[0], np.arange(13) * 2 * math.pi / (LOS * CELL))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("n", [1, 15, 16])
def test_tapers_are_symmetric_and_of_unit_mean_square(window, n):
    weights = taper(n, window)
    np.testing.assert_allclose(weights, weights[::-1], atol=1e-14)
    assert (weights**2).mean() == pytest.approx(1, rel=1e-14)
    assert weights[n // 2] == weights.max()


def test_a_taper_keeps_the_power_of_an_open_wave_from_leaking():
    z = np.cos(2 * np.pi * 2.5 * np.arange(64) / 64)
    cone = np.broadcast_to(z, (4, 4, 64))
    edges = {"edges_perp": EVERY, "edges_par": along(64, 1.0)}
    power = {w: cylindrical_power(cone, 1.0, window=w, **edges).power[0, 0] for w in WINDOWS}
    leaked = {w: p[20:].max() / p.max() for w, p in power.items()}
    assert leaked[None] > 1e-4  # falls as a power of k
    assert leaked["hann"] < 1e-6
    assert leaked["blackman-harris"] < 10**-9  # side lobes at -92 dB


def test_chunks_are_light_cones_of_their_own():
    cone = white(3, 2, N, N, LOS)
    perp, par = np.array([0.1, 1.0, 3.0]), np.array([0.0, 0.5, 1.0, 2.0])
    found = cylindrical_power(
        torch.from_numpy(cone).float(),
        CELL,
        edges_perp=perp,
        edges_par=par,
        window="hann",
        chunks=[0, 10, 24],
    )
    assert found.power.shape == (2, 2, 2, 3)
    assert found.power.dtype == np.float64
    for i, (start, stop) in enumerate([(0, 10), (10, 24)]):
        alone = cylindrical_power(
            cone[1, ..., start:stop].astype(np.float32),
            CELL,
            edges_perp=perp,
            edges_par=par,
            window="hann",
        )
        np.testing.assert_allclose(found.power[1, i], alone.power[0], rtol=1e-12)
        np.testing.assert_allclose(found.k_par[i], alone.k_par[0])
        np.testing.assert_array_equal(found.n_modes[i], alone.n_modes[0])


def test_a_bin_without_modes_is_nan_with_its_middle():
    found = cylindrical_power(
        white(6, N, N, LOS), CELL, edges_perp=EVERY, edges_par=along(LOS), chunks=[0, 8]
    )
    filled = np.arange(13) % 3 == 0  # a third of the length has every third mode
    np.testing.assert_array_equal(np.isnan(found.power[0, 0]), ~filled)
    np.testing.assert_array_equal(found.n_modes[0, 0] == 0, ~filled)
    np.testing.assert_allclose(found.k_par[0], np.arange(13) * 2 * math.pi / (LOS * CELL))


def test_cells_may_have_another_size_along_the_line_of_sight():
    cone = white(4, N, N, LOS)
    perp, par = np.array([0.1, 1.0, 3.0]), np.array([0.0, 0.5, 1.0, 2.0])
    found = cylindrical_power(cone, (2.0, 0.5), edges_perp=perp / 2, edges_par=par * 2)
    unit = cylindrical_power(cone, 1.0, edges_perp=perp, edges_par=par)
    np.testing.assert_allclose(found.power, unit.power * 2.0**2 * 0.5)
    np.testing.assert_allclose(found.k_perp, unit.k_perp / 2)
    np.testing.assert_allclose(found.k_par, unit.k_par * 2)


def test_a_batch_in_parts_is_the_same(monkeypatch):
    from sbitools.statistics import cylindrical

    cones = white(5, 3, N, N, LOS)
    edges = {"edges_perp": np.array([0.1, 1.0]), "edges_par": along(LOS)}
    expected = cylindrical_power(cones, CELL, **edges).power
    whole = cylindrical.parts
    monkeypatch.setattr(cylindrical, "parts", lambda n, size: whole(n, size, memory=1))
    np.testing.assert_array_equal(cylindrical_power(cones, CELL, **edges).power, expected)


def test_what_cannot_be_measured_is_refused():
    cone, k = np.zeros((4, 4, 8)), np.array([0.0, 1.0])
    for field in (np.zeros((4, 5, 8)), np.zeros((4, 4)), cone.astype(complex)):
        with pytest.raises(ShapeError, match="light cones"):
            cylindrical_power(field, 1.0, edges_perp=k, edges_par=k)
    for name, edges in {"edges_perp": (k[::-1], k), "edges_par": (k, k[::-1])}.items():
        with pytest.raises(ShapeError, match=name):
            cylindrical_power(cone, 1.0, edges_perp=edges[0], edges_par=edges[1])
    for chunks in ([0], [0, 9], [4, 4], [-1, 4], [0.0, 4.0], [4, 2]):
        with pytest.raises(ShapeError, match="chunks"):
            cylindrical_power(cone, 1.0, edges_perp=k, edges_par=k, chunks=chunks)
    with pytest.raises(ConfigError, match="window"):
        cylindrical_power(cone, 1.0, edges_perp=k, edges_par=k, window="hamming")  # type: ignore[arg-type]
