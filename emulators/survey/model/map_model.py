"""What a fit finds: the model of the maps, whose Gaussian starts come from the scan's rings."""

from __future__ import annotations

import numpy as np

from emulators.methods.sky.model import SkyModel
from emulators.methods.sky.terms import DEGREE, curved, linear
from emulators.survey.instrument.geometry import RingGeometry

from .rings import RingModel

__all__ = ["MapModel"]


class MapModel(SkyModel):
    """Gaussian starts, the spread and mean of every pixel, and the targets of the statistics.

    Args:
        geometry: of the scan.
        nside: of the maps.
        lmax: of the sky that modulates the rings.
        n_parameters: of theta; the terms are 1, theta and, for the powers, its polynomials.
        levels: of the scattering covariance.
    """

    def __init__(
        self, geometry: RingGeometry, nside: int, lmax: int, n_parameters: int,
        levels: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(nside, n_parameters, levels)
        self.rings = RingModel(geometry, nside, lmax, 1 + DEGREE * n_parameters)

    @property
    def n_latent(self) -> int:
        """Standard normal numbers behind a map."""
        return sum(self.rings.latent_sizes)

    def scale(self, place: np.ndarray, scan_angle: float | None) -> np.ndarray:
        """Standard deviation of every pixel (2, pixels) at theta in the unit cube [-1, 1]."""
        return self.rings.scale(curved(place), scan_angle) * self.spread.numpy()

    def start(self, latent: np.ndarray, place: np.ndarray, scan_angle: float | None) -> np.ndarray:
        """Gaussian maps (B, 2, pixels) without mean, of one theta."""
        maps = self.rings.draw(latent, curved(place), scan_angle)
        return maps * self.spread.numpy()

    def offset(self, place: np.ndarray, scan_angle: float | None) -> np.ndarray:
        """Mean map (2, pixels)."""
        mean = np.tensordot(linear(place), self.mean.numpy(), 1)
        return mean * self.scale(place, scan_angle)

    def seen(self, scan_angle: float | None) -> np.ndarray:
        """Pixels that have a map, (pixels,)."""
        return self.rings.geometry.at(self.nside, scan_angle).seen
