"""K conditional affine maps side by side: the normal part of every density in a stack."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

__all__ = ["AffineHeads", "dropped", "uniform"]

# Widths from e^-9 to e^4 of the standardised outputs.
_LOG_SCALE = (-4.0, 9.0)

_Parts = tuple[Tensor, Tensor, Tensor]


class AffineHeads(nn.Module):
    """v = A_k(c) (y - m_k(c)) for K members, A lower triangular; the identity at the start.

    Args:
        n_outputs: P, length of y.
        n_features: F, length of c.
        members: K.
        hidden: width of the networks.
        rng: of the initial weights.
    """

    index: Tensor

    def __init__(
        self, n_outputs: int, n_features: int, members: int, hidden: int, rng: torch.Generator
    ) -> None:
        super().__init__()
        self.k, self.p = members, n_outputs
        lower = torch.tril_indices(n_outputs, n_outputs, -1)
        index = torch.full((n_outputs, n_outputs), n_outputs + lower.shape[1])  # a place of zeros
        index[range(n_outputs), range(n_outputs)] = torch.arange(n_outputs)
        index[lower[0], lower[1]] = torch.arange(n_outputs, n_outputs + lower.shape[1])
        self.register_buffer("index", index.flatten(), persistent=False)
        self.first = uniform((members, n_features, hidden), n_features / 2, rng)
        self.shift = uniform((members, 1, hidden), 2, rng)
        self.inner = nn.ParameterList(
            uniform((members, hidden, hidden), hidden / 2, rng) for _ in range(2)
        )
        self.bias = nn.ParameterList(torch.zeros(members, 1, hidden) for _ in range(2))
        n_numbers = 2 * n_outputs + lower.shape[1]
        self.last = nn.Parameter(torch.zeros(members, hidden, n_numbers))
        self.start = nn.Parameter(torch.zeros(members, 1, n_numbers))

    def parts(self, c: Tensor, dropout: float, rng: torch.Generator | None) -> _Parts:
        """Means (K, B, P), matrices (K, B, P, P) and log determinants (K, B).

        Args:
            c: shape (B, F).
            dropout: share of hidden units left out, if there is a generator.
            rng: None leaves none out.
        """
        h = silu(torch.baddbmm(self.shift, c.expand(self.k, -1, -1), self.first))
        for weight, bias in zip(self.inner, self.bias, strict=True):
            h = dropped(h + silu(torch.baddbmm(bias, h, weight)), dropout, rng)
        out = torch.baddbmm(self.start, h, self.last)
        p = self.p
        mean, log_scale, lower = out[..., :p], out[..., p : 2 * p], out[..., 2 * p :]
        log_scale = log_scale.clamp(*_LOG_SCALE)
        entries = torch.cat([log_scale.exp(), lower, torch.zeros_like(mean[..., :1])], -1)
        return mean, entries[..., self.index].unflatten(-1, (p, p)), log_scale.sum(-1)

    def forward(
        self, y: Tensor, c: Tensor, dropout: float, rng: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """v (K, B, n, P) and log |det dv/dy| (K, B, 1) for y (B, n, P) and c (B, F)."""
        mean, matrix, log_det = self.parts(c, dropout, rng)
        return (y - mean[:, :, None]) @ matrix.mT, log_det[..., None]

    def inverse(self, v: Tensor, parts: _Parts, row: Tensor, k: int) -> Tensor:
        """y (R, P) for v (R, P) of member k, observation row[i] for v[i]."""
        mean, matrix, _ = parts
        eye = torch.eye(self.p, dtype=v.dtype, device=v.device)
        inverse = torch.linalg.solve_triangular(matrix[k], eye, upper=False)
        return mean[k, row] + (inverse[row] @ v[..., None])[..., 0]


def dropped(h: Tensor, share: float, rng: torch.Generator | None) -> Tensor:
    """`h` with a random share of its entries left out; as it is without a generator."""
    if not share or rng is None:
        return h
    kept = torch.empty(h.shape).bernoulli_(1 - share, generator=rng).to(h.device)
    return h * kept / (1 - share)


def uniform(shape: tuple[int, ...], fan: float, rng: torch.Generator) -> nn.Parameter:
    """Weights of variance 1 / (3 fan)."""
    return nn.Parameter((2 * torch.rand(shape, generator=rng) - 1) / math.sqrt(fan))
