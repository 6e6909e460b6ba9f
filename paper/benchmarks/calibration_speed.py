"""What a full calibration costs, against sbi's checks of the same network and observations.

One estimator (embedding and spline flow), the same weights behind both interfaces:

- sbitools: `calibrate`, from a store on disk to the verdict: draws with densities and latents,
  every default check with its joint null and power, recovery and mutual information;
- sbi: `run_sbc` for ranks, `run_tarp`, and expected coverage as documented (`run_sbc` with
  ``reduce_fns=posterior.log_prob``): three runs that draw anew each. Expected coverage goes
  through observations one by one; it is measured on a few and scaled up. It is also measured
  without the leakage correction (``norm_posterior=False``), which ranks do not need.

Rounds alternate, and the fastest of each counts, in seconds of processor time on one thread, so
that other work on the machine hits all alike. Weights are untrained: they do not change the cost
of a spline.

The last row adds an observation for which the network gives no finite number.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _table import Table, options
from torch import Tensor

from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors, seeds
from sbitools.calibration import CalibrationDraws, calibrate, calibrate_draws
from sbitools.inference import Posterior
from sbitools.inference.estimator import Estimator, EstimatorOptions
from sbitools.observation import Observation

__all__ = ["main"]

FIELD = FieldSpec("x", ("i",), (10,))
SPACE = ParameterSpace([Parameter(n, priors.Uniform(0.0, 1.0)) for n in ("a", "b")])
BATCH = 100
REQUIRED, SHARE = 10, 1.15
BARE, OURS = "bare samples of the flow", "sbitools, full default calibration"
COVERAGE = "sbi expected coverage, as documented"
PLAIN = "sbi expected coverage, norm_posterior=False"
SUM, PLAIN_SUM = "sbi, all three", "sbi, all three, norm_posterior=False"
HOPELESS = "sbitools, one hopeless observation"


def build() -> Posterior:
    """The posterior with the default network."""
    chosen = EstimatorOptions()
    estimator = Estimator(chosen, len(SPACE), FIELD)
    return Posterior(estimator, chosen, SPACE, FIELD, Observation())


@torch.no_grad()
def bare(posterior: Posterior, x: Tensor, n_draws: int) -> None:
    """Samples of the flow and nothing else, in batches of the same size."""
    rng = seeds.generator(1)
    for rows in x.split(BATCH):
        z = torch.randn((len(rows), n_draws, len(SPACE)), generator=rng)
        posterior.estimator.draw(z, posterior.estimator.features(rows))


def ours(posterior: Posterior, store: SimulationStore, n_draws: int) -> None:
    """From the store to the verdict; nothing is left over from a round before."""
    forget()
    _ = calibrate(posterior, store, n_draws=n_draws, batch_size=BATCH, progress=False).verdict


def forget() -> None:
    """Empty the caches of null distributions, as in a new process."""
    modules = [
        sys.modules[f"sbitools.calibration.{name}"] for name in ("statistics.bands", "power")
    ]
    for module in modules:
        for value in vars(module).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()


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
            u = self.net.draw(z, self.net.features(condition), density=False)[0]
            return u.transpose(0, 1).reshape(*sample_shape, len(condition), len(SPACE))

    prior = torch.distributions.MultivariateNormal(torch.zeros(len(SPACE)), torch.eye(len(SPACE)))
    return DirectPosterior(Same(), prior, device="cpu")


@torch.no_grad()
def theirs(posterior, u: Tensor, x: Tensor, n_draws: int, reduce: object = "marginals") -> None:
    """sbi's ranks, of the parameters or of another quantity."""
    from sbi.diagnostics import run_sbc

    run_sbc(
        u, x, posterior, num_posterior_samples=n_draws, show_progress_bar=False,
        reduce_fns=reduce,
    )  # fmt: skip


@torch.no_grad()
def their_tarp(posterior, u: Tensor, x: Tensor, n_draws: int) -> None:
    """sbi's TARP."""
    from sbi.diagnostics import run_tarp

    run_tarp(u, x, posterior, num_posterior_samples=n_draws, show_progress_bar=False)


def fastest(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Processor seconds of the fastest round of each way; rounds alternate."""
    best = dict.fromkeys(ways, np.inf)
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.process_time()
            way()
            best[name] = min(best[name], time.process_time() - begun)
    return best


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and tabulate; 1 if ours is slower than required."""
    chosen = options((__doc__ or "").partition("\n")[0], argv)
    n, n_draws, rounds = (200, 200, 1) if chosen.quick else (1000, 1000, 2)
    few = max(10, n // 50)
    torch.set_num_threads(1)
    posterior = build()
    theta = SPACE.design(n, 1)
    x = seeds.normal(seeds.simulation_seeds(2, range(n)).tolist(), FIELD.shape)
    broken = x.clone()
    broken[n // 2] = 3e38
    u = SPACE.to_unconstrained(theta).float()
    other = sbi_posterior(posterior, x)
    plain = partial(other.log_prob, norm_posterior=False)
    with tempfile.TemporaryDirectory() as folder:
        store = SimulationStore.from_arrays(Path(folder) / "a", theta, x, SPACE, FIELD)
        bad = SimulationStore.from_arrays(Path(folder) / "b", theta, broken, SPACE, FIELD)
        draws = CalibrationDraws.from_posterior(posterior, store, n_draws, batch_size=BATCH)
        best = fastest({
            BARE: lambda: bare(posterior, x, n_draws),
            OURS: lambda: ours(posterior, store, n_draws),
            "of which checks, from the draws": lambda: (forget(), calibrate_draws(draws))[0],
            "sbi run_sbc": lambda: theirs(other, u, x, n_draws),
            "sbi run_tarp": lambda: their_tarp(other, u, x, n_draws),
            COVERAGE: lambda: theirs(other, u[:few], x[:few], n_draws, other.log_prob),
            PLAIN: lambda: theirs(other, u[:few], x[:few], n_draws, plain),
            HOPELESS: lambda: ours(posterior, bad, n_draws),
        }, rounds)  # fmt: skip
        excluded = CalibrationDraws.from_posterior(posterior, bad, 10).excluded
    for name in (COVERAGE, PLAIN):
        best[name] *= n / few
    rival = best["sbi run_sbc"] + best["sbi run_tarp"]
    best[SUM], best[PLAIN_SUM] = rival + best[COVERAGE], rival + best[PLAIN]
    table = Table(
        "calibration_speed", f"Calibration on {n} observations with {n_draws} draws each",
        ("what", "CPU seconds", "times sbitools"),
        f"full default calibration at least {REQUIRED} times faster than sbi's run_sbc, run_tarp "
        "and expected coverage; a hopeless observation costs no more than its share and is "
        "reported.", chosen.quick,
    )  # fmt: skip
    for name, seconds in best.items():
        table.add(name, seconds, seconds / best[OURS])
    table.passed = bool(
        best[SUM] >= REQUIRED * best[OURS]
        and best[HOPELESS] <= SHARE * best[OURS] and len(excluded) == 1
    )  # fmt: skip
    if chosen.quick:
        table.passed = None
    table.notes += [
        f"fastest of {rounds} alternating round(s), processor time of one thread",
        f"expected coverage: {few} observations, scaled to {n}",
        f"the hopeless observation: {len(excluded)} excluded and counted, all others drawn; "
        f"timing noise allowed for: {SHARE - 1:.0%}",
    ]
    table.data = {"seconds": best, "n": n, "n_draws": n_draws, "ratio": best[SUM] / best[OURS]}
    table.write(chosen.out)
    return 0 if table.passed in (True, None) else 1


if __name__ == "__main__":
    sys.exit(main())
