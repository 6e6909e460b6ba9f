"""Where a satellite looks, and how its detectors are turned, through a year of circles on the sky.

The boresight keeps a fixed angle to the spin axis and so draws circles; the axis moves slowly
through the year. A *ring* is the circle around the axis at one of `n_rings` equally spaced times:
all circles until the next ring are co-added into it. "planck" is the strategy of Planck (spin
axis opposite to the Sun, moved on a cycloid of 7.5 deg twice a year, 1 turn a minute, opening
angle 85 deg: Planck 2013 results I, arXiv:1303.5062). "litebird" has the angles and periods of
LiteBIRD (45 deg precession in 192.348 min, boresight at 50 deg, a turn in 20 min: PTEP 2023,
042F01, arXiv:2202.02773). Its axis moves during a turn; that the rings are closed circles is an
idealisation of ours.

The polarisation angle psi follows the HEALPix ("COSMO") convention: it is the angle of the
direction of motion from south (e_theta) towards east (e_phi), and a polarimeter turned by an
offset o against that direction measures I + Q cos 2(psi + o) + U sin 2(psi + o).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import healpy
import numpy as np

from sbitools.errors import ConfigError
from sbitools.statistics.sphere_maps import check_nside

__all__ = ["DAYS_PER_YEAR", "SCAN_ANGLES", "Frame", "Pointing", "Scan", "Strategy"]

Strategy = Literal["planck", "litebird"]
Frame = Literal["galactic", "ecliptic"]

DAYS_PER_YEAR = 365.25
SCAN_ANGLES: dict[str, float] = {"planck": 85.0, "litebird": 50.0}
"""Angle in degrees between spin axis and boresight."""

_SPIN_PERIOD = {"planck": 60.0, "litebird": 1200.0}  # seconds
_TILT = {
    "planck": 7.5,
    "litebird": 45.0,
}  # degrees between spin axis and the direction off the Sun
_PRECESSIONS = {"planck": 2.0, "litebird": DAYS_PER_YEAR * 1440 / 192.348}  # per year
_CHUNK = 1 << 18  # samples at once: what the temporary arrays hold


@dataclass(frozen=True, eq=False)
class Pointing:
    """Pixel and polarisation angle of every sample.

    Attributes:
        nside: of the pixels.
        pixels: nested, int32, shape (n_rings, samples).
        psi: in radians from south towards east, float32, shape (n_rings, samples).
    """

    nside: int
    pixels: np.ndarray
    psi: np.ndarray

    @property
    def n_pixels(self) -> int:
        """12 Nside^2."""
        return 12 * self.nside**2

    def hits(self) -> np.ndarray:
        """Samples per pixel (of one detector), int64, shape (n_pixels,)."""
        return np.bincount(self.pixels.reshape(-1), minlength=self.n_pixels)


@dataclass(frozen=True)
class Scan:
    """A scanning strategy.

    Args:
        strategy: ``"planck"`` or ``"litebird"``.
        n_rings: rings in the survey.
        samples: samples in each ring, equally spaced.
        frame: coordinates of maps: ``"galactic"`` or ``"ecliptic"``.
        years: length of the survey.

    Raises:
        ConfigError: for an argument that cannot be used.

    Example:
        >>> pointing = Scan(n_rings=64, samples=128).pointing(nside=4)
        >>> int(pointing.hits().sum())
        8192
    """

    strategy: Strategy = "planck"
    n_rings: int = 512
    samples: int = 256
    frame: Frame = "galactic"
    years: float = 1.0

    def __post_init__(self) -> None:
        rules = {
            "strategy": (self.strategy in SCAN_ANGLES, f"one of {sorted(SCAN_ANGLES)}"),
            "n_rings": (_whole(self.n_rings) and self.n_rings >= 1, "an integer from 1"),
            "samples": (_whole(self.samples) and self.samples >= 4, "an integer from 4"),
            "frame": (self.frame in ("galactic", "ecliptic"), "'galactic' or 'ecliptic'"),
            "years": (np.isfinite(self.years) and self.years > 0, "positive"),
        }
        for name, (ok, expected) in rules.items():
            if not ok:
                raise ConfigError(
                    f"Scan {name}", expected=expected, got=repr(getattr(self, name)),
                    fix=f"correct {name}",
                )  # fmt: skip

    @property
    def default_angle(self) -> float:
        """The strategy's own scan angle in degrees."""
        return SCAN_ANGLES[self.strategy]

    @property
    def ring_interval(self) -> float:
        """Days from one ring to the next."""
        return self.years * DAYS_PER_YEAR / self.n_rings

    @property
    def sample_interval(self) -> float:
        """Seconds from one sample to the next along a circle."""
        return _SPIN_PERIOD[self.strategy] / self.samples

    @property
    def circles(self) -> float:
        """Circles that are co-added into a ring."""
        return self.ring_interval * 86400 / _SPIN_PERIOD[self.strategy]

    def axes(self) -> np.ndarray:
        """Spin axis of every ring, unit vectors in `frame`, shape (n_rings, 3)."""
        return self._triads()[0]

    def directions(self, scan_angle: float | None = None) -> np.ndarray:
        """Unit vectors of all samples in `frame`, shape (n_rings, samples, 3)."""
        parts = [v for _, v, _ in self._sweep(scan_angle)]
        return np.moveaxis(np.concatenate(parts, axis=1), 0, -1)

    def pointing(self, nside: int, scan_angle: float | None = None) -> Pointing:
        """Pixels and polarisation angles.

        Args:
            nside: of the pixels, a power of two.
            scan_angle: degrees between spin axis and boresight; the strategy's own if None.

        Raises:
            ConfigError: for another nside, or an angle that is not between 0 and 180 degrees.
        """
        shape = (self.n_rings, self.samples)
        pixels, psi = np.empty(shape, np.int32), np.empty(shape, np.float32)
        check_nside(nside)
        for rings, v, t in self._sweep(scan_angle):
            pixels[rings] = healpy.vec2pix(nside, *v, nest=True)
            # t . e_theta = -t_z / sin(theta), since t is tangent; t . e_phi has the same divisor.
            psi[rings] = np.arctan2(v[0] * t[1] - v[1] * t[0], -t[2])
        return Pointing(int(nside), pixels, psi)

    def _triads(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Spin axes and two unit vectors normal to each, all (n_rings, 3), in `frame`."""
        t = (np.arange(self.n_rings) + 0.5) / self.n_rings * self.years
        tilt, phase = np.deg2rad(_TILT[self.strategy]), 2 * np.pi * _PRECESSIONS[self.strategy] * t
        lon = 2 * np.pi * t
        if self.strategy == "planck":
            lon, lat = lon + tilt * np.cos(phase), tilt * np.sin(phase)
        else:
            lon = lon + np.arctan2(np.sin(tilt) * np.sin(phase), np.cos(tilt))
            lat = np.arcsin(np.sin(tilt) * np.cos(phase))
        axis = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], 1)
        east = np.stack([-np.sin(lon), np.cos(lon), np.zeros_like(lon)], 1)
        turn = np.eye(3)
        if self.frame == "galactic":
            turn = np.asarray(healpy.Rotator(coord=["E", "G"]).mat)
        return axis @ turn.T, east @ turn.T, np.cross(axis, east) @ turn.T

    def _sweep(self, scan_angle: float | None) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Some rings at a time: directions and unit tangents, each (3, rings, samples)."""
        angle = np.deg2rad(self._check_angle(scan_angle))
        axis, first, second = (a.T[:, :, None] for a in self._triads())
        spin = 2 * np.pi * (np.arange(self.samples) + 0.5) / self.samples
        cos, sin = np.cos(spin), np.sin(spin)
        step = max(1, _CHUNK // self.samples)
        for start in range(0, self.n_rings, step):
            rings = slice(start, min(start + step, self.n_rings))
            u = first[:, rings] * cos + second[:, rings] * sin
            tangent = second[:, rings] * cos - first[:, rings] * sin
            yield rings, np.cos(angle) * axis[:, rings] + np.sin(angle) * u, tangent

    def _check_angle(self, scan_angle: float | None) -> float:
        angle = self.default_angle if scan_angle is None else float(scan_angle)
        if not 0 < angle < 180:
            raise ConfigError(
                "scan_angle", expected="degrees between 0 and 180", got=repr(scan_angle),
                fix="give the angle between spin axis and boresight",
            )  # fmt: skip
        return angle


def _whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
