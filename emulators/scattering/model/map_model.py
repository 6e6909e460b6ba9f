"""What a fit finds, and how a map is made of it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from emulators.scattering.network import MapGenerator
from emulators.scattering.survey.geometry import RingGeometry

from .rings import RingModel
from .summaries import Summaries
from .targets import Targets
from .terms import DEGREE, curved, linear

__all__ = ["MapModel"]

_SMALL = 0.01  # share of the first loss that is not worth a step
_NEAR = 1e-4  # a hundredth of a standard deviation of the statistics, rms: nobody sees less
_STRIDE = 5  # steps between two looks at whether a map is done


class MapModel(nn.Module):
    """Gaussian starts, the spread and mean of every pixel, and the targets of the statistics.

    Args:
        geometry: of the scan.
        nside: of the maps.
        lmax: of the sky that modulates the rings.
        n_parameters: of theta; the terms are 1, theta and, for the powers, its polynomials.
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
        self.rings = RingModel(geometry, nside, lmax, 1 + DEGREE * n_parameters)
        self.targets = Targets(self.summaries.size, 1 + n_parameters)
        self.generator = MapGenerator(nside, n_parameters)
        shape = (2, 12 * nside**2)
        self.register_buffer("spread", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(1 + n_parameters, *shape, dtype=torch.float64))

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

    def loss_weights(self) -> Tensor:
        """Of squared differences of all statistics from their targets."""
        return self.summaries.weights() / self.targets.sigma.square()

    def emulate(
        self, start: Tensor, scale: Tensor, offset: Tensor, place: np.ndarray, steps: int,
        closeness: float,
    ) -> Tensor:  # fmt: skip
        """A standardised map whose statistics are on target; what is 0 in the start stays 0.

        L-BFGS stops as soon as the map is as close as the targets are known: no number of steps
        makes it better then.

        Args:
            start: standardised, (2, pixels).
            scale: standard deviations over that of all pixels, (2, pixels).
            offset: means in the same unit, (2, pixels).
            place: of theta, (P,).
            steps: at most.
            closeness: share of the doubt about the targets at which a map is close enough.
        """
        terms = torch.from_numpy(linear(place)).float()
        with torch.no_grad():
            target = self.targets(self.summaries(start[None], scale, offset), terms[None])
        weights = self.loss_weights()
        y, moves = start[None].clone().requires_grad_(), (start[None] != 0).float()
        optimiser = torch.optim.LBFGS(
            [y], max_iter=_STRIDE, history_size=8, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            missed = self.summaries(y, scale, offset) - target
            loss = (missed.square() * weights).sum()
            (gradient,) = torch.autograd.grad(loss, y)
            y.grad = gradient * moves
            return loss.detach()

        with torch.enable_grad():
            missed = float(closure())
            enough = max(closeness * float(self.targets.doubt), _SMALL * missed, _NEAR)
            for _ in range(0, steps, _STRIDE):
                if missed <= enough:
                    break
                optimiser.step(closure)  # pyright: ignore[reportArgumentType]
                missed = float(closure())
        return y.detach()[0]
