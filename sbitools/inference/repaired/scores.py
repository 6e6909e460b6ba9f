"""Normal scores of a posterior's marginals: s = Phi^-1(F(u | x)), smooth and invertible.

The marginal distribution F of each parameter is known through draws. Nine of their quantiles, at
s = -2, -1.5, ... 2, are joined by a monotone rational-quadratic spline, which has a closed inverse
(Durkan et al. 2019, "Neural spline flows", arXiv:1906.04032), with straight tails. For a normal
posterior s is (u - mean) / sd.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sbitools.errors import ShapeError

__all__ = ["MarginalScores"]

_STEP = 0.5
_KNOTS = torch.arange(-2.0, 2.01, _STEP, dtype=torch.float64)

# Draws without any spread in a parameter get bins of this width in the parameter's u, whose prior
# has width 1.
_NARROWEST = 1e-9


class MarginalScores:
    """u <-> s for each observation and parameter.

    The map is a bijection of the real line whatever the draws, so densities that are carried
    through it stay exactly normalised; only s is as noisy as quantiles of draws are.

    Args:
        draws: of the posterior in unconstrained coordinates, shape (B, L, P).

    Raises:
        ShapeError: for fewer than 20 draws, or draws that are not finite.
    """

    def __init__(self, draws: Tensor) -> None:
        if draws.ndim != 3 or draws.shape[1] < 20 or not bool(torch.isfinite(draws).all()):
            raise ShapeError(
                "draws", expected="finite values of shape (B, 20 or more, P)",
                got=f"shape {tuple(draws.shape)}", fix="draw more from the posterior",
            )  # fmt: skip
        levels = torch.special.ndtr(_KNOTS)
        quantiles = torch.quantile(draws.double(), levels, dim=1).permute(1, 2, 0)
        gaps = quantiles.diff(dim=-1).clamp(min=_NARROWEST)
        # (B, 1, P, K): broadcasts over draws
        self._u = (quantiles[..., :1] + torch.nn.functional.pad(gaps.cumsum(-1), (1, 0)))[:, None]
        slope = _STEP / gaps[:, None]
        # Harmonic means keep the spline monotone and smooth (Fritsch & Butland 1984).
        inner = 2 * slope[..., 1:] * slope[..., :-1] / (slope[..., 1:] + slope[..., :-1])
        self._rate = torch.cat([slope[..., :1], inner, slope[..., -1:]], -1)

    @property
    def middle(self) -> Tensor:
        """Medians of u, shape (B, P)."""
        return self._u[:, 0, :, len(_KNOTS) // 2]

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """s (B, n, P) and log ds/du (B, n, P) of u (B, n, P)."""
        knots = self._u.expand(*u.shape, -1).contiguous()
        inside = torch.searchsorted(knots, u.double().contiguous()[..., None], right=True)
        k, width, rate, other = self._bin(inside, u.shape)
        x, y = self._at(self._u, k), _KNOTS[k[..., 0]]
        xi = ((u - x) / width).clamp(0, 1)
        mean, mix = _STEP / width, xi * (1 - xi)
        below = mean + (rate + other - 2 * mean) * mix
        s = y + _STEP * (mean * xi**2 + rate * mix) / below
        top = mean**2 * (other * xi**2 + 2 * mean * mix + rate * (1 - xi) ** 2)
        s = s + self._tail(u, knots[..., 0], knots[..., -1])
        return s, torch.log(top) - 2 * torch.log(below)

    def inverse(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """u (B, n, P) and log du/ds (B, n, P) of s (B, n, P)."""
        inside = torch.searchsorted(_KNOTS, s.contiguous()[..., None], right=True)
        k, width, rate, other = self._bin(inside, s.shape)
        x, y = self._at(self._u, k), _KNOTS[k[..., 0]]
        rise, mean = (s - y).clamp(0, _STEP), _STEP / width
        curve = rate + other - 2 * mean
        a = _STEP * (mean - rate) + rise * curve
        b = _STEP * rate - rise * curve
        c = -mean * rise
        xi = (2 * c / (-b - torch.sqrt((b**2 - 4 * a * c).clamp(min=0)))).clamp(0, 1)
        u = x + xi * width
        first, last = self._rate[..., 0], self._rate[..., -1]
        u = u + (s - _KNOTS[0]).clamp(max=0) / first + (s - _KNOTS[-1]).clamp(min=0) / last
        return u, -self.forward(u)[1]

    def _bin(self, place: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Bin of each value (..., 1), its width, and the derivatives at its two ends."""
        k = (place - 1).clamp(0, len(_KNOTS) - 2).reshape(*shape, 1)
        width = self._at(self._u, k + 1) - self._at(self._u, k)
        return k, width, self._at(self._rate, k), self._at(self._rate, k + 1)

    @staticmethod
    def _at(values: Tensor, k: Tensor) -> Tensor:
        return values.expand(*k.shape[:-1], -1).gather(-1, k)[..., 0]

    def _tail(self, u: Tensor, low: Tensor, high: Tensor) -> Tensor:
        first, last = self._rate[..., 0], self._rate[..., -1]
        return (u - low).clamp(max=0) * first + (u - high).clamp(min=0) * last
