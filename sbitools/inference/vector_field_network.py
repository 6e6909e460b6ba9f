"""A residual perceptron v(w, phi; c): a vector field with its exact divergence."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["VectorFieldNet"]

_FREQUENCIES = (1.0, 2.0, 4.0, 8.0)
# Both ends of the path have structure on logarithmic scales: down to this noise, or signal.
_FINEST = 3e-3


class VectorFieldNet(nn.Module):
    """v(w, phi; c) of dimension P; it starts as zero.

    Each block is modulated by a scale and a shift that depend on c and phi (FiLM, Perez et al.
    2018, arXiv:1709.07871, as in Peebles & Xie 2023, arXiv:2212.09748). These depend on the
    observation, not on the draw, so that many draws share them.

    Args:
        n_parameters: P.
        n_features: dimension F of the features c.
        hidden: width.
        blocks: residual blocks.
    """

    def __init__(self, n_parameters: int, n_features: int, hidden: int, blocks: int) -> None:
        super().__init__()
        # The norm bounds what a hopeless observation can do to the field.
        self.context = nn.Sequential(
            nn.Linear(n_features, hidden), nn.SiLU(), nn.Linear(hidden, hidden),
            nn.LayerNorm(hidden),
        )  # fmt: skip
        self.time = nn.Sequential(
            nn.Linear(2 * len(_FREQUENCIES) + 2, hidden), nn.SiLU(), nn.Linear(hidden, hidden)
        )
        self.first, self.last = nn.Linear(n_parameters, hidden), nn.Linear(hidden, n_parameters)
        self.blocks = nn.ModuleList(_Block(hidden) for _ in range(blocks))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def condition(self, features: Tensor) -> Tensor:
        """What the field needs to know of an observation: (B, 1, hidden) of features (B, F)."""
        return self.context(features)[:, None]

    def forward(self, w: Tensor, phi: Tensor, condition: Tensor) -> Tensor:
        """v (B, n, P) for w (B, n, P), phi () or (B, n), and `condition` (B, 1, hidden)."""
        both = self._both(phi, condition)
        h = self.first(w)
        for block in self.blocks:
            h = block(h, both)
        return self.last(h)

    def with_divergence(self, w: Tensor, phi: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """v (B, n, P) and its divergence in w (B, n), exact: P directions go along with w."""
        both = self._both(phi, condition)
        h, tangent = self.first(w), self.first.weight.T  # (B, n, H) and (..., P, H)
        for block in self.blocks:
            assert isinstance(block, _Block)  # noqa: S101
            h, tangent = block.with_tangent(h, tangent, both)
        return self.last(h), (tangent * self.last.weight).sum((-2, -1))

    def _both(self, phi: Tensor, condition: Tensor) -> Tensor:
        angles = phi[..., None] * torch.tensor(_FREQUENCIES, device=phi.device)
        logs = [(x + _FINEST).log() for x in (phi.sin(), phi.cos().clamp(min=0))]
        time = torch.cat([angles.sin(), angles.cos(), torch.stack(logs, -1)], -1)
        return nn.functional.silu(condition + self.time(time))


class _Block(nn.Module):
    """h + B silu((1 + scale) A h + shift)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.modulation = nn.Linear(hidden, 2 * hidden)

    def _inner(self, h: Tensor, both: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = self.modulation(both).chunk(2, -1)
        return self.a(h) * (1 + scale) + shift, 1 + scale

    def forward(self, h: Tensor, both: Tensor) -> Tensor:
        return h + self.b(nn.functional.silu(self._inner(h, both)[0]))

    def with_tangent(self, h: Tensor, tangent: Tensor, both: Tensor) -> tuple[Tensor, Tensor]:
        inner, gain = self._inner(h, both)
        s = inner.sigmoid()
        slope = gain * s * (1 + inner * (1 - s))  # of silu
        moved = (tangent @ self.a.weight.T * slope[..., None, :]) @ self.b.weight.T
        return h + self.b(inner * s), tangent + moved
