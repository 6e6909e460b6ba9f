"""Which noise levels are trained on, how they are weighed, and where a sampler stops on its way.

Both schedules are about the same denoiser D(x + sigma noise; sigma), an estimate of x.

- ``"edm"``: log-normal levels, weights that give every level the same loss at the start, and
  steps with a power law (Karras et al. 2022, arXiv:2206.00364, equation 5 and table 1).
- ``"flow"``: straight paths x_t = (1 - t) x + t noise (Liu et al. 2022, arXiv:2209.03003; Lipman
  et al. 2022, arXiv:2210.02747), which are x_t / (1 - t) at sigma = t / (1 - t). The loss of the
  velocity, (noise - x), is |D - x|^2 / t^2; t is uniform in training and in sampling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["SCHEDULES", "Schedule"]

SCHEDULES = ("edm", "flow")

# Karras et al. have 7; with it 18 calls of the method "dpm3" leave 7 % of the amplitude too
# much in Fourier modes whose variance is a hundredth of the field's, with 15 one per cent.
_RHO = 15.0


@dataclass(frozen=True)
class Schedule:
    """Noise levels in units of the field's standard deviation, which is 1.

    Args:
        kind: ``"edm"`` or ``"flow"``.
        low: smallest level of sampling.
        high: largest: far above the field's largest mode, else its mean is biased.
        center: mean of ln sigma in training, of ``"edm"``: higher than for photographs (-1.2),
            since large scales, the mean above all, are decided where the noise is strong.
        width: its standard deviation.
    """

    kind: Literal["edm", "flow"] = "edm"
    low: float = 0.02
    high: float = 80.0
    center: float = 0.3
    width: float = 1.6

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Levels for n fields of a training step, (n,): one in each n-th of the distribution."""
        shift = torch.rand((), generator=generator)
        u = (torch.randperm(n, generator=generator) + shift) / n
        if self.kind == "flow":
            first, last = self._times()
            t = first + u * (last - first)
            return t / (1 - t)
        u = u.clamp(1e-4, 1 - 1e-4)
        return (self.center + self.width * math.sqrt(2) * torch.erfinv(2 * u - 1)).exp()

    def weight(self, sigma: Tensor) -> Tensor:
        """Weight of the squared error at each level, (n,)."""
        if self.kind == "flow":
            return ((1 + sigma) / sigma) ** 2
        return (1 + sigma**2) / sigma**2

    def levels(self, steps: int) -> Tensor:
        """Levels of a sampler, from `high` to `low` and then 0, float64, (steps + 1,)."""
        i = torch.linspace(0, 1, steps, dtype=torch.float64)
        if self.kind == "flow":
            first, last = self._times()
            t = last + i * (first - last)
            levels = t / (1 - t)
        else:
            top, end = self.high ** (1 / _RHO), self.low ** (1 / _RHO)
            levels = (top + i * (end - top)) ** _RHO
        return torch.cat([levels, levels.new_zeros(1)])

    def _times(self) -> tuple[float, float]:
        return self.low / (1 + self.low), self.high / (1 + self.high)
