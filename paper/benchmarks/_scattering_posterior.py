"""Posteriors of sky maps beside the exact one: how each is asked, timed and compared.

All moments, densities and intervals are those of ln theta, in which both priors are uniform.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from _table import cpu_seconds
from torch import Tensor

from emulators.survey.instrument.likelihood import GainLikelihood
from emulators.survey.instrument.likelihood_table import GridPosterior, LikelihoodTable
from sbitools.errors import ConvergenceWarning, MisspecificationWarning
from sbitools.inference import MCMCPosterior, NLEOptions, Posterior
from sbitools.inference.mcmc import Unnormalised
from sbitools.observation import Observation
from sbitools.simulator import FieldSpec

__all__ = [
    "Answers",
    "Tests",
    "ask_chains",
    "ask_grid",
    "ask_network",
    "compare",
    "lost",
    "thirds",
]

INTERVAL = 0.68


@dataclass(frozen=True, eq=False)
class Tests:
    """Reference maps that nothing was trained on.

    Attributes:
        theta: the truth, (n, 2).
        maps: in uK, (n, 2, pixels).
    """

    theta: Tensor
    maps: Tensor

    @property
    def log_theta(self) -> np.ndarray:
        """ln theta, (n, 2)."""
        return np.log(self.theta.numpy())

    def first(self, n: int) -> Tests:
        """The first n."""
        return Tests(self.theta[:n], self.maps[:n])


@dataclass(frozen=True, eq=False)
class Answers:
    """What a posterior says of each of n tests.

    Attributes:
        mean: of ln theta, (n, 2).
        std: of ln theta, (n, 2).
        below: probability below the truth, of each parameter alone, (n, 2).
        log_true: log density of ln theta at the truth, (n,); None if it is that of the grid.
        denser: probability of densities above the truth's, (n,); None without draws.
        seconds: of a processor, per map.
    """

    mean: np.ndarray
    std: np.ndarray
    below: np.ndarray
    log_true: np.ndarray | None
    denser: np.ndarray | None
    seconds: float

    def first(self, n: int) -> Answers:
        """Those of the first n tests."""
        every = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v[:n] for k, v in every.items() if isinstance(v, np.ndarray)})


def ask_grid(likelihood: GainLikelihood, tests: Tests) -> tuple[Answers, GridPosterior]:
    """The exact posterior, by quadrature."""
    begun = cpu_seconds()
    grid = GridPosterior(likelihood.table(tests.maps))
    mean, std = grid.log_moments()
    seconds = (cpu_seconds() - begun) / len(mean)
    log_true = grid.log_prob(tests.theta[:, None])[:, 0] + tests.log_theta.sum(1)
    return Answers(mean, std, grid.cdf(tests.theta), log_true, None, seconds), grid


def ask_network(posterior: Posterior, tests: Tests, n: int, seed: int) -> Answers:
    """Draws of a trained posterior."""
    with warnings.catch_warnings():
        # Reference maps may be unlike emulated ones: what comes of it is what is measured.
        warnings.simplefilter("ignore", MisspecificationWarning)
        begun = cpu_seconds()
        draws, density = posterior.sample_and_log_prob(tests.maps, n, seed=seed)
        seconds = (cpu_seconds() - begun) / len(draws)
        truth = posterior.log_prob(tests.theta, tests.maps).numpy()
    return _answers(draws, density.numpy(), truth, tests, seconds)


def ask_chains(
    likelihood: GainLikelihood, tests: Tests, n: int, seed: int, told: dict[str, float]
) -> Answers:
    """Draws by emcee with the exact likelihood.

    Args:
        likelihood: exact.
        tests: the maps.
        n: draws of each.
        seed: of the chains.
        told: what became of the chains is put here.
    """
    estimator, shape = _Exact(likelihood), tuple(tests.maps.shape[1:])
    spec = FieldSpec("systematics", ("map", "pixel_nested"), shape, unit="uK")
    chains = MCMCPosterior(
        estimator, NLEOptions.model_validate({}), estimator.space, spec, Observation()
    )
    begun = cpu_seconds()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # counted below
        draws = chains.sample(tests.maps, n, seed=seed)
    seconds = (cpu_seconds() - begun) / len(draws)
    found, grid = chains.diagnostics, ask_grid(likelihood, tests)[1]
    assert found is not None  # noqa: S101  (sample sets it)
    begun = cpu_seconds()
    likelihood.log_likelihood(tests.theta[:4], tests.maps[:4])
    told |= {
        "converged": float(found.converged.mean()), "r_hat": float(found.r_hat.max()),
        "effective": float(np.minimum(found.ess_bulk, found.ess_tail).min()),
        "evaluations": estimator.evaluations / len(draws), "direct": (cpu_seconds() - begun) / 4,
    }  # fmt: skip
    density, truth = grid.log_prob(draws), grid.log_prob(tests.theta[:, None])[:, 0]
    return replace(_answers(draws, density, truth, tests, seconds), log_true=None)


def compare(answers: Answers, exact: Answers) -> dict[str, Any]:
    """Numbers of a table, each a list of two where there is one for each parameter.

    Args:
        answers: of some posterior for the first tests.
        exact: of the exact one for the same tests or more.
    """
    n = len(answers.mean)
    exact = exact.first(n)
    shift = (answers.mean - exact.mean) / exact.std
    out = {
        "n": n,
        "rms": np.sqrt((shift**2).mean(0)).tolist(),
        "bias": shift.mean(0).tolist(),
        "bias_error": (shift.std(0, ddof=1) / np.sqrt(n)).tolist(),
        "width": np.exp(np.log(answers.std / exact.std).mean(0)).tolist(),
        "inside": (np.abs(answers.below - 0.5) < INTERVAL / 2).mean(0).tolist(),
        "seconds": answers.seconds,
    }
    if answers.denser is not None:
        out["joint"] = float((answers.denser < INTERVAL).mean())
    if answers.log_true is not None:
        score, (loss, error) = answers.log_true, lost(answers, exact)
        out |= {
            "score": float(score.mean()), "score_error": float(score.std(ddof=1) / np.sqrt(n)),
            "lost": loss, "lost_error": error,
        }  # fmt: skip
    return out


def lost(answers: Answers, rival: Answers) -> tuple[float, float]:
    """Mean log density of the truth that a rival has more, in nats, and its standard error."""
    assert answers.log_true is not None  # noqa: S101  (only chains have none)
    assert rival.log_true is not None  # noqa: S101
    more = rival.log_true - answers.log_true
    return float(more.mean()), float(more.std(ddof=1) / np.sqrt(len(more)))


def thirds(
    answers: Answers, rival: Answers, exact: Answers, tests: Tests
) -> dict[str, list[list[float]]]:
    """Shift of one posterior's means against another's in exact sigma, by thirds of the truth.

    Returns:
        For a parameter's thirds, from low to high: shift of both parameters, then its errors.
    """
    shift = (answers.mean - rival.mean) / exact.std
    out = {}
    for column, name in enumerate(("gain_rms", "correlation_time")):
        order = np.array_split(np.argsort(tests.log_theta[:, column]), 3)
        out[name] = [
            [*shift[rows].mean(0), *(shift[rows].std(0, ddof=1) / np.sqrt(len(rows)))]
            for rows in order
        ]
    return out


def _answers(
    draws: Tensor, density: np.ndarray, truth: np.ndarray, tests: Tests, seconds: float
) -> Answers:
    """From draws of theta (n, L, 2), their log densities in theta (n, L) and the truth's (n,)."""
    logs, exact = np.log(draws.numpy()), tests.log_theta
    density, truth = density + logs.sum(2), truth + exact.sum(1)
    return Answers(
        logs.mean(1), logs.std(1), (logs < exact[:, None]).mean(1), truth,
        (density > truth[:, None]).mean(1), seconds,
    )  # fmt: skip


class _Exact(Unnormalised):
    """What chains ask: the exact likelihood, whose features of a map are its table's splines."""

    def __init__(self, likelihood: GainLikelihood) -> None:
        super().__init__(likelihood.parameters)
        self.likelihood, self.evaluations = likelihood, 0
        self.table: LikelihoodTable | None = None

    def features(self, x: Tensor) -> Tensor:
        """Coefficients of the splines, (B, 4 (T - 1))."""
        self.table = self.likelihood.table(x)
        return torch.from_numpy(self.table.log_square).flatten(1)

    def log_ratio(self, u: Tensor, features: Tensor) -> Tensor:
        """ln p(x | u), (B, n), for u (B, n, 2)."""
        assert self.table is not None  # noqa: S101  (chains ask for features first)
        self.evaluations += u.shape[0] * u.shape[1]
        table = replace(self.table, log_square=features.reshape(len(features), 4, -1).numpy())
        return torch.from_numpy(table.log_likelihood(self.space.from_unconstrained(u)))
