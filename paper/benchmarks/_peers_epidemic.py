"""Influenza in an English boarding school, January 1978: contact and recovery rates.

Boys in bed on fourteen days, of 763 (British Medical Journal 1 (1978) 587). The deterministic SIR
model, with one infected on day 0,

    S' = -beta S I / N,    I' = beta S I / N - gamma I,

and counts that are negative binomial with mean I and variance I + I^2 / phi, as in Grinsztajn,
Semenova, Margossian & Riou 2021 (Statistics in Medicine 40, 6209; arXiv:2006.02985), who infer phi
too, with half-normal priors; here it is what they found.
"""

from __future__ import annotations

import math

import numpy as np
from _peers_exact import JUDGED, REQUIRED, Problem, compared
from _table import Table
from scipy.stats import lognorm, nbinom, norm

from sbitools import FieldSpec, Parameter, ParameterSpace, priors

__all__ = ["IN_BED", "epidemic", "infected", "problem"]

IN_BED = np.array([3, 8, 26, 76, 225, 298, 258, 233, 189, 128, 68, 29, 14, 4.0])
PUPILS, PHI = 763, 1 / 0.14
_CENTRES, _SPREAD = (2.0, 0.5), 0.5  # per day; of the logarithm
SIMULATIONS = 2000
PUBLISHED = ("1.74 ± 0.05", "0.54 ± 0.05")
_STEPS = 20  # of Runge-Kutta a day


def infected(theta: np.ndarray) -> np.ndarray:
    """Expected boys in bed on days 1 to 14, (n, 14), for rates beta and gamma in theta (n, 2).

    Fourth order in log I and S: all rows take the same steps, and none becomes negative.
    """
    beta, gamma = theta.T
    state = np.stack([np.full(len(theta), PUPILS - 1.0), np.zeros(len(theta))])  # S, log I

    def slope(y: np.ndarray) -> np.ndarray:
        force = beta / PUPILS * np.exp(y[1])
        return np.stack([-force * y[0], beta * y[0] / PUPILS - gamma])

    h, days = 1 / _STEPS, []
    for _ in IN_BED:
        for _ in range(_STEPS):
            k1 = slope(state)
            k2 = slope(state + h / 2 * k1)
            k3 = slope(state + h / 2 * k2)
            state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(state + h * k3))
        days.append(np.exp(state[1]))
    return np.stack(days, 1)


def problem() -> Problem:
    """Log-normal priors of medians 2 and 0.5 per day, half an e-fold wide."""
    names = ("beta", "gamma")
    laws = [priors.LogNormal(math.log(centre), _SPREAD) for centre in _CENTRES]
    reach = norm.isf(1e-8) * _SPREAD

    def log_prior(theta: np.ndarray) -> np.ndarray:
        return lognorm.logpdf(theta, _SPREAD, scale=_CENTRES).sum(1)

    def log_likelihood(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        mean = infected(theta)
        return nbinom.logpmf(x, PHI, PHI / (PHI + mean)).sum(1)

    def simulate(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return rng.poisson(infected(theta) * rng.gamma(PHI, 1 / PHI, (len(theta), 14)))

    return Problem(
        ParameterSpace(
            [Parameter(n, law, unit="1/d") for n, law in zip(names, laws, strict=True)]
        ),
        FieldSpec("in_bed", ("day",), (14,)),
        np.array([[c * math.exp(-reach), c * math.exp(reach)] for c in _CENTRES]),
        log_prior, log_likelihood, simulate, IN_BED,
    )  # fmt: skip


def epidemic(quick: bool) -> Table:
    """The table of this set."""
    table = Table(
        "peers_epidemic", "Influenza in a boarding school: rates from 14 counts",
        ("what", "beta, per day", "gamma, per day", *JUDGED), REQUIRED, quick,
    )  # fmt: skip
    n, options = (300, {"time_limit": 5.0}) if quick else (SIMULATIONS, {})
    compared(table, problem(), n, options)
    table.add("Grinsztajn et al., phi free", *PUBLISHED, *["-"] * len(JUDGED))
    table.notes.append(
        "Grinsztajn et al.: of the paper's case study (mc-stan.org/users/documentation/"
        "case-studies/boarding_school_case_study.html), half-normal priors"
    )
    return table
