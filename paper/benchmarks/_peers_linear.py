"""Ten numbers that are linear in three parameters, from 200 simulations: the toy of LtU-ILI.

x_i = 3 a sin(i) + b i^2 - 2 c i + noise of unit variance, with a, b, c uniform on 0 to 1. Held-out
log density of the truth, in nats; the exact one by counting draws of the normal posterior that lie
inside the prior. sbi's densities are divided by the share of its draws inside, by
`ForeignPosterior`.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from _peers_rivals import sbi_npe
from _table import Table

import sbitools
from sbitools import (
    FieldSpec,
    Parameter,
    ParameterSpace,
    SimulationStore,
    priors,
)

__all__ = ["linear"]

LEAST, PUBLISHED = 4.6, 3.62  # nats: what is required, and what LtU-ILI's tutorial reports
_I = np.arange(10.0)
_DESIGN = np.stack([3 * np.sin(_I), _I**2, -2 * _I])
SPACE = ParameterSpace([Parameter(name, priors.Uniform(0.0, 1.0)) for name in "abc"])
SPEC = FieldSpec("x", ("i",), (10,))


def _drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    theta = rng.uniform(0, 1, (n, 3))
    return theta, theta @ _DESIGN + rng.standard_normal((n, 10))


def _exact(theta: np.ndarray, x: np.ndarray, draws: int = 20_000) -> np.ndarray:
    """Log density of theta (n, 3) for x (n, 10)."""
    covariance = np.linalg.inv(_DESIGN @ _DESIGN.T)
    mean = x @ _DESIGN.T @ covariance
    factor = np.linalg.cholesky(covariance)
    z = np.random.default_rng(0).standard_normal((draws, 3)) @ factor.T
    inside = np.array([((z + m > 0) & (z + m < 1)).all(1).mean() for m in mean])
    left = np.linalg.solve(factor, (theta - mean).T)
    density = -0.5 * (left**2).sum(0) - 1.5 * np.log(2 * np.pi) - np.log(factor.diagonal()).sum()
    return density - np.log(inside)


def linear(quick: bool) -> Table:
    """The table of this set."""
    repeats, n_test = (1, 200) if quick else (3, 1000)
    told, seen = _drawn(n_test, 100)
    exact = _exact(told, seen)
    scores: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for repeat in range(repeats):
        theta, x = _drawn(200, repeat)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            store = SimulationStore.from_arrays(
                folder / "store", theta, x.astype(np.float32), SPACE, SPEC, design="random"
            )
            ways = {
                "sbitools": lambda: sbitools.train(store, run_dir=folder / "run"),  # noqa: B023
                "sbi default": lambda: sbi_npe(store),  # noqa: B023
                "sbi NSF": lambda: sbi_npe(store, "nsf"),  # noqa: B023
            }
            for what, way in ways.items():
                begun = time.process_time()
                posterior = way()
                seconds.setdefault(what, []).append(time.process_time() - begun)
                log_prob = posterior.log_prob(torch.from_numpy(told), seen.astype(np.float32))
                scores.setdefault(what, []).append(float(log_prob.mean()))
    table = Table(
        "peers_linear", "A linear problem from 200 simulations: log density of the truth",
        ("what", "nats", "below the exact posterior", "CPU seconds of training"),
        f"{LEAST} nats or more, where the exact posterior has {exact.mean():.2f}.", quick,
    )  # fmt: skip
    for what, found in scores.items():
        spread = f" ± {np.std(found, ddof=1):.2g}" if len(found) > 1 else ""
        table.add(
            what, f"{np.mean(found):.3f}{spread}", exact.mean() - np.mean(found),
            float(np.mean(seconds[what])),
        )  # fmt: skip
    table.add("LtU-ILI, as its tutorial reports", PUBLISHED, exact.mean() - PUBLISHED, "-")
    table.passed = None if quick else bool(np.mean(scores["sbitools"]) >= LEAST)
    table.notes.append(
        f"mean over {repeats} sets of 200 simulations, ± their scatter; {n_test} tests; defaults "
        "of both packages; the published number is of other simulations"
    )
    table.data = {"scores": scores, "seconds": seconds, "exact": float(exact.mean())}
    return table
