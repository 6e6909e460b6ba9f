"""Correlated priors: a decay, x_j = a exp(-b t_j) + noise, where a and b depend on each other.

A multivariate normal and a Gaussian copula of a log-normal and a uniform law, of
`sbitools.priors`; the exact posteriors are by quadrature with densities of scipy.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _peers_exact import Problem, stored
from _peers_grid import quadrature
from _peers_rivals import sbi_npe
from _table import Table
from scipy.stats import lognorm, multivariate_normal, norm, uniform

import sbitools
from sbitools import FieldSpec, Parameter, ParameterSpace, priors

__all__ = ["PROBLEMS", "copula", "correlated", "normal"]

_TIMES = np.array([0.5, 1.0, 2.0, 4.0])
_NOISE = 0.2
_MEAN, _COVARIANCE = np.array([2.0, 1.0]), np.array([[0.25, 0.105], [0.105, 0.09]])
_RHO, _CENTRE, _SPREAD, _ENDS = -0.8, 2.0, 0.4, (0.2, 2.0)
_normal: Any = multivariate_normal  # whose stub has no matrices
OFF = 0.01  # of the integral of a density


def normal() -> Problem:
    """A multivariate normal prior, correlation 0.7."""
    sd = np.sqrt(np.diag(_COVARIANCE))
    joint = priors.multivariate_normal(("a", "b"), _MEAN, _COVARIANCE)
    space = ParameterSpace([Parameter(name, None) for name in "ab"], [joint])
    box = np.stack([_MEAN - 6 * sd, _MEAN + 6 * sd], 1)
    return _problem(space, box, _normal(_MEAN, _COVARIANCE).logpdf)


def copula() -> Problem:
    """a log-normal, b uniform, and normal scores with correlation -0.8."""
    laws = (priors.LogNormal(float(np.log(_CENTRE)), _SPREAD), priors.Uniform(*_ENDS))
    parameters = [Parameter(name, law) for name, law in zip("ab", laws, strict=True)]
    margins: Any = lognorm(_SPREAD, scale=_CENTRE), uniform(_ENDS[0], _ENDS[1] - _ENDS[0])

    scores = _normal(np.zeros(2), np.array([[1.0, _RHO], [_RHO, 1.0]]))

    def log_prior(theta: np.ndarray) -> np.ndarray:
        columns = list(zip(margins, theta.T, strict=True))
        s = np.stack([norm.ppf(margin.cdf(t)) for margin, t in columns], 1)
        own = np.stack([margin.logpdf(t) for margin, t in columns], 1) - norm.logpdf(s)
        return own.sum(1) + scores.logpdf(s)

    ends = [margins[0].ppf([1e-8, 1 - 1e-8]), np.array(_ENDS)]
    return _problem(
        ParameterSpace(parameters, [priors.Copula(("a", "b"), _RHO)]), np.stack(ends), log_prior
    )


def _problem(space: ParameterSpace, box: np.ndarray, log_prior: Any) -> Problem:
    def mean(theta: np.ndarray) -> np.ndarray:
        return theta[:, :1] * np.exp(-theta[:, 1:] * _TIMES)

    def log_likelihood(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        return norm.logpdf(x, mean(theta), _NOISE).sum(1)

    def simulate(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return mean(theta) + _NOISE * rng.standard_normal((len(theta), len(_TIMES)))

    spec = FieldSpec("x", ("t",), (len(_TIMES),))
    return Problem(space, spec, box, log_prior, log_likelihood, simulate)


PROBLEMS: dict[str, Callable[[], Problem]] = {"multivariate normal": normal, "copula": copula}


def correlated(quick: bool) -> Table:
    """The table of this set."""
    n, n_tests, n_grids, n_draws = (300, 100, 3, 50) if quick else (2000, 500, 40, 200)
    options = {"time_limit": 5.0} if quick else {}
    table = Table(
        "peers_correlated", "Correlated priors: calibration, normalisation, distance to the exact",
        ("prior", "what", "calibration", "SBC: p", "integral", "nats from the exact",
         "CPU seconds of training"),
        "the posterior of sbitools passes `calibrate` by its defaults, and its density integrates "
        f"to 1 within {100 * OFF:.0f} %.", quick,
    )  # fmt: skip
    good = []
    for label, make in PROBLEMS.items():
        problem = make()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            train = stored(problem, n, folder / "train", 1)
            tests = stored(problem, n_tests, folder / "tests", 2)
            ways = {
                "sbitools NPE": partial(sbitools.train, train, run_dir=folder / "run", **options),
                "sbi NPE": partial(sbi_npe, train),
            }
            for what, way in ways.items():
                begun = time.process_time()
                posterior = way()
                seconds = time.process_time() - begun
                result = sbitools.calibrate(posterior, tests, n_draws=n_draws, progress=False)
                off, nats = _densities(posterior, problem, n_grids)
                ranks = ", ".join(f"{p:.2g}" for p in _ranks(result))
                verdict = "passed" if result.passed else "FAILED"
                table.add(label, what, verdict, ranks, f"1 ± {off:.1g}", nats, seconds)
                if what == "sbitools NPE":
                    good.append(result.passed and off <= OFF)
    table.passed = None if quick else all(good)
    table.notes += [
        f"{n} simulations, the same for both, defaults of both packages; {n_tests} tests of "
        f"{n_draws} draws; densities on grids for {n_grids} other simulations",
        "integral: the largest distance from 1; nats: mean Kullback-Leibler divergence from the "
        "exact posterior",
    ]
    return table


def _ranks(result: Any) -> list[float]:
    return [c.p_value for c in result.emulated if c.name.startswith("sbc")]


def _densities(posterior: Any, problem: Problem, n: int) -> tuple[float, float]:
    """Largest distance of its integral from 1, and mean nats from the exact posterior."""
    offs, nats = [], []
    for x in problem.drawn(n, 3)[1]:

        def log_q(theta: np.ndarray, x: np.ndarray = x[None]) -> np.ndarray:
            return posterior.log_prob(torch.from_numpy(theta)[None], x)[0].numpy()

        grid = problem.exact(x)
        nats.append(grid.nats_to(log_q(grid.theta)))
        offs.append(abs(np.exp(quadrature(log_q, problem.box).log_mass) - 1))
    return float(max(offs)), float(np.mean(nats))
