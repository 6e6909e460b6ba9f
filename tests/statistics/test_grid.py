"""Statistics of periodic cubes and planes against exact answers."""

import math

import numpy as np
import pytest
import torch

from sbitools import seeds
from sbitools.errors import ShapeError
from sbitools.statistics import (
    cross_correlation,
    cross_power,
    noise_floor,
    pdf,
    plane_power_spectrum,
    power_spectrum,
    transfer_function,
)

N, L = 16, 40.0


def white(seed, n=N, batch=None):
    draw = seeds.normal([seed + i for i in range(batch or 1)], (n, n, n), torch.float64)
    return draw if batch else draw[0]


def every_mode(n=N, size=L):
    """One bin that holds every mode, the mean too."""
    return np.array([-1e-9, 2 * math.pi / size * n])


def test_white_noise_has_the_level_of_the_cell_volume():
    spectrum = power_spectrum(white(1, 24), L)
    level = (L / 24) ** 3
    # Half of the modes are independent, each with a relative scatter of 1: 5 sigma per bin, over
    # 12 bins, is a false-alarm rate below 1e-5; the seed is fixed.
    error = level / np.sqrt(spectrum.n_modes / 2)
    assert (np.abs(spectrum.power - level) < 5 * error).all()


@pytest.mark.parametrize("n", [15, 16])
def test_parseval_with_every_mode_counted_once(n):
    field = white(2, n)
    spectrum = power_spectrum(field, L, edges=every_mode(n))
    assert spectrum.n_modes[0] == n**3  # the weights of the real FFT are exact
    total = spectrum.power[0] * n**3 / L**3
    assert total == pytest.approx(float((field**2).mean()), rel=1e-12)  # rounding of one FFT


def test_mode_counts_are_those_of_a_direct_count():
    integers = np.fft.fftfreq(N, 1 / N)
    k = np.sqrt(sum(q**2 for q in np.meshgrid(integers, integers, integers)))
    spectrum = power_spectrum(white(3), L)
    for i in range(N // 2):
        inside = (k >= i + 0.5) & (k < i + 1.5)
        assert spectrum.n_modes[i] == inside.sum()
        assert spectrum.k[i] == pytest.approx(k[inside].mean() * 2 * math.pi / L)


@pytest.mark.parametrize("wave", [(3, 0, 0), (0, 0, 3), (1, 2, 2), (0, 3, 0)])
def test_a_plane_wave_is_in_one_bin_with_its_amplitude(wave):
    x = np.arange(N) / N
    phase = sum(w * q for w, q in zip(wave, np.meshgrid(x, x, x, indexing="ij"), strict=True))
    spectrum = power_spectrum(0.7 * np.cos(2 * np.pi * phase + 0.4), L)
    variance = spectrum.power * spectrum.n_modes / L**3
    expected = np.zeros(N // 2)
    expected[2] = 0.7**2 / 2
    np.testing.assert_allclose(variance, expected, atol=1e-14)


def test_a_gaussian_field_has_the_power_it_was_made_with():
    n, mean = 24, []
    k = np.sqrt(sum(q**2 for q in np.meshgrid(*[np.fft.fftfreq(n, 1 / n)] * 3, indexing="ij")))
    k *= 2 * np.pi / L
    shape = np.where(k > 0, 5.0 / (1 + (2 * k) ** 2), 0)
    for seed in range(8):
        modes = np.fft.fftn(white(100 + seed, n).numpy()) * np.sqrt(shape * (n / L) ** 3)
        mean.append(power_spectrum(np.fft.ifftn(modes).real, L).power)
    spectrum = power_spectrum(white(1, n), L)
    bins = np.digitize(k * L / (2 * np.pi), np.arange(n // 2 + 1) + 0.5)
    expected = np.array([shape[bins == i + 1].mean() for i in range(n // 2)])
    error = expected / np.sqrt(spectrum.n_modes / 2 * 8)
    # P varies within the first bins, which widens the scatter by less than the 6 sigma allow.
    assert (np.abs(np.mean(mean, 0) - expected) < 6 * error).all()


def test_cic_window_is_divided_out_exactly():
    """A plane wave painted by CIC from a fine lattice keeps its amplitude after deconvolution."""
    fine, wave = 32 * N, 5
    x = np.arange(fine) / 32  # in cells
    mass = 1 + 0.1 * np.cos(2 * np.pi * wave * x / N)
    line = np.zeros(N)
    np.add.at(line, np.floor(x).astype(int) % N, mass * (1 - x % 1))
    np.add.at(line, (np.floor(x).astype(int) + 1) % N, mass * (x % 1))
    field = np.broadcast_to((line / 32)[:, None, None], (N, N, N))
    spectrum = power_spectrum(field, L, deconvolve_cic=True)
    variance = (spectrum.power * spectrum.n_modes)[wave - 1] / L**3
    # 32 points per cell are not a continuum: (s / sin s)^4 with s = 5 pi / 512 is 6e-4 off.
    assert variance == pytest.approx(0.1**2 / 2, rel=1e-3)
    blurred = power_spectrum(field, L)
    ratio = blurred.power[wave - 1] / spectrum.power[wave - 1]
    assert ratio == pytest.approx(np.sinc(wave / N) ** 4)


def test_transfer_and_correlation_of_known_pairs():
    a, b = white(5), white(6)
    _, transfer = transfer_function(3 * a, a, L)
    np.testing.assert_allclose(transfer, 3, rtol=1e-12)
    np.testing.assert_allclose(cross_correlation(a, -2 * a, L)[1], -1, rtol=1e-12)
    k, r = cross_correlation(a, 0.6 * a + 0.8 * b, L)
    scatter = 1 / np.sqrt(power_spectrum(a, L).n_modes / 2)
    assert (np.abs(r - 0.6) < 5 * scatter).all()
    assert (np.abs(r) <= 1 + 1e-12).all()
    assert (np.diff(k) > 0).all()


def test_a_batch_is_its_boxes_and_torch_is_numpy():
    fields = white(7, batch=3)
    batch = power_spectrum(fields.float(), L)
    assert batch.power.shape == (3, N // 2)
    one = power_spectrum(fields[1].float().numpy(), L)
    np.testing.assert_array_equal(batch.power[1], one.power)
    cross = cross_power(fields, fields.flip(0), L)
    np.testing.assert_allclose(cross.power[0], cross.power[2], rtol=1e-12)


def test_power_is_invariant_under_translation_and_permutation_of_axes():
    field = white(8).numpy()
    moved = np.roll(field, (3, 5, 7), (0, 1, 2)).transpose(2, 0, 1)
    expected = power_spectrum(field, L).power
    np.testing.assert_allclose(power_spectrum(moved, L).power, expected, rtol=1e-12)


def test_white_planes_have_the_level_of_the_cell_area():
    planes = seeds.normal(range(200), (24, 24), torch.float64)
    spectrum = plane_power_spectrum(planes, L)
    level = (L / 24) ** 2
    # At least 800 independent modes in a bin, nearly a normal mean: 6 sigma over 12 bins, 1e-7.
    error = level / np.sqrt(spectrum.n_modes / 2 * 200)
    assert (np.abs(spectrum.power.mean(0) - level) < 6 * error).all()


@pytest.mark.parametrize("n", [15, 16])
def test_parseval_of_planes(n):
    plane = seeds.normal([3], (n, n), torch.float64)[0]
    spectrum = plane_power_spectrum(plane, L, edges=every_mode(n))
    assert spectrum.n_modes[0] == n**2
    total = spectrum.power[0] * n**2 / L**2
    assert total == pytest.approx(float((plane**2).mean()), rel=1e-12)  # rounding of one FFT


@pytest.mark.parametrize("wave", [(3, 0), (0, 3), (2, 2), (-1, 3)])
def test_a_wave_in_a_plane_is_in_one_bin_with_its_amplitude(wave):
    x = np.arange(N) / N
    phase = wave[0] * x[:, None] + wave[1] * x
    spectrum = plane_power_spectrum(0.7 * np.cos(2 * np.pi * phase + 0.4), L)
    variance = spectrum.power * spectrum.n_modes / L**2
    expected = np.zeros(N // 2)
    expected[2] = 0.7**2 / 2
    np.testing.assert_allclose(variance, expected, atol=1e-14)


def test_three_axes_are_a_batch_of_planes_and_one_cube():
    field = white(12)
    assert plane_power_spectrum(field, L).power.shape == (N, N // 2)
    assert plane_power_spectrum(field[0], L).power.shape == (N // 2,)
    assert power_spectrum(field, L).power.shape == (N // 2,)
    with pytest.raises(ShapeError, match="squares"):
        plane_power_spectrum(field[None], L)


def test_power_of_a_shared_cache_cannot_be_spoilt():
    spectrum = power_spectrum(white(9), L)
    with pytest.raises(ValueError, match="read-only"):
        spectrum.k[0] = 0


def test_an_empty_bin_is_nan():
    edges = np.array([0.01, 0.02, 1.0])
    spectrum = power_spectrum(white(9), L, edges=edges)
    assert spectrum.n_modes[0] == 0
    assert np.isnan(spectrum.power[0])
    assert spectrum.k[0] == pytest.approx(0.015)


def test_pdf_of_known_values():
    field = np.zeros((2, 4, 4, 4))
    field[1, :2] = 1.5
    density = pdf(field, edges=np.array([-0.5, 0.5, 1.0]))
    np.testing.assert_allclose(density, [[1, 0], [0.5, 0]])  # half of the cells lie outside
    normal = pdf(white(10, 32), edges=np.linspace(-4, 4, 17))
    middle = np.linspace(-3.75, 3.75, 16)
    expected = np.exp(-(middle**2) / 2) / np.sqrt(2 * np.pi)
    # 32^3 cells: 5 sigma of a Poisson count, and 0.5 % of the peak for the curvature of a bin.
    allowed = 5 * np.sqrt(expected / (0.5 * 32**3)) + 0.005
    assert (np.abs(normal - expected) < allowed).all()


@pytest.mark.parametrize(
    "field",
    [
        np.zeros((4, 4)),
        np.zeros((4, 4, 5)),
        np.zeros((2, 3, 4, 4, 4)),
        np.zeros((4,) * 3, complex),
    ],
)
def test_other_shapes_are_refused(field):
    with pytest.raises(ShapeError, match="expected"):
        power_spectrum(field, L)


def test_pairs_of_different_shape_and_unsorted_edges_are_refused():
    with pytest.raises(ShapeError, match="second field"):
        cross_power(white(1), white(1, 8), L)
    with pytest.raises(ShapeError, match="ascending"):
        power_spectrum(white(1), L, edges=np.array([1.0, 0.5]))


def test_noise_floor_of_independent_draws():
    values = seeds.normal([11], (400, 3), torch.float64)[0].numpy() * 2 + 10
    floor = noise_floor(values, splits=400)
    assert floor.n == 400
    np.testing.assert_allclose(floor.error, floor.scatter / 20)
    # Means of two halves of N differ by 2 sigma / sqrt(N); splits of one set determine it to 4 %.
    np.testing.assert_allclose(floor.halves, 2 * floor.scatter / 20, rtol=0.2)
    np.testing.assert_allclose(floor.relative, floor.halves / floor.mean)
    again = noise_floor(values, splits=400)
    np.testing.assert_array_equal(floor.halves, again.halves)
    with pytest.raises(ShapeError, match="4 or more"):
        noise_floor(values[:3])
