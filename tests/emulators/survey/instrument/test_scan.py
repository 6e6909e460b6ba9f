"""Scans: geometry of the circles, coverage, symmetry, and the polarisation angle."""

import healpy
import numpy as np
import pytest

from emulators.survey.instrument import scan as module
from emulators.survey.instrument.scan import SCAN_ANGLES, Scan
from sbitools.errors import ConfigError

TILT = {"planck": 7.5, "litebird": 45.0}


@pytest.mark.parametrize("strategy", SCAN_ANGLES)
@pytest.mark.parametrize("frame", ["galactic", "ecliptic"])
def test_samples_lie_on_circles_around_the_axes(strategy, frame):
    scan = Scan(strategy, n_rings=40, samples=64, frame=frame)
    for angle in (None, 70.0):
        v, axes = scan.directions(angle), scan.axes()
        assert v.shape == (40, 64, 3)
        np.testing.assert_allclose(np.linalg.norm(v, axis=-1), 1, atol=1e-14)
        expected = np.cos(np.deg2rad(SCAN_ANGLES[strategy] if angle is None else angle))
        np.testing.assert_allclose(np.einsum("rsk,rk->rs", v, axes), expected, atol=1e-14)
        # Samples are equally spaced, so their mean is the centre of the circle.
        np.testing.assert_allclose(v.mean(axis=1), expected * axes, atol=1e-14)


@pytest.mark.parametrize("strategy", SCAN_ANGLES)
def test_the_axis_follows_the_sun(strategy):
    axes = Scan(strategy, n_rings=720, samples=4, frame="ecliptic").axes()
    lon = 2 * np.pi * (np.arange(720) + 0.5) / 720
    away = np.stack([np.cos(lon), np.sin(lon), np.zeros(720)], axis=1)
    apart = np.rad2deg(np.arccos(np.clip((axes * away).sum(axis=1), -1, 1)))
    # On a sphere Planck's cycloid, a circle in longitude and latitude, is round to a percent.
    tolerance = 0.03 if strategy == "planck" else 1e-9
    np.testing.assert_allclose(apart, TILT[strategy], atol=tolerance)
    latitude = np.rad2deg(np.arcsin(axes[:, 2]))
    assert latitude.max() == pytest.approx(TILT[strategy], abs=0.1)
    assert latitude.min() == pytest.approx(-TILT[strategy], abs=0.1)


@pytest.mark.parametrize("strategy", SCAN_ANGLES)
def test_the_whole_sky_is_seen(strategy):
    hits = Scan(strategy).pointing(16).hits()
    assert hits.sum() == 512 * 256
    assert hits.min() > 0


def test_a_narrow_circle_misses_the_ecliptic_poles():
    # The boresight's ecliptic latitude is at most 75 + 7.5 degrees, and once in a turn near 75.
    hits = Scan(frame="ecliptic", n_rings=1024, samples=1024).pointing(16, 75.0).hits()
    theta, _ = healpy.pix2ang(16, np.arange(3072), nest=True)
    latitude = 90 - np.rad2deg(theta)
    radius = np.rad2deg(healpy.max_pixrad(16))
    assert not hits[np.abs(latitude) > 82.5 + radius].any()
    assert hits[np.abs(latitude) < 75 - radius].all()


def test_hits_repeat_after_half_a_year():
    # Planck's axis is opposite after six months, at the same latitude: the sky turns by 180 deg.
    hits = Scan(frame="ecliptic").pointing(16).hits()
    theta, phi = healpy.pix2ang(16, np.arange(3072), nest=True)
    turned = hits[healpy.ang2pix(16, theta, phi + np.pi, nest=True)]
    # A sample on a pixel's edge may go to either side.
    assert np.abs(hits - turned).sum() < 1e-3 * hits.sum()
    quarter = hits[healpy.ang2pix(16, theta, phi + np.pi / 2, nest=True)]
    assert np.abs(hits - quarter).sum() > 0.01 * hits.sum()


@pytest.mark.parametrize("strategy", SCAN_ANGLES)
def test_time_spent_at_ecliptic_latitudes(strategy):
    scan = Scan(strategy, frame="ecliptic")
    angle, height = np.deg2rad(SCAN_ANGLES[strategy]), scan.axes()[:, 2]
    # Mean of z^2 over a circle of opening angle a around an axis of height h.
    exact = (np.cos(angle) ** 2 * height**2 + np.sin(angle) ** 2 * (1 - height**2) / 2).mean()
    z = healpy.pix2vec(64, np.arange(12 * 64**2), nest=True)[2]
    hits = scan.pointing(64).hits()
    # Pixel centres are off by at most 1 degree, and on average not at all.
    assert (hits * z**2).sum() / hits.sum() == pytest.approx(exact, abs=2e-3)
    assert (hits * z).sum() / hits.sum() == pytest.approx(0, abs=2e-3)


@pytest.mark.parametrize("strategy", SCAN_ANGLES)
@pytest.mark.parametrize("frame", ["galactic", "ecliptic"])
def test_polarisation_angle_against_finite_differences(strategy, frame):
    scan = Scan(strategy, n_rings=64, samples=4096, frame=frame)
    theta, phi = healpy.vec2ang(scan.directions().reshape(-1, 3))
    theta, phi = theta.reshape(64, 4096), phi.reshape(64, 4096)
    ahead = np.roll(theta, -1, axis=1), np.roll(phi, -1, axis=1)
    behind = np.roll(theta, 1, axis=1), np.roll(phi, 1, axis=1)
    south = ahead[0] - behind[0]
    east = np.sin(theta) * np.remainder(ahead[1] - behind[1] + np.pi, 2 * np.pi)
    east -= np.sin(theta) * np.pi
    psi = scan.pointing(4).psi
    error = np.abs(np.angle(np.exp(1j * (np.arctan2(east, south) - psi))))
    away = np.sin(theta) > 0.1  # next to the poles a step of 1.5e-3 rad is not small
    assert away.mean() > 0.95
    assert error[away].max() < 1e-3  # (step / sin(theta))^2, with room
    # The mirrored convention would be off by 2 psi.
    assert np.abs(np.angle(np.exp(1j * (np.arctan2(-east, south) - psi)))).max() > 1


def test_frames_are_turned_against_each_other():
    galactic, ecliptic = (
        Scan(n_rings=32, samples=16),
        Scan(n_rings=32, samples=16, frame="ecliptic"),
    )
    turn = healpy.Rotator(coord=["E", "G"])
    expected = np.array(turn(ecliptic.directions().reshape(-1, 3).T)).T
    np.testing.assert_allclose(galactic.directions().reshape(-1, 3), expected, atol=1e-12)
    # The north ecliptic pole is at l = 96.384, b = 29.811 deg; the mean axis is normal to it.
    pole = healpy.ang2vec(96.384, 29.811, lonlat=True)
    heights = galactic.axes() @ pole
    np.testing.assert_allclose(heights, ecliptic.axes()[:, 2], atol=1e-5)


def test_bits_do_not_depend_on_the_chunks(monkeypatch):
    scan = Scan(n_rings=33, samples=32)
    whole = scan.pointing(8)
    monkeypatch.setattr(module, "_CHUNK", 100)
    parts = scan.pointing(8)
    assert np.array_equal(whole.pixels, parts.pixels)
    assert np.array_equal(whole.psi, parts.psi)
    assert whole.pixels.dtype == np.int32
    assert whole.psi.dtype == np.float32


def test_pixels_are_nested():
    scan = Scan(n_rings=8, samples=16)
    x, y, z = scan.directions().T
    assert np.array_equal(scan.pointing(8).pixels.T, healpy.vec2pix(8, x, y, z, nest=True))


def test_circles_fill_the_year():
    for strategy, period in (("planck", 60.0), ("litebird", 1200.0)):
        scan = Scan(strategy, n_rings=100, samples=50, years=2.0)
        assert scan.sample_interval * 50 == pytest.approx(period)
        assert scan.ring_interval * 100 == pytest.approx(2 * 365.25)
        assert scan.circles * period * 100 == pytest.approx(2 * 365.25 * 86400)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"strategy": "cobe"},
            "Scan strategy: expected one of .*'litebird', 'planck'.*got 'cobe'",
        ),
        ({"n_rings": 0}, "Scan n_rings: expected an integer from 1; got 0"),
        ({"samples": 2.5}, "Scan samples: expected an integer from 4; got 2.5"),
        ({"frame": "equatorial"}, "Scan frame: expected 'galactic' or 'ecliptic'"),
        ({"years": float("nan")}, "Scan years: expected positive; got nan"),
    ],
)
def test_wrong_arguments(wrong, message):
    with pytest.raises(ConfigError, match=message):
        Scan(**wrong)


@pytest.mark.parametrize("angle", [0.0, 180.0, float("nan"), -5])
def test_wrong_scan_angles(angle):
    with pytest.raises(ConfigError, match="scan_angle: expected degrees between 0 and 180"):
        Scan(n_rings=4, samples=8).pointing(4, angle)


def test_wrong_nside():
    with pytest.raises(ConfigError, match="nside: expected a power of two; got 12"):
        Scan(n_rings=4, samples=8).pointing(12)
