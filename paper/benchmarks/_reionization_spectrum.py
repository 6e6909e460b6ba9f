"""Posteriors of 21cm planes from their power spectrum alone, by `emcee`: the field's usual way.

The likelihood is Gaussian in ln P(k), and in the mean temperature where it is used. Its mean and
its variances are polynomials of the parameters, fitted to reference planes, its correlations are
those of the residuals: what a careful analysis without a network would do.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from emulators.reionization.statistics import edges
from sbitools.inference import MCMCPosterior, NLEOptions
from sbitools.inference.mcmc import Unnormalised
from sbitools.observation import Observation
from sbitools.parameters import ParameterSpace
from sbitools.priors.base import ndtr
from sbitools.simulator import FieldSpec
from sbitools.statistics import plane_power_spectrum

__all__ = ["SpectrumLikelihood", "chains"]

_MEAN, _SPREAD = 5, 3  # degrees of the polynomials
_GRID = 200  # cells per axis of the quadrature that normalises


class SpectrumLikelihood(Unnormalised):
    """ln p(spectrum of x | theta).

    Args:
        theta: of reference planes, (n, 2).
        x: the planes as observed, (n, cells, cells).
        parameters: of theta.
        box_size: in Mpc.
        mean: use the mean temperature, too: no interferometer measures it.
    """

    def __init__(
        self, theta: Tensor, x: Tensor, parameters: ParameterSpace, box_size: float, mean: bool
    ) -> None:
        super().__init__(parameters)
        self.box_size, self.mean = box_size, mean
        data, basis = self.data(x), self._basis(parameters.to_unconstrained(theta))
        few = basis[:, : (_SPREAD + 1) * (_SPREAD + 2) // 2]
        self.expected = torch.linalg.lstsq(basis, data).solution
        rest = data - basis @ self.expected
        # E ln z^2 of a standard normal z is -1.270; then what that misses of the true variance.
        self.spread = torch.linalg.lstsq(few, (rest**2 + 1e-12).log() + 1.270).solution / 2
        self.spread[0] += (rest / (few @ self.spread).exp()).square().mean(0).log() / 2
        scaled = rest / (few @ self.spread).exp()
        self.whiten = torch.linalg.inv(torch.linalg.cholesky(scaled.T @ scaled / len(scaled)))

    def data(self, x: Tensor) -> Tensor:
        """ln P(k) of planes, and their mean, float64, (B, 10 or 11)."""
        fields = np.asarray(x, dtype=np.float64)
        bins = edges(fields.shape[-1], self.box_size)
        power = plane_power_spectrum(fields, self.box_size, edges=bins).power
        out = [np.log(power), fields.mean((1, 2))[:, None]][: 1 + self.mean]
        return torch.from_numpy(np.concatenate(out, axis=1))

    def features(self, x: Tensor) -> Tensor:
        """The data, and the log evidence: ln of the mean likelihood over the prior."""
        data = self.data(x)
        side = (torch.arange(_GRID, dtype=torch.float64) + 0.5) / _GRID
        basis = self._basis(torch.special.ndtri(torch.cartesian_prod(side, side)))
        evidence = [self._log_likelihood(basis, row).logsumexp(0) for row in data]
        return torch.cat([data, torch.stack(evidence)[:, None] - 2 * np.log(_GRID)], dim=1)

    def log_ratio(self, u: Tensor, features: Tensor) -> Tensor:
        """ln p(x | u) / p(x), (B, n), for u (B, n, 2) and features (B, F)."""
        basis = self._basis(u)
        return self._log_likelihood(basis, features[:, None, :-1]) - features[:, None, -1]

    def _log_likelihood(self, basis: Tensor, data: Tensor) -> Tensor:
        """Up to a constant, (...,), for a basis (..., F) and data that go with it."""
        spread = basis[..., : len(self.spread)] @ self.spread
        scaled = (data - basis @ self.expected) / spread.exp()
        return -0.5 * (scaled @ self.whiten.T).square().sum(-1) - spread.sum(-1)

    def _basis(self, u: Tensor) -> Tensor:
        """Products of powers, by their total degree, of what the prior makes uniform."""
        a, b = (2 * ndtr(u.double()) - 1).unbind(-1)
        powers = [a**i * b ** (d - i) for d in range(_MEAN + 1) for i in range(d + 1)]
        return torch.stack(powers, dim=-1)


class _Chains(MCMCPosterior):
    normalised = True  # with the evidence, which two parameters allow to be had by quadrature


def chains(
    likelihood: SpectrumLikelihood, spec: FieldSpec, observation: Observation
) -> MCMCPosterior:
    """A posterior like any other, sampled by `emcee`.

    Args:
        likelihood: fitted.
        spec: of the simulated planes.
        observation: what the likelihood's planes were observed with.
    """
    options = NLEOptions.model_validate({})
    return _Chains(likelihood, options, likelihood.space, spec, observation)
