"""Where a flow begins: at a first guess of the parameters, as wide as that guess is wrong."""

from __future__ import annotations

import math
from itertools import combinations_with_replacement

import torch
from torch import Tensor, nn

from sbitools.densities.normal import normal_log_prob
from sbitools.densities.truncated import from_truncated, log_mass, to_truncated
from sbitools.embeddings.ridge import ridge
from sbitools.parameters import ParameterSpace
from sbitools.priors.base import Prior

__all__ = ["FirstGuess", "can_guess", "guess_target"]

# The guess is of sqrt(3) erf(u / sqrt(2)): of theta, from a uniform prior, at unit variance.
_UNIT = math.sqrt(3)
_FARTHEST = 7.0  # of u: further, float64 does not tell theta from the end of the prior
_BEYOND = 6.0  # standard deviations that a guess may lie outside of the prior
_LEAST = 1e-6  # of the variance of a guess
_REACH = 1.2 * _UNIT  # of what polynomials are made of
_MANY = 4  # parameters, above which polynomials are of second degree and not of third


def can_guess(space: ParameterSpace) -> bool:
    """Whether priors are standard normal in u, as all but those of torch are: see `guess_target`.

    Joint priors always are. Of others u may be of any size, and all of it far beyond what is told
    from the prior's ends.
    """
    u = torch.linspace(-3, 3, 7, dtype=torch.float64)
    normal = normal_log_prob(u[:, None])
    alone = [space[i] for i in space.free_columns]
    return all(
        isinstance(p.prior, Prior) and not p.categories
        and torch.allclose(p.prior.log_prob_unconstrained(u), normal) for p in alone
    )  # fmt: skip


def guess_target(u: Tensor) -> Tensor:
    """What is guessed, of zero mean and unit variance over the prior: theta and not u.

    A field follows theta more nearly; the ends of u are far.
    """
    return _UNIT * torch.erf(u / math.sqrt(2))


class FirstGuess(nn.Module):
    """u to what is standard normal if theta is normal about a guess, but for the prior's ends.

    The guess is a polynomial in the first features, and as wide as it was wrong for fields that it
    was not made from, with all correlations. A network that is to find a posterior twenty times
    narrower than the prior takes most of its training to get there. One coordinate after the other
    becomes, given those before, a standard normal one: theta of a uniform prior is never placed
    outside of it, and a flow has no steep ends to learn. Before `settle` it is the identity.

    Args:
        n_parameters: dimension of u.
    """

    factor: Tensor
    bends: Tensor
    known: Tensor

    def __init__(self, n_parameters: int) -> None:
        super().__init__()
        self.n = n_parameters
        ways, most = range(n_parameters), 2 if n_parameters > _MANY else 3
        self._products = [
            list(p) for d in range(most + 1) for p in combinations_with_replacement(ways, d)
        ]
        eye = torch.eye(n_parameters, dtype=torch.float64)
        bends = torch.zeros(len(self._products), n_parameters, dtype=torch.float64)
        self.register_buffer("factor", eye)
        self.register_buffer("bends", bends)
        self.register_buffer("known", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def settle(self, told: tuple[Tensor, Tensor] | None) -> None:
        """Begin with a guess.

        Args:
            told: what is guessed and guesses of it, (n, P) each, see `Scaled.settle`.
        """
        if told is None:
            return
        targets, guess = told
        bends, found = ridge(self._terms(guess), targets)
        missed = found - targets
        eye = torch.eye(self.n, dtype=torch.float64)
        self.factor.copy_(torch.linalg.cholesky(missed.T @ missed / len(missed) + _LEAST * eye))
        self.bends.copy_(bends)
        self.known.fill_(True)

    def forward(self, u: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """v (B, n, P) and log |det dv/du| (B, n) for u (B, n, P) and features c (B, F)."""
        if not bool(self.known):
            return u, u.new_zeros(u.shape[:2])
        w = u.double().clamp(-_FARTHEST, _FARTHEST)
        guess, t = self._guess(c), guess_target(w)
        missed, v, log_det = torch.zeros_like(w), [], torch.zeros_like(w[..., 0])
        for j in range(self.n):
            mean, size, a, b = self._given(guess, missed, j)
            z = ((t[..., j] - mean) / size).clamp(a, b)
            v.append(from_truncated(z, a, b))
            missed[..., j] = z  # in place: nothing is learned here
            log_det += self._slope(w[..., j], z, v[-1], size, log_mass(a, b))
        return torch.stack(v, -1).to(u), log_det.to(u)

    def inverse(self, v: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """u and log |det dv/du| for v (B, n, P)."""
        if not bool(self.known):
            return v, v.new_zeros(v.shape[:2])
        w, guess = v.double(), self._guess(c)
        missed, u, log_det = torch.zeros_like(w), [], torch.zeros_like(w[..., 0])
        for j in range(self.n):
            mean, size, a, b = self._given(guess, missed, j)
            z = to_truncated(w[..., j], a, b)
            t = (mean + size * z) / _UNIT
            u.append((math.sqrt(2) * torch.erfinv(t)).clamp(-_FARTHEST, _FARTHEST))
            missed[..., j] = z
            log_det += self._slope(u[-1], z, w[..., j], size, log_mass(a, b))
        return torch.stack(u, -1).to(v), log_det.to(v)

    def _terms(self, guess: Tensor) -> Tensor:
        """(n, P) to (n, terms), float64."""
        guess = guess.double().clamp(-_REACH, _REACH)
        return torch.stack([guess[:, p].prod(1) for p in self._products], dim=1)

    def _guess(self, c: Tensor) -> Tensor:
        """(B, 1, P)."""
        return (self._terms(c[:, : self.n].detach()) @ self.bends)[:, None]

    def _given(
        self, guess: Tensor, missed: Tensor, j: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean and size of coordinate j given those before, and the ends of the prior for it."""
        size = self.factor[j, j]
        mean = guess[..., j] + missed[..., :j] @ self.factor[j, :j]
        end = _UNIT + _BEYOND * size
        mean = torch.minimum(torch.maximum(mean, -end), end)
        return mean, size, (-_UNIT - mean) / size, (_UNIT - mean) / size

    @staticmethod
    def _slope(u: Tensor, z: Tensor, v: Tensor, size: Tensor, mass: Tensor) -> Tensor:
        """log dv/du of one coordinate."""
        inner = 0.5 * math.log(2 / math.pi) + math.log(_UNIT) - 0.5 * u**2
        return inner - size.log() - 0.5 * z**2 - mass + 0.5 * v**2
