"""NLE with emcee on linear-Gaussian tasks, against the posterior in closed form.

theta ~ N(0, prior), x = A theta + noise. A network learns p(x | theta) from simulations, chains
explore likelihood times prior, and the mean and the covariance of the draws are compared with the
closed form, each entry in units of its own standard error: that of a finite number of draws of
the exact posterior, sd / sqrt(n) for a mean and sqrt((C_ii C_jj + C_ij^2) / n) for an entry of
the covariance, with 1 / n = 1 / draws + 1 / (smallest effective size of the chains). A perfect
network would deviate by 1 in rms, and the largest of k entries by what the table says for chance.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from _table import Table, options
from scipy.stats import norm

import sbitools
from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors, seeds

__all__ = ["main"]

N_DRAWS = 1000
LARGEST = 3.0


@dataclass(frozen=True)
class Task:
    """x = A theta + noise * n.

    Args:
        name: in the table.
        matrix: A, (D, P).
        prior: standard deviation of each parameter.
        noise: standard deviation of each datum.
    """

    name: str
    matrix: np.ndarray
    prior: float
    noise: float

    @property
    def parameters(self) -> ParameterSpace:
        """Normal priors."""
        n = self.matrix.shape[1]
        return ParameterSpace(
            [Parameter(f"theta_{i}", priors.Normal(0.0, self.prior)) for i in range(n)]
        )

    @property
    def output(self) -> FieldSpec:
        """The data vector."""
        return FieldSpec("x", ("i",), (len(self.matrix),))

    def simulate(self, n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """theta (n, P), x (n, D) and the seeds."""
        theta = self.parameters.design(n, seed)
        numbers = torch.from_numpy(seeds.simulation_seeds(seed, range(n)))
        noise = seeds.normal(numbers, self.output.shape, torch.float64)
        return (
            theta,
            (theta @ torch.from_numpy(self.matrix).T + self.noise * noise).float(),
            numbers,
        )

    @property
    def covariance(self) -> np.ndarray:
        """Of the posterior, (P, P)."""
        precision = np.eye(self.matrix.shape[1]) / self.prior**2
        return np.linalg.inv(precision + self.matrix.T @ self.matrix / self.noise**2)

    def mean(self, x: np.ndarray) -> np.ndarray:
        """Of the posterior, (n, P)."""
        return x @ self.matrix @ self.covariance / self.noise**2


def tasks() -> list[Task]:
    """Correlated, narrow, and sbibm's gaussian_linear (arXiv:2101.04653, appendix T.1)."""
    i, j = np.mgrid[:5, :2]
    slanted = 0.8 * np.cos(i * (j + 0.5)) + 0.3
    return [
        Task("correlated, 2 parameters, 5 data", slanted, 1.0, 0.5),
        Task("narrow, 2 parameters, 5 data", slanted, 1.0, 0.02),
        Task("gaussian_linear, 10 parameters, 10 data", np.eye(10), 0.1**0.5, 0.1**0.5),
    ]


def deviations(task: Task, draws: np.ndarray, x: np.ndarray, n_eff: float) -> np.ndarray:
    """Means, then the covariance's upper triangle, in standard errors, (B, P + P (P + 1) / 2)."""
    exact, upper = task.covariance, np.triu_indices(len(task.covariance))
    diagonal = np.diag(exact)
    means = (draws.mean(1) - task.mean(x)) / np.sqrt(diagonal / n_eff)
    errors = np.sqrt((np.outer(diagonal, diagonal) + exact**2) / n_eff)
    covariances = np.stack([(np.cov(d.T) - exact) / errors for d in draws])
    return np.concatenate([means, covariances[:, upper[0], upper[1]]], axis=1)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and tabulate; 1 if an entry is further off than required."""
    chosen = options((__doc__ or "").partition("\n")[0], argv)
    n = 10_000 if chosen.quick else 100_000  # so many that the network's own error is the smaller
    table = Table(
        "nle_gaussian", f"NLE and emcee, {n} simulations, {N_DRAWS} draws of one observation",
        ("task", "entries", "largest", "by chance", "rms", "R-hat", "ESS", "training s",
         "sampling s"),
        f"every mean and covariance within {LARGEST:g} standard errors of the closed form.",
        chosen.quick,
    )  # fmt: skip
    worst = 0.0
    for task in tasks():
        theta, x, numbers = task.simulate(n, 1)
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            store = SimulationStore.from_arrays(
                Path(folder) / "s", theta, x, task.parameters, task.output, seeds=numbers
            )
            begun = time.perf_counter()
            posterior = sbitools.train(
                store,
                "nle",
                run_dir=Path(folder) / "r",
                epochs=1,  # the linear part needs none
            )
        trained = time.perf_counter() - begun
        observed = task.simulate(1, 2)[1]
        begun = time.perf_counter()
        draws = posterior.sample(observed, N_DRAWS, seed=1).numpy()
        sampled = time.perf_counter() - begun
        told = posterior.diagnostics  # pyright: ignore[reportAttributeAccessIssue]
        effective = float(min(told.ess_bulk.min(), told.ess_tail.min()))
        off = deviations(
            task, draws, observed.double().numpy(), 1 / (1 / N_DRAWS + 1 / effective)
        ).ravel()
        chance = float(norm.isf(0.5 * (1 - 0.5 ** (1 / off.size))))
        table.add(
            task.name, off.size, float(np.abs(off).max()), chance,
            float(np.sqrt((off**2).mean())), float(told.r_hat.max()), effective, trained, sampled,
        )  # fmt: skip
        worst = max(worst, float(np.abs(off).max()))
    table.passed = worst <= LARGEST
    table.notes.append("by chance: median of the largest of so many independent normal numbers")
    table.write(chosen.out)
    return 0 if table.passed else 1


if __name__ == "__main__":
    sys.exit(main())
