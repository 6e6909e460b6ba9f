"""What is known of the maps of a set, and how a map is moved to where its statistics belong.

Whatever draws Gaussian starts is beside this: the spread and mean of their pixels, the targets of
the statistics, and the network that does in one pass what the descent does in many.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from .network import MapGenerator
from .summaries import Summaries
from .targets import Targets
from .terms import linear

__all__ = ["SkyModel"]

_SMALL = 0.01  # share of the first loss that is not worth a step
_NEAR = 1e-4  # a hundredth of a standard deviation of the statistics, rms: nobody sees less
_STRIDE = 5  # steps between two looks at whether a map is done


class SkyModel(nn.Module):
    """The spread and mean of every pixel of Q and U maps, and the targets of their statistics.

    Args:
        nside: of the maps, in nested order.
        n_parameters: of theta; the terms of means and targets are 1 and theta.
        levels: of the scattering covariance.
    """

    spread: Tensor
    mean: Tensor

    def __init__(self, nside: int, n_parameters: int, levels: int | None = None) -> None:
        super().__init__()
        self.nside = nside
        self.summaries = Summaries(nside, levels)
        self.targets = Targets(self.summaries.size, 1 + n_parameters)
        self.generator = MapGenerator(nside, n_parameters)
        shape = (2, 12 * nside**2)
        self.register_buffer("spread", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(1 + n_parameters, *shape, dtype=torch.float64))

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
