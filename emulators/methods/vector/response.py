"""The closed form of a data vector: its mean, spread, shape and correlation for every theta.

x = T^-1(m(theta) + s(theta) g(L v)), with v standard normal: T a logarithm where that is better,
m a few curves times Gaussian processes, ln s polynomials, g sinh-arcsinh, L the factor of a
correlation matrix. What is left in v, networks learn.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .coordinates import Coordinates
from .entries import Entries
from .modes import Modes
from .shape import Shape

__all__ = ["Polynomial", "Response"]

_LOG_SPREAD = (-7.0, 3.0)  # of standardised entries


class Polynomial(nn.Module):
    """Curves (B, n) that are polynomials of the numbers (B, Q) of theta.

    Args:
        coordinates: of theta.
        degree: of the products.
        n: entries.
    """

    weight: Tensor

    def __init__(self, coordinates: Coordinates, degree: int, n: int) -> None:
        super().__init__()
        self.coordinates, self.terms = coordinates, coordinates.terms[:degree]
        size = 1 + sum(self.terms)
        self.register_buffer("weight", torch.zeros(size, n, dtype=torch.float64))

    def set(self, weight: Tensor, constant: Tensor) -> None:
        """Coefficients (F, n) and constants (n,)."""
        self.weight.copy_(torch.cat([constant[None], weight]))

    def forward(self, c: Tensor) -> Tensor:
        """(B, n) of c (B, Q)."""
        a = self.coordinates.multiplied(c)[:, : sum(self.terms)]
        return self.weight[0] + a @ self.weight[1:]


class Response(nn.Module):
    """x (N, n) to v (N, n) for numbers c (N, Q) of theta, and back; all in float64.

    Args:
        n: entries of x.
        mean: of entries, `Modes` or `Polynomial`.
        spread: ln s.
    """

    factor: Tensor

    def __init__(self, n: int, mean: Modes | Polynomial, spread: Polynomial) -> None:
        super().__init__()
        self.entries, self.shape, self.mean, self.spread = Entries(n), Shape(n), mean, spread
        self.register_buffer("factor", torch.eye(n, dtype=torch.float64))

    def standard(self, x: Tensor, c: Tensor) -> Tensor:
        """Residuals (N, n) of mean 0 and variance 1."""
        m, s = self._moments(c)
        return (self.entries(x) - m) / s

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """v (N, n), about standard normal, of x (N, n)."""
        z = self.shape.normal(self.standard(x, c))
        return torch.linalg.solve_triangular(self.factor, z.T, upper=False).T

    @property
    def n_unknown(self) -> int:
        """Numbers that say where the mean lies within its error."""
        return len(self.mean.curves) if isinstance(self.mean, Modes) else 0

    def inverse(self, v: Tensor, c: Tensor, w: Tensor) -> Tensor:
        """x (N, n), inside its range, of v (N, n) and standard normal w (N, n_unknown).

        Simulations were few: each vector has a mean of its own, as likely as they make it.
        What learns from many vectors so learns how well the mean is known.
        """
        m, s = self._moments(c)
        if isinstance(self.mean, Modes):
            m = m + self.mean.unknown(c, w)
        return self.entries.inverse(m + s * self.shape(v @ self.factor.T))

    def marginals(self, x: Tensor, c: Tensor) -> Tensor:
        """Log density of each entry of x / unit by itself, (N, n)."""
        m, s = self._moments(c)
        e = (self.entries(x) - m) / s
        return self.shape.log_density(e) - s.log() + self.entries.log_slope(x)

    def _moments(self, c: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(c), self.spread(c).clamp(*_LOG_SPREAD).exp()
