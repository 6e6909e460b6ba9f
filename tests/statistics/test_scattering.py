"""Scattering coefficients of waves, whose coefficients are known, and their symmetries."""

import math

import numpy as np
import pytest
import torch

from sbitools import seeds
from sbitools.errors import ConfigError, ShapeError
from sbitools.statistics import plane_power_spectrum, scattering, scattering_2d, scattering_3d

# One FFT after the other in double precision, and a logarithm: far below any use of these numbers.
ROUNDING = {"rtol": 0, "atol": 1e-11}


def noise(seed, *shape):
    return seeds.normal([seed], shape, torch.float64)[0].numpy()


def passed(f, j):
    """psi_j at f cycles per cell, along its direction: the formula of the module."""
    return math.exp(-(math.log2(f / (0.35 / 2**j)) ** 2) / (2 * 0.45**2)) if f else 0.0


@pytest.mark.parametrize(("wave", "orientations"), [((3, 2), 4), ((5, 0), 4), ((-4, 1), 2)])
def test_a_plane_wave_has_one_amplitude_and_no_second_order(wave, orientations):
    n, amplitude = 32, 1.7
    x = np.arange(n) / n
    field = amplitude * np.cos(2 * np.pi * (wave[0] * x[:, None] + wave[1] * x) + 0.3)
    found = scattering_2d(field, 4, orientations, floor=1e-12)
    angle = math.atan2(*wave)
    # Either k or -k passes a filter, so that half the amplitude is left, the same in every cell.
    turns = [abs(math.cos(angle - math.pi * q / orientations)) for q in range(orientations)]
    directed = np.mean([c ** (orientations - 1) for c in turns])
    first = [amplitude / 2 * directed * passed(math.hypot(*wave) / n, j) for j in range(4)]
    np.testing.assert_allclose(np.exp(found[:4]), first, rtol=1e-9, atol=2e-12)
    # A constant modulus has no scale: what is left is rounding, over an S1 above 1e-6.
    assert (np.exp(found[4:]) * np.array(first)[np.triu_indices(4, 1)[0]] < 1e-11).all()


def test_a_wave_in_a_cube_has_the_coefficients_of_a_line():
    n = 24
    line = np.cos(2 * np.pi * 7 * np.arange(n) / n + 0.2) + 0.5 * np.cos(
        4 * np.pi * np.arange(n) / n
    )
    f = np.abs(np.fft.fftfreq(n))
    filters = [np.array([passed(q, j) for q in f]) for j in range(4)]

    def modulus(values, j):
        return np.abs(np.fft.ifft(np.fft.fft(values) * filters[j]).real)

    first = [modulus(line, j).mean() for j in range(4)]
    pairs = [(j, k) for j in range(4) for k in range(j + 1, 4)]
    second = [modulus(modulus(line, j), k).mean() / first[j] for j, k in pairs]
    for axes in [(0, 1, 2), (1, 0, 2), (1, 2, 0)]:
        field = np.broadcast_to(line[:, None, None], (n, n, n)).transpose(axes)
        found = scattering_3d(field, 4, floor=0.0)
        np.testing.assert_allclose(found, np.log(first + second), **ROUNDING)


@pytest.mark.parametrize(("n", "orientations"), [(16, 4), (15, 4), (16, 2), (16, 6)])
def test_planes_may_be_moved_turned_and_mirrored(n, orientations):
    plane = noise(1, n, n) ** 3
    expected = scattering_2d(plane, 3, orientations)
    moved = [np.roll(plane, (3, -5), (0, 1)), np.rot90(plane), np.rot90(plane, 2),
             plane.T, plane[::-1], plane[:, ::-1]]  # fmt: skip
    for same in moved:
        np.testing.assert_allclose(scattering_2d(same, 3, orientations), expected, **ROUNDING)


@pytest.mark.parametrize("n", [12, 13])
def test_cubes_may_be_moved_turned_and_mirrored(n):
    cube = noise(2, n, n, n) ** 3
    expected = scattering_3d(cube, 3)
    moved = [np.roll(cube, (3, -5, 2), (0, 1, 2)), np.rot90(cube), np.rot90(cube, axes=(1, 2)),
             cube.transpose(2, 0, 1), cube[:, ::-1]]  # fmt: skip
    for same in moved:
        np.testing.assert_allclose(scattering_3d(same, 3), expected, **ROUNDING)


@pytest.mark.parametrize(
    ("transform", "shape"), [(scattering_2d, (16, 16)), (scattering_3d, (12,) * 3)]
)
def test_the_mean_has_no_effect_and_the_amplitude_only_on_the_first_order(transform, shape):
    field = noise(3, *shape)
    expected = transform(field, 3, floor=0.0)
    np.testing.assert_allclose(transform(field + 50, 3, floor=0.0), expected, **ROUNDING)
    scaled = transform(4 * field, 3, floor=0.0)
    np.testing.assert_allclose(scaled - expected, [math.log(4)] * 3 + [0] * 3, **ROUNDING)


def test_the_second_order_sees_what_the_spectrum_does_not():
    spots = np.zeros((1, 64, 64))
    spots[0].flat[np.argsort(noise(4, 64 * 64))[:40]] = 1.0
    phases = np.angle(np.fft.fft2(seeds.normal(range(30), (64, 64), torch.float64).numpy()))
    gaussian = np.fft.ifft2(np.abs(np.fft.fft2(spots)) * np.exp(1j * phases)).real
    same = plane_power_spectrum(spots, 64.0).power[0]
    np.testing.assert_allclose(plane_power_spectrum(gaussian, 64.0).power[0], same, rtol=1e-10)
    cloud, found = scattering_2d(gaussian)[:, 5:], scattering_2d(spots)[0, 5:]
    assert cloud.shape == (30, 10)
    # Far outside what Gaussian fields of this spectrum have, for the pairs of fine scales.
    assert (np.abs(found - cloud.mean(0)) / cloud.std(0))[:3].min() > 10


@pytest.mark.parametrize(
    ("transform", "shape"), [(scattering_2d, (16, 16)), (scattering_3d, (12,) * 3)]
)
def test_a_batch_is_its_fields_whatever_its_parts(transform, shape, monkeypatch):
    fields = seeds.normal(range(3), shape, torch.float32)
    batch = transform(fields, 3)
    assert batch.shape == (3, 6)
    assert batch.dtype == np.float64
    np.testing.assert_allclose(transform(fields[1].numpy(), 3), batch[1], **ROUNDING)
    whole = scattering.parts
    monkeypatch.setattr(scattering, "parts", lambda n, size: whole(n, size, memory=1))
    np.testing.assert_allclose(transform(fields, 3), batch, **ROUNDING)


def test_a_constant_field_is_finite():
    # Rounding of the FFT of a constant is below the floor.
    np.testing.assert_allclose(scattering_2d(np.full((16, 16), 3.0), 3, floor=1e-6),
                               [math.log(1e-6)] * 3 + [0] * 3, atol=1e-6)  # fmt: skip


def test_what_cannot_be_measured_is_refused():
    plane, cube = np.zeros((32, 32)), np.zeros((8, 8, 8))
    assert scattering_2d(plane, 4).shape == (10,)
    with pytest.raises(ConfigError, match="1 to 4 octaves"):
        scattering_2d(plane)
    with pytest.raises(ConfigError, match="n_scales"):
        scattering_3d(cube, 0)
    with pytest.raises(ConfigError, match="even"):
        scattering_2d(plane, 4, 3)
    with pytest.raises(ShapeError, match="field"):
        scattering_2d(plane[:, 1:])
    with pytest.raises(ShapeError, match="field"):
        scattering_3d(plane)
