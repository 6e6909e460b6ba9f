"""The evidence p(x) of draws whose density is known up to it: bridge sampling.

A sum of normals g is fitted to half of the draws. The ratio of the two normalisations follows from
the other half and from draws of g, each judged by both densities (Meng & Wong 1996): it needs only
that the two overlap, where importance sampling needs g to be wider and the harmonic mean of
likelihoods needs a miracle.

References:
    | Simulating ratios of normalizing constants via a simple identity (Meng & Wong 1996)
    | Estimating marginal likelihoods for mixture and Markov switching models using bridge sampling
      techniques (Frühwirth-Schnatter 2004): the error
    | A tutorial on bridge sampling (Gronau et al. 2017, arXiv:1703.05984)
    | Properties of the bridge sampler with a focus on splitting the MCMC sample
      (Wong et al. 2020): draws that g is fitted to are not used again
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sbitools.display.brief import Brief
from sbitools.errors import ParameterError, PosteriorError
from sbitools.parameters import Parameter, ParameterSpace
from sbitools.priors.base import log_normal_pdf
from sbitools.priors.joint import joint_of_draws
from sbitools.seeds import derive

__all__ = ["Evidence", "bridge", "log_ratios"]

Density = Callable[[Tensor], Tensor]

_FIT, _DRAW, _SECOND = 92, 93, 94
_ROUNDS, _SETTLED = 1000, 1e-10  # of the iteration for the ratio, which always converges
# Stepping stones that are this many errors and nats from the bridge say that one of both is wrong.
_ERRORS, _NATS = 5.0, 0.1
_OVERLAP = 0.1


@dataclass(frozen=True, repr=False)
class Evidence(Brief):
    """Natural log of p(x) for each observation, and how far to trust it.

    Names are those of `ImportanceSample`; arrays have no axis B for one field.

    Args:
        log_evidence: (B,), by bridge sampling.
        log_evidence_error: standard error by Monte Carlo, (B,); what a network has learned wrongly
            is not in it.
        overlap: of the posterior and of the sum of normals fitted to it, (B,): 1 if they are the
            same, 0 if they have nothing in common. Below 0.1 nothing here can be trusted.
        stepping_stones: the same evidence by the way of the walkers from the prior, from other
            draws, (B,); the less precise of the two.
        stepping_stones_error: its standard error, from independent ensembles, (B,).
    """

    log_evidence: np.ndarray
    log_evidence_error: np.ndarray
    overlap: np.ndarray
    stepping_stones: np.ndarray
    stepping_stones_error: np.ndarray

    @property
    def trusted(self) -> np.ndarray:
        """Whether the overlap is enough, and both estimates agree within 5 errors, (B,).

        Differences below 0.1 nats are always forgiven.
        """
        error = np.hypot(self.log_evidence_error, self.stepping_stones_error)
        apart = np.abs(self.log_evidence - self.stepping_stones)
        return (self.overlap >= _OVERLAP) & (apart <= np.maximum(_ERRORS * error, _NATS))


def bridge(
    u: Tensor, log_density: Tensor, density: Density, correlation: float, seed: int
) -> tuple[float, float, float]:
    """log of the integral of a density that is known at draws of it, its error, the overlap.

    Args:
        u: independent or nearly independent draws, in random order, float64 (n, P).
        log_density: at the draws, (n,).
        density: u (m, P) to log density (m,), or -infinity.
        correlation: factor on the variance of means over draws, 1 for independent ones.
        seed: of the fit and of the draws of the proposal.

    Raises:
        PosteriorError: if there are too few different draws to fit a density to, or the density
            is 0 at all draws of what is fitted.
    """
    at_kept, at_made = log_ratios(u, log_density, density, seed)
    value = _settle(at_kept, at_made)
    return value, *_error_and_overlap(at_kept - value, at_made - value, correlation)


def log_ratios(
    u: Tensor, log_density: Tensor, density: Density, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """log p / g at the second half of draws of p, and at as many of g, fitted to the first half.

    Arguments and errors of `bridge`. The mean of p / g over draws of g, its importance weights,
    is an estimate of the integral, too.
    """
    u, log_density, density = _at_least_two(u, log_density, density, seed)
    half = len(u) // 2
    names = [f"u_{i}" for i in range(u.shape[1])]
    try:
        normals = joint_of_draws(names, u[:half], seed=derive(seed, _FIT))
    except ParameterError as error:
        raise PosteriorError(
            "draws for the evidence", expected=f"many: {error.expected}", got=error.got,
            fix="raise n of evidence; or chains stand still, see posterior.diagnostics",
        ) from error  # fmt: skip
    proposal = ParameterSpace([Parameter(name, None) for name in names], joint=[normals])
    kept, rng = u[half:], np.random.default_rng(derive(seed, _DRAW))
    made = proposal.from_unconstrained(torch.from_numpy(rng.standard_normal(tuple(kept.shape))))
    at_kept = (log_density[half:] - proposal.log_prob(kept)).double().numpy()
    at_made = (density(made) - proposal.log_prob(made)).double().numpy()
    at_made = np.where(np.isnan(at_made), -np.inf, at_made)
    if not np.isfinite(at_made).any():
        raise PosteriorError(
            "evidence", expected="a posterior where the sum of normals fitted to its draws is",
            got="density 0 at all draws of that", fix="raise n of evidence, and look at "
            "posterior.plot(x)",
        )  # fmt: skip
    return at_kept, at_made


def _at_least_two(
    u: Tensor, log_density: Tensor, density: Density, seed: int
) -> tuple[Tensor, Tensor, Density]:
    """A joint density has two parameters or more: to a single one comes a standard normal."""
    if u.shape[1] > 1:
        return u, log_density, density
    rng = np.random.default_rng(derive(seed, _SECOND))
    v = torch.from_numpy(rng.standard_normal((len(u), 1)))

    def of_both(at: Tensor) -> Tensor:
        return density(at[:, :1]) + log_normal_pdf(at[:, 1])

    return torch.cat([u, v], 1), log_density + log_normal_pdf(v[:, 0]), of_both


def _settle(at_kept: np.ndarray, at_made: np.ndarray) -> float:
    """Log ratio r of both normalisations, of as many draws of either, by Meng & Wong's iteration.

    r = mean over g of p / (p + r g), divided by the mean over p of g / (p + r g).
    """
    from scipy.special import log_expit

    value = float(np.median(at_kept))
    for _ in range(_ROUNDS):
        # p / (p + r g) = expit(log p/g - log r), and r g / (p + r g) is its complement.
        made, kept = log_expit(at_made - value), log_expit(value - at_kept)
        step = float(np.logaddexp.reduce(made) - np.logaddexp.reduce(kept))
        step += math.log(len(kept) / len(made))
        value += step
        if abs(step) < _SETTLED:
            break
    return value


def _error_and_overlap(
    at_kept: np.ndarray, at_made: np.ndarray, correlation: float
) -> tuple[float, float]:
    """Standard error of the log ratio, by the relative variances; and 2 E_g p / (p + g)."""
    from scipy.special import expit

    made, kept = expit(at_made), expit(-at_kept)
    relative = made.var(ddof=1) / made.mean() ** 2 / len(made)
    relative += correlation * kept.var(ddof=1) / kept.mean() ** 2 / len(kept)
    return math.sqrt(relative), 2 * float(made.mean())
