"""Draws of a posterior that are weighted by a likelihood one has: corrected, with the evidence.

Draws of q(theta | x) get weights p(x | theta) p(theta) / q(theta | x). Their mean is the evidence
p(x), and weighted draws are draws of the exact posterior, if q covers it. Whether it does is told
by the tail of the weights: the largest are replaced by quantiles of a generalised Pareto
distribution fitted to them, and its shape k says how far to trust the rest.

References:
    | Pareto smoothed importance sampling (Vehtari et al. 2024), arXiv:1507.02646
    | A new and efficient estimation method for the generalized Pareto distribution
      (Zhang & Stephens 2009)
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbitools.display.brief import Brief
from sbitools.errors import ImportanceWarning, PosteriorError
from sbitools.gate.plain import whole
from sbitools.parameters import ParameterSpace
from sbitools.seeds import check_seed, derive

from .asked import AskedPosterior, as_batch

__all__ = ["ImportanceSample", "pareto_smoothed", "reweight"]

_FEWEST = 100  # draws
# Above this shape, errors of weighted means cannot be trusted at any practical number of draws
# (arXiv:1507.02646, section 3.2.4).
_K = 0.7
_PICK = 91
_TAIL_LEAST = 5  # weights to fit a tail to


@dataclass(frozen=True, repr=False)
class ImportanceSample(Brief):
    """Weighted draws, for each observation; arrays have no axis B for one field.

    Args:
        parameters: columns of the draws.
        draws: of the posterior that was reweighted, (B, n, P).
        weights: Pareto-smoothed, sum 1 for each observation, (B, n).
        effective: number of independent draws that they are worth, 1 / sum of squares, (B,).
        pareto_k: shape of the tail of the weights, (B,): below 0.5 fine, above 0.7 not reliable.
        log_evidence: natural log of p(x), (B,); NaN for a posterior without a normalised density.
        log_evidence_error: its standard error, (B,), if pareto_k is below 0.7.
    """

    parameters: ParameterSpace
    draws: np.ndarray
    weights: np.ndarray
    effective: np.ndarray
    pareto_k: np.ndarray
    log_evidence: np.ndarray
    log_evidence_error: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Weighted mean, (B, P)."""
        return (self.weights[..., None] * self.draws).sum(-2)

    @property
    def sd(self) -> np.ndarray:
        """Weighted standard deviation, (B, P)."""
        square = (self.draws - self.mean[..., None, :]) ** 2
        return np.sqrt((self.weights[..., None] * square).sum(-2))

    def resample(self, n: int, seed: int = 0) -> Tensor:
        """Draws with equal weights, with replacement, float64 of shape (B, n, P).

        Args:
            n: how many; more than `effective` repeat each other.
            seed: of the choice.

        Raises:
            PosteriorError: for an n that is no count.
        """
        n, seed = whole(n, "n of resample", least=0, error=PosteriorError), check_seed(seed)
        weights = self.weights.reshape(-1, self.weights.shape[-1])
        draws = self.draws.reshape(*weights.shape, self.draws.shape[-1])
        out = np.empty((len(draws), n, draws.shape[-1]))
        for i, (own, weight) in enumerate(zip(draws, weights, strict=True)):
            rng, edges = np.random.default_rng(derive(seed, _PICK, i)), np.cumsum(weight)
            at = (np.arange(n) + rng.random()) / max(n, 1) * edges[-1]
            picks = np.searchsorted(edges, at).clip(max=len(own) - 1)
            out[i] = own[rng.permutation(picks)]
        shape = (*self.weights.shape[:-1], n, draws.shape[-1])
        return torch.from_numpy(out.reshape(shape))


def reweight(
    posterior: AskedPosterior, x: object, log_likelihood: Callable[..., Any], *, n: int = 10_000,
    seed: int = 0,
) -> ImportanceSample:  # fmt: skip
    """Weigh draws by a likelihood: the exact posterior, and the evidence.

    Args:
        posterior: to draw from; it must be at least as wide as the exact one.
        x: observed fields (B, *shape), or one field.
        log_likelihood: log p(x | theta), natural log, normalised in x: a function of theta (n, P),
            float64 tensor in physical units, or of theta and one field (*shape), to (n,) numbers.
        n: draws for each observation.
        seed: of the draws.

    Raises:
        ObservationError: if x does not fit.
        PosteriorError: if the likelihood gives something else than one number for each draw, NaN
            or +infinity, or zero at every draw.

    Warns:
        ImportanceWarning: if pareto_k is above 0.7: few draws carry all the weight.

    Example:
        >>> def log_likelihood(theta, x):
        ...     return -0.5 * ((x - theta @ matrix.T) ** 2 / variance + log_norm).sum(-1)
        >>> exact = posterior.reweight(x, log_likelihood)  # doctest: +SKIP
        >>> exact.log_evidence, exact.log_evidence_error  # doctest: +SKIP
    """
    n, seed = whole(n, "n of reweight", least=_FEWEST, error=PosteriorError), check_seed(seed)
    with_x = _takes_x(log_likelihood)
    fields, alone = as_batch(posterior, x)
    space = posterior.parameters
    drawn, log_q = posterior.sample_and_log_prob(fields, n, seed=seed)
    theta, log_q = torch.as_tensor(drawn).cpu().double(), torch.as_tensor(log_q).cpu().double()
    rows = []
    for b, own in enumerate(theta):
        value = _numbers(log_likelihood(own, fields[b]) if with_x else log_likelihood(own), n, b)
        rows.append(_weighed(value + (space.log_prob(own) - log_q[b]).numpy()))
    columns = [np.stack(column) for column in zip(*rows, strict=True)]
    weights, effective, k, evidence, error = columns
    if not getattr(posterior, "normalised", True):
        evidence, error = np.full_like(evidence, np.nan), np.full_like(error, np.nan)
    bad = np.flatnonzero(~(k <= _K))
    if len(bad):
        warnings.warn(
            f"weights of observations {bad[:10].tolist()} have a heavy tail: Pareto k up to "
            f"{k[bad].max():.2f} (expected at most {_K}), {effective[bad].min():.0f} effective of "
            f"{n} draws; the posterior misses part of the exact one, and neither the weighted "
            "draws nor the evidence can be trusted", ImportanceWarning, stacklevel=3,
        )  # fmt: skip
    arrays = [theta.numpy(), weights, effective, k, evidence, error]
    return ImportanceSample(space, *(a[0] if alone else a for a in arrays))


def _takes_x(function: Any) -> bool:
    if not callable(function):
        raise PosteriorError(
            "log_likelihood", expected="a function of theta (and x)",
            got=type(function).__name__, fix="pass the function itself",
        )  # fmt: skip
    try:
        return len(inspect.signature(function).parameters) > 1
    except (TypeError, ValueError):  # written in C
        return False


def _numbers(value: Any, n: int, row: int) -> np.ndarray:
    plain = value.detach().cpu() if isinstance(value, Tensor) else value
    try:
        found = np.asarray(plain, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.shape != (n,) or np.isnan(found).any() or np.isposinf(found).any():
        bad = int((np.isnan(found) | np.isposinf(found)).sum())
        raise PosteriorError(
            f"log_likelihood of observation {row}", expected=f"({n},) numbers, or -infinity",
            got=f"shape {found.shape}, {bad} NaN or +infinity",
            fix="return one log likelihood for each row of theta",
        )  # fmt: skip
    if np.isneginf(found).all():
        raise PosteriorError(
            f"log_likelihood of observation {row}", expected="a likelihood above 0 at some draw",
            got=f"0 at all {n}", fix="compare the likelihood with the posterior: unit, order of "
            "parameters, and x",
        )  # fmt: skip
    return found


def _weighed(log_weight: np.ndarray) -> tuple[Any, ...]:
    """Weights, effective number, k, log evidence and its error, of log weights (n,)."""
    log_weight = np.where(np.isnan(log_weight), -np.inf, log_weight)
    smooth, k = pareto_smoothed(log_weight)
    top = smooth.max()
    weight = np.exp(smooth - top)
    n, total = len(weight), weight.sum()
    effective = total**2 / (weight**2).sum()
    # var(mean) / mean^2, of independent weights: the error of the log of their mean.
    error = np.sqrt(max(n / effective - 1, 0) / n)
    return weight / total, effective, k, top + np.log(total / n), error


def pareto_smoothed(log_weight: np.ndarray) -> tuple[np.ndarray, float]:
    """Log weights (n,) with a smoothed upper tail, and its shape k.

    k is minus infinity where weights are all equal, and infinity where fewer than five are left to
    fit a tail to.
    """
    n, top = len(log_weight), log_weight.max()
    size = int(min(np.ceil(0.2 * n), np.ceil(3 * np.sqrt(n))))
    order = np.argsort(log_weight)
    tail = order[-size:]
    edge = log_weight[order[-size - 1]]
    if not np.isfinite(edge):
        tail = tail[np.isfinite(log_weight[tail])]
        edge = log_weight[tail].min()
    if np.ptp(log_weight[np.isfinite(log_weight)]) < 1e-9:
        return log_weight, -np.inf if np.isfinite(log_weight).sum() >= _TAIL_LEAST else np.inf
    if len(tail) < _TAIL_LEAST:
        return log_weight, np.inf
    base = np.exp(edge - top)
    k, sigma = _pareto(np.exp(log_weight[tail] - top) - base)
    if not np.isfinite(k):
        return log_weight, np.inf
    p = (np.arange(len(tail)) + 0.5) / len(tail)
    quantile = -np.log1p(-p) if abs(k) < 1e-12 else np.expm1(-k * np.log1p(-p)) / k
    out = log_weight.copy()
    # No weight is made larger than the largest one was.
    out[tail] = np.minimum(np.log(base + sigma * quantile) + top, top)
    return out, float(k)


def _pareto(excess: np.ndarray) -> tuple[float, float]:
    """Shape k and scale of a generalised Pareto distribution, for ascending values (m,) >= 0.

    The empirical Bayes estimate of Zhang & Stephens (2009), in terms of theta = k / scale, over a
    grid that the quartile of the data sets; k is drawn towards 0.5 as by ten further values.
    """
    m = len(excess)
    quartile, largest = excess[int(m / 4 + 0.5) - 1], excess[-1]
    if largest <= 0 or quartile <= 0:
        return np.nan, np.nan
    count = 30 + int(np.sqrt(m))
    at = np.arange(1, count + 1) - 0.5
    b = 1 / largest + (1 - np.sqrt(count / at)) / (3 * quartile)
    shape = np.log1p(-b[:, None] * excess).mean(1)
    likelihood = m * (np.log(-b / shape) - shape - 1)
    share = np.exp(likelihood - likelihood.max())
    best = (b * share).sum() / share.sum()
    k = np.log1p(-best * excess).mean()
    return (m * k + 5) / (m + 10), -k / best
