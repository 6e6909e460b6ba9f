"""A linear-Gaussian density in closed form, without the coefficients that the data do not ask for.

Where a problem is linear and Gaussian, no network of a thousand simulations comes near to least
squares; where only a few of the inputs matter, least squares pays for all of them.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn

from .normal import normal_log_prob

__all__ = ["LinearGaussian", "PolynomialGaussian"]

_JITTER = 1e-7  # of the covariance, in units of its diagonal
_CUBIC = 4  # features that a cubic polynomial may have, 34 terms; more have a square one
_PER_TERM = 10  # simulations, at least
_PER_ENTRY = 20  # of y, at least, for a covariance that costs 1/80 of a nat for each of them


class LinearGaussian(nn.Module):
    """y | c ~ N(W c + b, S), fitted by `fit`.

    Args:
        n_outputs: P, length of y.
        n_features: F, length of c.
        n_used: number of the features that it looks at.
        first: of them.
    """

    weight: Tensor
    bias: Tensor
    factor: Tensor

    def __init__(self, n_outputs: int, n_features: int, n_used: int, first: int = 0) -> None:
        super().__init__()
        self.p, self.n_features, self.used = n_outputs, n_features, slice(first, first + n_used)
        self.register_buffer("weight", torch.zeros(n_used, n_outputs))
        self.register_buffer("bias", torch.zeros(n_outputs))
        self.register_buffer("factor", torch.eye(n_outputs))

    @torch.no_grad()
    def fit(self, y: Tensor, c: Tensor) -> None:
        """Least squares with a garrote on every coefficient and on every residual correlation.

        A coefficient of t-value t is multiplied by (1 - 2 log(F) / t^2)+: those that chance
        explains vanish, and clear ones stay (Breiman 1995, the non-negative garrote, with the
        risk-inflation threshold of Foster & George 1994).

        Args:
            y: shape (N, P).
            c: shape (N, F), with N > F + 1.
        """
        self._least_squares(y.double(), self._inputs(c.double()))

    def _least_squares(self, y: Tensor, c: Tensor) -> None:
        n, f = c.shape
        y0, c0 = y - y.mean(0), c - c.mean(0)
        # The pseudo-inverse: features that never change, or repeat others, get no coefficient.
        gram = torch.linalg.pinv(c0.T @ c0, hermitian=True)
        least = gram @ (c0.T @ y0)
        variance = ((y0 - c0 @ least) ** 2).sum(0) / max(n - f - 1, 1)
        square_t = least**2 / (gram.diagonal()[:, None] * variance).clamp(min=1e-300)
        weight = least * _garrote(square_t, f)
        residual = y0 - c0 @ weight
        covariance = residual.T @ residual / max(n - 1 - int((weight != 0).sum()) // self.p, 1)
        self.weight.zero_()[:f] = weight.to(self.weight)
        self.bias.copy_(y.mean(0) - c.mean(0) @ weight)
        self.factor.copy_(torch.linalg.cholesky(self._settled(covariance, n)))

    def _settled(self, covariance: Tensor, n: int) -> Tensor:
        return _shrunk(covariance, n)

    @property
    def n_latents(self) -> int:
        """Standard normal numbers that one draw is made of."""
        return self.p

    def log_prob(self, y: Tensor, c: Tensor) -> Tensor:
        """Log density (B, n) for y (B, n, P) and c (B, F)."""
        return normal_log_prob(self._standard(y, c)) - self.factor.diagonal().log().sum()

    def place(self, z: Tensor, c: Tensor, row: Tensor) -> Tensor:
        """y (R, P) of latents z (R, P) for rows row (R,) of c (B, F)."""
        return self._mean(c)[row, 0] + z @ self.factor.T

    def latent(self, y: Tensor, c: Tensor, rng: torch.Generator) -> Tensor:
        """z (B, n, P) of y (B, n, P)."""
        return self._standard(y, c)

    def _mean(self, c: Tensor) -> Tensor:
        return (self._inputs(c) @ self.weight + self.bias)[:, None]

    def _inputs(self, c: Tensor) -> Tensor:
        return c[:, self.used]

    def _standard(self, y: Tensor, c: Tensor) -> Tensor:
        residual = (y - self._mean(c)).flatten(0, -2).T
        solved = torch.linalg.solve_triangular(self.factor, residual, upper=False)
        return solved.T.reshape(y.shape)


class PolynomialGaussian(LinearGaussian):
    """y | c ~ N(polynomial of c, S), in closed form: smooth data whose noise is always the same.

    Most likelihoods of data vectors are of this kind, and a network of a few thousand simulations
    that may bend everywhere, and have another covariance everywhere, is a nat worse. Terms are
    products of Legendre polynomials: where c is uniform on -1 to 1, as the prior probability of
    parameters is, each is independent of the others, so that the garrote sees them one by one.
    With enough simulations the covariance is left as it is: the many small correlations of a
    systematic error, each of which chance could explain, together decide on the parameters.

    Args:
        n_outputs: P, length of y.
        n_features: F, length of c.
        n_used: number of the features that it looks at, at most `MOST`.
        first: of them.

    References:
        | The Wiener-Askey polynomial chaos (Xiu & Karniadakis 2002)
        | Why your model parameter confidences might be too optimistic (Hartlap, Simon & Schneider
          2007, arXiv:astro-ph/0608064, equation 17)
    """

    MOST = 9

    def __init__(self, n_outputs: int, n_features: int, n_used: int, first: int = 0) -> None:
        super().__init__(n_outputs, n_features, n_used, first)
        degree = 3 if n_used <= _CUBIC else 2
        powers = [p for p in product(range(degree + 1), repeat=n_used) if 0 < sum(p) <= degree]
        self.powers = sorted(powers, key=sum)
        self.weight = torch.zeros(len(powers), n_outputs)

    @torch.no_grad()
    def fit(self, y: Tensor, c: Tensor) -> None:
        """As `LinearGaussian.fit`; of a lower degree where there are too few simulations."""
        degrees = torch.tensor([sum(powers) for powers in self.powers])
        counts = [int((degrees <= degree).sum()) for degree in (1, 2, 3)]
        terms = max([n for n in counts if _PER_TERM * n <= len(y)], default=counts[0])
        self._least_squares(y.double(), self._inputs(c.double())[:, :terms])

    def _settled(self, covariance: Tensor, n: int) -> Tensor:
        if n < _PER_ENTRY * len(covariance):
            return super()._settled(covariance, n)
        # So that its inverse is right on average, and not too sure; the mean is uncertain, too.
        f = int((self.weight != 0).any(1).sum()) + 1
        return covariance * ((n - f) / (n - f - len(covariance) - 1) * (1 + f / n))

    def _inputs(self, c: Tensor) -> Tensor:
        c = c[:, self.used]
        each = torch.stack([torch.ones_like(c), c, (3 * c**2 - 1) / 2, (5 * c**3 - 3 * c) / 2])
        columns = range(c.shape[1])
        return torch.stack([each[list(p), :, columns].prod(0) for p in self.powers], 1)


def _garrote(square_t: Tensor, n: int) -> Tensor:
    threshold = 2 * torch.log(torch.tensor(float(max(n, 2))))
    return (1 - threshold / square_t.clamp(min=1e-12)).clamp(min=0)


def _shrunk(covariance: Tensor, n: int) -> Tensor:
    """The covariance without the correlations that chance explains, if that is one."""
    sd = covariance.diagonal().clamp(min=1e-24).sqrt()
    r = covariance / (sd[:, None] * sd)
    square_t = n * r**2 / ((1 - r**2) ** 2).clamp(min=1e-12)
    kept = r * _garrote(square_t, len(r)).fill_diagonal_(1)
    if torch.linalg.eigvalsh(kept)[0] < 1e-6:
        kept = r
    kept = kept + _JITTER * torch.eye(len(r), dtype=r.dtype)
    return kept * sd[:, None] * sd
