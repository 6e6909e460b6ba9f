"""The evidence of linear Gaussian data, by the chains of a likelihood: exact, and learned.

x = A theta + 0.3 n with theta ~ N(0, 1)^3 and n ~ N(0, 1)^5, so that x is normal. Estimators that
use the same draws of the same chains are compared: bridge sampling and importance sampling with
one fitted sum of normals, stepping stones, and the harmonic mean of likelihoods; beside them the
mean of the likelihood over draws of the prior.
"""

from __future__ import annotations

import math
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _table import Table

import sbitools
from sbitools import FieldSpec, Observation, Parameter, ParameterSpace, SimulationStore, priors
from sbitools.inference.evidence import LikelihoodPosterior
from sbitools.inference.likelihood import LikelihoodOptions
from sbitools.inference.mcmc import Unnormalised
from sbitools.results.evidence import log_ratios

__all__ = ["evidence"]

MOST = 0.1  # nats
_D, _P, _SIGMA = 5, 3, 0.3
_ROW, _COLUMN = np.mgrid[:_D, :_P]
_MATRIX = 0.8 * np.cos(_ROW * (_COLUMN + 0.5)) + 0.3
_COVARIANCE = _MATRIX @ _MATRIX.T + _SIGMA**2 * np.eye(_D)
SPACE = ParameterSpace([Parameter(f"theta_{i}", priors.Normal(0.0, 1.0)) for i in range(_P)])
SPEC = FieldSpec("x", ("i",), (_D,), "float64")


class Exact(Unnormalised):
    """The likelihood in closed form, in the place of a network."""

    log_scale = -0.5 * _D * math.log(2 * math.pi * _SIGMA**2)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """x itself."""
        return x

    def log_ratio(self, u: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """log p(x | u) without `log_scale`."""
        residual = features[:, None] - u.double() @ torch.from_numpy(_MATRIX).T
        return -0.5 * (residual**2).sum(-1) / _SIGMA**2


def _drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    theta = rng.standard_normal((n, _P))
    return theta, theta @ _MATRIX.T + _SIGMA * rng.standard_normal((n, _D))


def _truth(x: np.ndarray) -> np.ndarray:
    chi2 = np.einsum("bi,ij,bj->b", x, np.linalg.inv(_COVARIANCE), x)
    return -0.5 * (chi2 + np.linalg.slogdet(2 * np.pi * _COVARIANCE)[1])


def _others(posterior: LikelihoodPosterior, x: torch.Tensor, n: int, seed: int) -> np.ndarray:
    """log p(x) by importance sampling, the harmonic mean and the prior, each with an error."""
    exact: Any = posterior.estimator
    u, log_p = (part.double() for part in posterior._draw(x, n, seed, None))
    rng, out = np.random.default_rng(seed), []
    for b in range(len(x)):
        _, weights = log_ratios(
            u[b], log_p[b], lambda at, b=b: exact.log_prob(at[None], x[b : b + 1])[0], seed
        )
        prior = torch.from_numpy(rng.standard_normal((1, 100 * n, _P)))
        drawn, made = (
            exact.log_ratio(at, x[b : b + 1])[0].numpy() for at in (u[b : b + 1], prior)
        )
        means = (1, _log_mean(weights)), (-1, _log_mean(-drawn)), (1, _log_mean(made))
        out.append([(sign * value + exact.log_scale, error) for sign, (value, error) in means])
    return np.array(out)


def _log_mean(values: np.ndarray) -> tuple[float, float]:
    """Log of the mean of exp(values), and its standard error if they are independent."""
    top = values.max()
    weight = np.exp(values - top)
    mean = weight.mean()
    return float(top + np.log(mean)), float(weight.std() / mean / math.sqrt(len(weight)))


def _with_exact(table: Table, n_test: int, n: int) -> float:
    """Rows of the exact likelihood; rms error of the bridge."""
    x = torch.from_numpy(_drawn(n_test, 100)[1])
    truth = _truth(x.numpy())
    posterior = LikelihoodPosterior(Exact(SPACE), LikelihoodOptions(), SPACE, SPEC, Observation())
    begun = time.process_time()
    found = posterior.evidence(x, n=n, seed=1)
    seconds = (time.process_time() - begun) / n_test
    other = _others(posterior, x, n, 1)
    rows = {
        "bridge sampling: posterior.evidence": (found.log_evidence, found.log_evidence_error),
        "importance sampling from the same normals": other[:, 0].T,
        "stepping stones of the walkers": (found.stepping_stones, found.stepping_stones_error),
        f"mean over {100 * n} draws of the prior": other[:, 2].T,
        "harmonic mean of likelihoods of the draws": other[:, 1].T,
    }
    for what, (value, error) in rows.items():
        off = value - truth
        table.add("exact", what, _rms(off), f"{off.mean():+.4f}", _rms(error),
                  seconds if what.startswith("bridge") else "-")  # fmt: skip
    return _rms(found.log_evidence - truth)


def _with_learned(table: Table, n_train: int, n_test: int, n: int) -> dict[str, float]:
    """Rows of a trained nle."""
    theta, x = _drawn(n_train, 1)
    with tempfile.TemporaryDirectory() as name:
        store = SimulationStore.from_arrays(
            Path(name) / "store", theta, x, SPACE, SPEC, design="random"
        )
        posterior = sbitools.train(store, "nle", run_dir=Path(name) / "run")
    told, seen = _drawn(n_test, 100)
    fields, truth = torch.from_numpy(seen), _truth(seen)
    begun = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of extrapolation, and of chains of few draws
        found = posterior.evidence(fields, n=n, seed=1)
    seconds = (time.process_time() - begun) / n_test
    off = found.log_evidence - truth
    what = f"nle of {n_train} simulations"
    table.add(what, "bridge sampling: posterior.evidence", _rms(off), f"{off.mean():+.4f}",
              _rms(found.log_evidence_error), seconds)  # fmt: skip
    estimator: Any = posterior.estimator
    with torch.no_grad():
        learned = estimator.log_ratio(torch.from_numpy(told)[:, None], posterior.features(fields))
    chi2 = ((seen - told @ _MATRIX.T) ** 2).sum(1) / _SIGMA**2
    density = learned[:, 0].double().numpy() + estimator.log_scale + 0.5 * chi2 - Exact.log_scale
    table.add(what, "its density of x at the true theta, log q - log p",
              _rms(density), f"{density.mean():+.4f}", "-", "-")  # fmt: skip
    return {"evidence": _rms(off), "density": _rms(density)}


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def evidence(quick: bool) -> Table:
    """The table of this set."""
    n_test, n_train, n = (2, 200, 1000) if quick else (10, 2000, 4000)
    table = Table(
        "peers_evidence", "The evidence of linear Gaussian data: natural log, against the truth",
        ("likelihood", "estimator", "rms error [nats]", "mean error", "stated error (rms)",
         "CPU seconds an observation"),
        f"an rms error of {MOST} nats at most, of the exact likelihood.", quick,
    )  # fmt: skip
    reached = _with_exact(table, n_test, n)
    learned = _with_learned(table, n_train, n_test, min(n, 2000))
    table.passed = None if quick else reached <= MOST
    table.notes.append(
        f"{n_test} observations, {n} draws of each ({min(n, 2000)} of the learned likelihood); a "
        "stated error that is far below the true one is the harmonic mean's, whose variance is "
        "infinite; what a network has learned wrongly is in no stated error"
    )
    table.data = {"exact": reached, "learned": learned}
    return table
