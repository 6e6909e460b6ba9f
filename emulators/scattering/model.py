"""What a fit finds, and how a map is made of it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from .geometry import RingGeometry
from .optimise import Minimum, minimise
from .ring_model import RingModel
from .summaries import Summaries
from .targets import Targets

__all__ = ["MapModel"]


class MapModel(nn.Module):
    """Gaussian starts, the spread and mean of every pixel, and the targets of the statistics.

    Args:
        geometry: of the scan.
        nside: of the maps.
        lmax: of the sky that modulates the rings.
        n_parameters: of theta; the terms are 1, theta and, for the powers, its squares.
        levels: of the scattering covariance.
    """

    spread: Tensor
    mean: Tensor

    def __init__(
        self, geometry: RingGeometry, nside: int, lmax: int, n_parameters: int,
        levels: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.nside = nside
        self.summaries = Summaries(nside, levels)
        self.rings = RingModel(geometry, nside, lmax, 1 + 2 * n_parameters)
        self.targets = Targets(self.summaries.size, 1 + n_parameters)
        shape = (2, 12 * nside**2)
        self.register_buffer("spread", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(1 + n_parameters, *shape, dtype=torch.float64))

    @property
    def n_latent(self) -> int:
        """Standard normal numbers behind a map."""
        return sum(self.rings.latent_sizes)

    def scale(self, place: np.ndarray, scan_angle: float | None) -> np.ndarray:
        """Standard deviation of every pixel (2, pixels) at theta in the unit cube [-1, 1]."""
        return self.rings.scale(squares(place), scan_angle) * self.spread.numpy()

    def start(
        self, latent: np.ndarray, place: np.ndarray, scan_angle: float | None
    ) -> np.ndarray:
        """Gaussian maps (B, 2, pixels) without mean, of one theta."""
        maps = self.rings.draw(latent, squares(place), scan_angle)
        return maps * self.spread.numpy()

    def offset(self, place: np.ndarray, scan_angle: float | None) -> np.ndarray:
        """Mean map (2, pixels)."""
        mean = np.tensordot(linear(place), self.mean.numpy(), 1)
        return mean * self.scale(place, scan_angle)

    def seen(self, scan_angle: float | None) -> np.ndarray:
        """Pixels that have a map, (pixels,)."""
        return self.rings.geometry.at(self.nside, scan_angle).seen

    def emulate(
        self, starts: Tensor, scales: Tensor, offsets: Tensor, places: np.ndarray, steps: int,
        share: float,
    ) -> Minimum:  # fmt: skip
        """Standardised maps whose statistics are on target; what is 0 in a start stays 0.

        Args:
            starts: standardised, (B, 2, pixels).
            scales: standard deviations over that of all pixels, (B, 2, pixels).
            offsets: means in the same unit, (B, 2, pixels).
            places: of theta, (B, P).
            steps: of the optimiser, at most.
            share: of the doubt about the targets at which a map is close enough.
        """
        with torch.no_grad():
            terms = torch.from_numpy(np.stack([linear(p) for p in places])).float()
            targets = self.targets(self.summaries(starts, scales, offsets), terms)
        weights = self.summaries.weights() / self.targets.sigma.square()
        moves = (starts != 0).float()

        def function(points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            y = points.view(-1, *starts.shape[1:]).requires_grad_()
            with torch.enable_grad():
                missed = self.summaries(y, scales[rows], offsets[rows]) - targets[rows]
                loss = (missed.square() * weights).sum(1)
                (gradient,) = torch.autograd.grad(loss.sum(), y)
            return loss.detach(), (gradient * moves[rows]).flatten(1)

        tolerance = (share * self.targets.doubt).expand(len(starts))
        return minimise(function, starts.flatten(1), steps=steps, tolerance=tolerance)


def linear(place: np.ndarray) -> np.ndarray:
    """1 and theta."""
    return np.concatenate([[1.0], place])


def squares(place: np.ndarray) -> np.ndarray:
    """1, theta and its squares."""
    return np.concatenate([[1.0], place, place**2])
