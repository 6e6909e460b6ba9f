"""What ranks cost beyond the flow's own samples, and against sbi's run_sbc on the same network.

One estimator (embedding and spline flow), three ways to use it on the same observations:

- bare: the flow maps random numbers to draws, nothing else;
- sbitools: draws in theta from a store on disk, with observation model, failures and ranks;
- sbi: `run_sbc`, batched and one observation at a time, on the same network in an sbi posterior.

Rounds alternate between the ways, and the fastest round of each counts, so that other work on the
machine hits all alike. Weights are untrained: they do not change the cost of a spline. The way
one at a time is measured on fewer observations and scaled up.

The last row adds an observation for which the network gives no finite number.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from _table import Table, options
from torch import Tensor

from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors, seeds
from sbitools.calibration import CalibrationDraws, sbc
from sbitools.inference import Posterior
from sbitools.inference.estimator import Estimator, EstimatorOptions
from sbitools.observation import Observation

__all__ = ["main"]

FIELD = FieldSpec("x", ("i",), (10,))
SPACE = ParameterSpace([Parameter(n, priors.Uniform(0.0, 1.0)) for n in ("a", "b")])
BATCH = 100
REQUIRED = 1.1


def build() -> Posterior:
    """The posterior with the default network."""
    chosen = EstimatorOptions()
    estimator = Estimator(chosen, len(SPACE), FIELD)
    return Posterior(estimator, chosen, SPACE, FIELD, Observation())


@torch.no_grad()
def bare(posterior: Posterior, x: Tensor, n_draws: int) -> None:
    """Samples of the flow and nothing else, in batches of the same size."""
    generator = torch.Generator().manual_seed(1)
    for rows in x.split(BATCH):
        z = torch.randn((len(rows), n_draws, len(SPACE)), generator=generator)
        posterior.estimator.inverse(z, posterior.estimator.features(rows))


def ours(posterior: Posterior, store: SimulationStore, n_draws: int, density: bool) -> None:
    """From the store to the result of the SBC check."""
    draws = CalibrationDraws.from_posterior(
        posterior, store, n_draws, batch_size=BATCH, log_prob=density, time_limit=1.0
    )
    sbc(draws)


def sbi_posterior(posterior: Posterior, x: Tensor):
    """The same network as an sbi posterior, in the coordinates of the flow."""
    from sbi.inference.posteriors import DirectPosterior
    from sbi.neural_nets.estimators import ConditionalDensityEstimator

    class Same(ConditionalDensityEstimator):
        """Our network behind sbi's interface."""

        def __init__(self) -> None:
            shapes = torch.Size([len(SPACE)]), torch.Size(FIELD.shape)
            super().__init__(posterior.estimator, *shapes)

        def log_prob(self, input: Tensor, condition: Tensor, **_: object) -> Tensor:
            features = self.net.features(condition)
            return self.net.log_prob(input.transpose(0, 1), features).transpose(0, 1)

        def loss(self, input: Tensor, condition: Tensor, **_: object) -> Tensor:
            return -self.log_prob(input[None], condition)[0]

        def sample(self, sample_shape: torch.Size, condition: Tensor, **_: object) -> Tensor:
            n = sample_shape.numel()
            z = torch.randn(len(condition), n, len(SPACE))
            u = self.net.inverse(z, self.net.features(condition))[0]
            return u.transpose(0, 1).reshape(*sample_shape, len(condition), len(SPACE))

    prior = torch.distributions.MultivariateNormal(torch.zeros(len(SPACE)), torch.eye(len(SPACE)))
    return DirectPosterior(Same(), prior, device="cpu")


@torch.no_grad()
def theirs(posterior, u: Tensor, x: Tensor, n_draws: int, batched: bool) -> None:
    """sbi's ranks."""
    from sbi.diagnostics import run_sbc

    run_sbc(
        u, x, posterior, num_posterior_samples=n_draws, show_progress_bar=False,
        use_batched_sampling=batched,
    )  # fmt: skip


def fastest(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Seconds of the fastest round of each way; rounds alternate."""
    best = dict.fromkeys(ways, np.inf)
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            best[name] = min(best[name], time.perf_counter() - begun)
    return best


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and tabulate; 1 if ours is slower than required."""
    chosen = options((__doc__ or "").partition("\n")[0], argv)
    n, n_draws, rounds = (200, 200, 2) if chosen.quick else (1000, 1000, 3)
    single = max(20, n // 20)
    posterior = build()
    theta = SPACE.design(n, 1)
    x = seeds.normal(seeds.simulation_seeds(2, range(n)).tolist(), FIELD.shape)
    broken = x.clone()
    broken[n // 2] = 3e38
    u = SPACE.to_unconstrained(theta).float()
    other = sbi_posterior(posterior, x)
    with tempfile.TemporaryDirectory() as folder:
        store = SimulationStore.from_arrays(Path(folder) / "a", theta, x, SPACE, FIELD)
        bad = SimulationStore.from_arrays(Path(folder) / "b", theta, broken, SPACE, FIELD)
        best = fastest({
            "bare samples of the flow": lambda: bare(posterior, x, n_draws),
            "sbitools, ranks": lambda: ours(posterior, store, n_draws, False),
            "sbitools, ranks and densities": lambda: ours(posterior, store, n_draws, True),
            "sbi run_sbc, batched": lambda: theirs(other, u, x, n_draws, True),
            "sbi run_sbc, one at a time": lambda: theirs(
                other, u[:single], x[:single], n_draws, False),
            "sbitools, one hopeless observation": lambda: ours(posterior, bad, n_draws, False),
        }, rounds)  # fmt: skip
        excluded = CalibrationDraws.from_posterior(posterior, bad, 10).excluded
    best["sbi run_sbc, one at a time"] *= n / single
    base = best["bare samples of the flow"]
    table = Table(
        "calibration_speed", f"Ranks of {n} observations with {n_draws} draws each",
        ("what", "seconds", "times bare"),
        f"ranks at most {REQUIRED} times the bare samples, and never slower than the better mode "
        "of run_sbc.", chosen.quick,
    )  # fmt: skip
    for name, seconds in best.items():
        table.add(name, seconds, seconds / base)
    rival = min(seconds for name, seconds in best.items() if name.startswith("sbi "))
    mine = best["sbitools, ranks"]
    table.passed = bool(mine <= REQUIRED * base and mine <= rival)
    table.notes += [
        f"fastest of {rounds} alternating rounds; torch uses {torch.get_num_threads()} thread(s)",
        f"one at a time: {single} observations, scaled to {n}",
        f"the hopeless observation: {len(excluded)} excluded and counted, all others drawn",
    ]
    table.data = {"seconds": best, "n": n, "n_draws": n_draws}
    table.write(chosen.out)
    return 0 if table.passed else 1


if __name__ == "__main__":
    sys.exit(main())
