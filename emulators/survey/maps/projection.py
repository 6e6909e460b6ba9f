"""Nested HEALPix maps as pictures: numpy arrays, without plotting.

Longitude grows to the left, as seen from inside the sphere.
"""

from __future__ import annotations

import healpy
import numpy as np

from sbitools.statistics.sphere_maps import nside_of

__all__ = ["equal_area", "gnomonic", "mollweide"]


def equal_area(values: np.ndarray, size: int = 240) -> np.ndarray:
    """sin(latitude) from -1 to 1 by longitude from 180 to -180 degrees: no empty corners.

    Lambert's cylindrical projection keeps areas.

    Args:
        values: one map, (n_pixels,).
        size: points in longitude.

    Returns:
        Shape (size / 2, size), the south first.
    """
    phi = np.pi - (np.arange(size) + 0.5) / size * 2 * np.pi
    z = (np.arange(size // 2) + 0.5) / (size // 2) * 2 - 1
    nside, theta = nside_of(len(values)), np.arccos(z)[:, None]
    return np.asarray(values)[healpy.ang2pix(nside, theta, phi[None, :], nest=True)]


def mollweide(values: np.ndarray, size: int = 500) -> np.ndarray:
    """Mollweide's projection with longitude 0 in the middle; NaN outside the ellipse.

    Args:
        values: one map, (n_pixels,).
        size: points along the equator.

    Returns:
        Shape (size / 2, size), the south first.
    """
    x = (np.arange(size) + 0.5) / size * 2 - 1
    y = (np.arange(size // 2) + 0.5) / (size // 2) * 2 - 1
    auxiliary = np.arcsin(y)[:, None]
    latitude = np.arcsin((2 * auxiliary + np.sin(2 * auxiliary)) / np.pi)
    longitude = -np.pi * x[None, :] / np.cos(auxiliary)
    inside = np.abs(longitude) <= np.pi
    theta = np.broadcast_to(np.pi / 2 - latitude, longitude.shape)
    pixels = healpy.ang2pix(
        nside_of(len(values)), theta, np.where(inside, longitude, 0.0), nest=True
    )
    return np.where(inside, np.asarray(values)[pixels], np.nan)


def gnomonic(
    values: np.ndarray, longitude: float, latitude: float, width: float = 60.0, size: int = 200
) -> np.ndarray:
    """The sky around a point, as seen on a tangent plane.

    Q and U are turned from the local meridians to that of the centre: around a pole they would
    change sign every quarter of a turn for no other reason.

    Args:
        values: one scalar map, (n_pixels,), or Q and U, (2, n_pixels), as HEALPix defines them.
        longitude: of the centre, in degrees.
        latitude: of the centre, in degrees.
        width: of the picture in degrees, less than 180.
        size: points along a side.

    Returns:
        Shape (size, size), or (2, size, size) for Q and U; the south first.
    """
    lon, lat = np.deg2rad([longitude, latitude])
    centre = np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    east = np.array([-np.sin(lon), np.cos(lon), 0.0])
    north = np.cross(centre, east)
    reach = np.tan(np.deg2rad(width / 2))
    offset = ((np.arange(size) + 0.5) / size * 2 - 1) * reach
    v = centre - offset[None, :, None] * east + offset[:, None, None] * north
    nside = nside_of(np.shape(values)[-1])
    pixels = healpy.vec2pix(nside, v[..., 0], v[..., 1], v[..., 2], nest=True)
    picture = np.asarray(values)[..., pixels]
    if picture.ndim == 2:
        return picture
    # Angle of the local south, of the pixel's own meridian, from the plane's south towards east.
    theta, phi = healpy.pix2ang(nside, pixels, nest=True)
    south = np.stack(
        [np.cos(theta) * np.cos(phi), np.cos(theta) * np.sin(phi), -np.sin(theta)], axis=-1
    )
    turn = np.exp(2j * np.arctan2(south @ east, -(south @ north)))
    turned = (picture[0] + 1j * picture[1]) * turn
    return np.stack([turned.real, turned.imag])
