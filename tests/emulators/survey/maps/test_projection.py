"""Pictures of maps: the right pixel in the right place."""

from __future__ import annotations

import healpy
import numpy as np
import pytest

from emulators.survey.maps.projection import equal_area, gnomonic, mollweide

NSIDE = 16
PIXELS = np.arange(12 * NSIDE**2)
LON, LAT = healpy.pix2ang(NSIDE, PIXELS, nest=True, lonlat=True)


def value(lon, lat):
    return PIXELS[healpy.ang2pix(NSIDE, lon, lat, nest=True, lonlat=True)]


def test_equal_area_keeps_means_and_has_east_on_the_left():
    picture = equal_area(np.sin(np.deg2rad(LAT)) ** 2, 480)
    assert picture.shape == (240, 480)
    assert picture.mean() == pytest.approx(1 / 3, abs=2e-3)  # of the pixels' finite size
    numbers = equal_area(PIXELS, 360)
    assert numbers[90, 89] == value(90.5, np.rad2deg(np.arcsin(0.5 / 90)))
    assert np.array_equal(numbers[0, [10]], [value(169.5, np.rad2deg(np.arcsin(-89.5 / 90)))])


def test_mollweide_is_an_ellipse_around_the_origin():
    picture = mollweide(PIXELS.astype(float), 401)
    assert np.isnan(picture[0, 0])
    # pi / 4 of the rectangle
    assert np.isfinite(picture).mean() == pytest.approx(np.pi / 4, abs=0.01)
    assert picture[100, 200] == value(0.0, 0.25)
    assert picture[100, 100] == value(360 * 100 / 401, 0.25)  # to the left
    assert np.nanmean(mollweide(LAT, 400)[:100]) < 0 < np.nanmean(mollweide(LAT, 400)[100:])


@pytest.mark.parametrize("place", [(0.0, 90.0), (40.0, 0.0), (200.0, -41.8)])
def test_gnomonic_is_centred(place):
    picture = gnomonic(PIXELS, *place, width=40.0, size=101)
    vector = healpy.ang2vec(*place, lonlat=True)
    assert picture[50, 50] == healpy.vec2pix(NSIDE, *vector, nest=True)
    if place == (40.0, 0.0):
        # 20 degrees at the edges, whose centres of points are half a point inside
        edge = np.rad2deg(np.arctan(np.tan(np.deg2rad(20)) * 100 / 101))
        assert picture[50, 0] == value(40 + edge, 0.0)
        assert picture[100, 50] == value(40.0, edge)


def test_a_constant_direction_has_no_seam_at_the_pole():
    """Polarisation along one direction of the plane: Q = cos 2 psi turns with longitude."""
    angle = np.deg2rad(LON)
    # Along longitude 0 and 180, all the way across the pole: psi = -longitude from the meridian.
    values = np.stack([np.cos(2 * angle), -np.sin(2 * angle)])
    q, u = gnomonic(values, 0.0, 90.0, width=40.0, size=60)
    # The angle between meridians on the plane and on the sphere differs by less than 1e-2.
    assert np.abs(np.abs(q) - 1).max() < 0.02
    assert np.abs(u).max() < 0.2
    assert q.min() * q.max() > 0
    plain = gnomonic(values[0], 0.0, 90.0, width=40.0, size=60)
    assert plain.min() < -0.9 < 0.9 < plain.max()
    # Far from the poles the turn is small.
    far = gnomonic(np.ones((2, len(PIXELS))), 30.0, 0.0, width=10.0, size=20)
    assert np.abs(far - 1).max() < 0.05
