"""Minkowski functionals: fields whose level lines are known, and Gaussian maps."""

import math

import healpy
import numpy as np
import pytest

from sbitools.errors import ConfigError, ShapeError
from sbitools.statistics import gaussian_minkowski, minkowski_functionals, spectral_moments

NU = np.linspace(-3, 3, 25)


def directions(nside, nest=False):
    return np.array(healpy.pix2vec(nside, np.arange(12 * nside**2), nest=nest))


def spectrum(nside):
    """Power at l from 6 to 2 nside, so that a map has many independent patches."""
    degree = np.arange(2 * nside + 1)
    return (degree >= 6) * np.exp(-((degree / (0.8 * nside)) ** 2)) / (degree + 1)


def gaussian_maps(seed, cl, nside, n):
    """Maps (n, n_pixels) with exactly the spectrum C_l, in ring order."""
    rng, lmax = np.random.default_rng(seed), len(cl) - 1
    degree, order = healpy.Alm.getlm(lmax)
    maps = np.empty((n, 12 * nside**2))
    for row in maps:
        alm = rng.standard_normal((2, degree.size)) / np.sqrt(2)
        alm[:, order == 0] *= np.array([[np.sqrt(2)], [0]])
        scaled = (alm[0] + 1j * alm[1]) * np.sqrt(cl[degree])
        row[:] = healpy.alm2map(scaled, nside, lmax=lmax, pol=False)
    return maps


def test_circles_around_any_axis():
    axes = np.random.default_rng(1).standard_normal((50, 3))
    fields = (axes / np.linalg.norm(axes, axis=1, keepdims=True)) @ directions(32)
    nu = np.array([-0.6, -0.3, 0.0, 0.3, 0.6])
    found = minkowski_functionals(fields, nu, ordering="ring", absolute=True, width=0.1)
    # {u > nu} is a cap: its area, the length of its edge and that times the curvature, over 4 pi.
    # Pixels are on a grid: 50 axes leave 0.25 % of it.
    assert np.abs(found.v0.mean(0) - (1 - nu) / 2).max() < 1e-4
    assert np.abs(8 * found.v1.mean(0) - np.sqrt(1 - nu**2)).max() < 4e-3
    assert np.abs(4 * np.pi * found.v2.mean(0) - nu).max() < 2e-3
    assert np.allclose(found.sigma0, 1 / math.sqrt(3), rtol=1e-4)  # the mean over pixel centres
    assert np.allclose(found.sigma1, math.sqrt(2 / 3), rtol=1e-4)  # |grad u|^2 = 1 - u^2


def test_derivatives_of_a_cubic_polynomial():
    """The integrands of V1 and V2, pixel by pixel, against the projected Cartesian Hessian."""
    nside = 16
    x, y, z = n = directions(nside)
    field, zero = x * x * z + 0.3 * y, np.zeros_like(x)
    gradient = np.array([2 * x * z, zero + 0.3, x * x])
    hessian = np.array([[2 * z, zero, 2 * x], [zero, zero, zero], [2 * x, zero, zero]])
    theta, phi = healpy.pix2ang(nside, np.arange(len(x)))
    south = np.array([np.cos(theta) * np.cos(phi), np.cos(theta) * np.sin(phi), -np.sin(theta)])
    east = np.array([-np.sin(phi), np.cos(phi), zero])
    one, two, radial = ((gradient * e).sum(0) for e in (south, east, n))

    def second(a, b):
        return np.einsum("ip,ijp,jp->p", a, hessian, b) - (a * b).sum(0) * radial

    bend = 2 * one * two * second(south, east) - one**2 * second(east, east)
    bend = (bend - two**2 * second(south, south)) / (one**2 + two**2)
    for pixel in range(0, len(x), 67):
        weights = np.full_like(x, 1e-12)
        weights[pixel] = 1
        found = minkowski_functionals(
            field[None], [0.0], ordering="ring", absolute=True, width=100.0, lmax=8, mask=weights
        )  # one bin holds every pixel; the rest of the sky weighs 3e-9
        slope = np.hypot(one, two)[pixel]
        assert found.v1[0, 0] == pytest.approx(slope / 400, abs=2e-11)
        # The transform's 1e-10 is divided by slopes down to 0.01.
        assert found.v2[0, 0] == pytest.approx(bend[pixel] / (200 * np.pi), abs=1e-9)


def against_theory(maps):
    """Measured curves, and theory of each map's own sigma0 and sigma1: three of (n, n_nu) each."""
    found = minkowski_functionals(maps, NU, ordering="ring")
    curves = [gaussian_minkowski(NU, *s, width=0.25) for s in zip(*found[4:], strict=True)]
    return (found.v0, found.v1, found.v2), [np.array(c) for c in zip(*curves, strict=True)]


@pytest.mark.parametrize(("nside", "n"), [(16, 400), (32, 100)])
def test_gaussian_maps_follow_the_theory(nside, n):
    maps = gaussian_maps(2, spectrum(nside), nside, n)
    for measured, theory in zip(*against_theory(maps), strict=True):
        peak = np.abs(theory.mean(0)).max()
        error = (measured - theory).std(0, ddof=1) / n**0.5
        # 7 standard errors are 1e-10 for Student's t with 99 degrees of freedom, 150 times; the
        # scaling by each map's own standard deviation and the grid shift curves by 0.2 %.
        assert (np.abs((measured - theory).mean(0)) < 7 * error + 0.002 * peak).all()
        amplitude = (measured * theory).sum(1) / (theory**2).sum(1)
        assert abs(amplitude.mean() - 1) < 0.02
        assert amplitude.std() / n**0.5 < 0.02 / 7  # so that this, too, is no matter of chance


def test_maps_that_are_not_gaussian_do_not_follow_it():
    cl = spectrum(16)
    maps = np.exp(0.5 * gaussian_maps(3, cl, 16, 20) / spectral_moments(cl)[0])
    for measured, theory in zip(*against_theory(maps), strict=True):
        error = (measured - theory).std(0, ddof=1) / 20**0.5
        far = np.abs((measured - theory).mean(0))
        assert (far > 10 * error + 0.05 * np.abs(theory.mean(0)).max()).any()


def test_theory_curves():
    v0, v1, v2 = gaussian_minkowski(np.array([-1.0, 0.0, 1.0]), 2.0, 6.0)
    assert v0 == pytest.approx([0.841344746, 0.5, 0.158655254])
    assert v1 == pytest.approx(3 / math.sqrt(128) * np.exp([-0.5, 0, -0.5]))
    assert v2 == pytest.approx(4.5 / (2 * math.pi) ** 1.5 * np.exp(-0.5) * np.array([-1, 0, 1]))
    narrow = gaussian_minkowski(np.array([-1.0, 0.0, 1.0]), 2.0, 6.0, width=1e-4)
    assert np.allclose(narrow, [v0, v1, v2], rtol=0, atol=1e-8)


def test_moments_of_a_spectrum():
    sigma0, sigma1 = spectral_moments(np.array([[9.0, 0, 1], [0, 2, 0]]))
    assert sigma0 == pytest.approx(np.sqrt(np.array([5, 6]) / (4 * np.pi)))
    assert sigma1 == pytest.approx(np.sqrt(np.array([30, 12]) / (4 * np.pi)))


def test_units_ordering_and_absolute_thresholds():
    maps = gaussian_maps(4, spectrum(8), 8, 2)
    first = minkowski_functionals(maps, NU, ordering="ring")
    other = minkowski_functionals(5 * maps - 3, NU, ordering="ring")
    nested = maps[:, healpy.nest2ring(8, np.arange(768))]
    for found in (other, minkowski_functionals(nested, NU, ordering="nested")):
        for name in ("v0", "v1", "v2"):  # rounding may carry a pixel over the edge of a bin
            assert np.abs(getattr(found, name) - getattr(first, name)).max() < 5e-2
    assert other.sigma1 == pytest.approx(5 * first.sigma1)
    shifted = 5 * maps[:1] - 3
    levels = shifted.mean() + other.sigma0[0] * NU
    found = minkowski_functionals(shifted, levels, ordering="ring", absolute=True)
    assert np.abs(found.v0[0] - other.v0[0]).max() < 5e-3  # a pixel or two
    assert np.abs(found.v1[0] - other.v1[0]).max() < 5e-2


def test_mask_chooses_the_pixels_that_count():
    maps = gaussian_maps(5, spectrum(16), 16, 3)
    whole = minkowski_functionals(maps, NU, ordering="ring")
    same = minkowski_functionals(maps, NU, ordering="ring", mask=np.full(3072, 0.5))
    assert np.allclose(whole.v2, same.v2, rtol=0, atol=1e-10)
    north = np.arange(3072) < 1536
    halves = [
        minkowski_functionals(maps, NU, ordering="ring", mask=m, absolute=True)
        for m in (north, ~north)
    ]
    together = minkowski_functionals(maps, NU, ordering="ring", absolute=True)
    for name in ("v0", "v1", "v2"):  # the mean of the halves, but for pixels at the edge of a bin
        mean = (getattr(halves[0], name) + getattr(halves[1], name)) / 2
        assert np.abs(mean - getattr(together, name)).max() < 0.05
    hidden = maps.copy()
    hidden[:, 3000:] = healpy.UNSEEN
    hidden[0, 3071] = np.nan
    found = minkowski_functionals(hidden, NU, ordering="ring", mask=north)
    kept = minkowski_functionals(maps, NU, ordering="ring", mask=north)
    assert np.abs(found.v0 - kept.v0).max() < 0.02  # the hole is far from the northern half


@pytest.mark.parametrize("value", [np.nan, -np.inf, healpy.UNSEEN])
def test_pixels_that_are_no_numbers(value):
    maps = gaussian_maps(6, spectrum(8), 8, 2)
    maps[0, 9] = value
    with pytest.raises(ShapeError, match="1 of 1536"):
        minkowski_functionals(maps, NU, ordering="ring")


@pytest.mark.parametrize("shape", [(768,), (2, 700), (2, 2, 768), (0, 768)])
def test_wrong_shapes(shape):
    with pytest.raises(ShapeError, match="maps"):
        minkowski_functionals(np.ones(shape), NU, ordering="ring")
    with pytest.raises(ShapeError, match="maps"):
        minkowski_functionals(np.ones(shape), NU, ordering="ring", mask=np.ones(shape[-1]))


def test_wrong_arguments():
    maps = gaussian_maps(7, spectrum(8), 8, 1)
    with pytest.raises(ShapeError, match="constant"):
        minkowski_functionals(np.full((1, 768), 3.0), NU, ordering="ring")
    with pytest.raises(ShapeError, match="weights"):
        minkowski_functionals(maps, NU, ordering="ring", mask=np.zeros(768))
    for nu in ([], [[0.0]], [np.nan, 0]):
        with pytest.raises(ShapeError, match="thresholds"):
            minkowski_functionals(maps, nu, ordering="ring")
    with pytest.raises(ConfigError, match="ordering"):
        minkowski_functionals(maps, NU, ordering="NESTED")
    for options in ({"width": 0.0}, {"width": -1.0}, {"lmax": 0}):
        with pytest.raises(ConfigError):
            minkowski_functionals(maps, NU, ordering="ring", **options)
    for nu in ([0.0], [0.0, 0.0]):
        with pytest.raises(ConfigError, match="width"):
            minkowski_functionals(maps, nu, ordering="ring")
