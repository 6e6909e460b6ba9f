"""Posteriors of two parameters and measured data, against the exact one: rows and verdict."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _peers_grid import Grid, quadrature
from _peers_rivals import sbi_npe
from _table import Table

import sbitools
from sbitools import FieldSpec, ParameterSpace, SimulationStore
from sbitools.seeds import simulation_seeds

__all__ = ["JUDGED", "OURS", "REQUIRED", "Problem", "compared", "measured", "stored"]

MEAN, WIDTH = 0.15, 0.05
OURS = {"sbitools NPE": "npe", "sbitools NLE": "nle"}
JUDGED = ("shift of the means", "excess of the widths", "nats", "CPU seconds of training")
REQUIRED = (
    f"by sbitools, every mean within {MEAN} exact standard deviations and every width within "
    f"{100 * WIDTH:.0f} %."
)
_DRAWS = 20_000  # their own error: 0.007 sd of a mean, 0.5 % of a width


@dataclass(frozen=True)
class Problem:
    """Two parameters, and data whose likelihood is known.

    Args:
        space: priors, for training.
        spec: of the data vector.
        box: where the prior has mass, (2, 2).
        log_prior: of theta (n, 2), written without sbitools.
        log_likelihood: of theta (n, 2) and one x (D,).
        simulate: x (n, D) of theta (n, 2) and a generator.
        observed: the measured data, (D,); none if there are only simulated ones.
    """

    space: ParameterSpace
    spec: FieldSpec
    box: np.ndarray
    log_prior: Callable[[np.ndarray], np.ndarray]
    log_likelihood: Callable[[np.ndarray, np.ndarray], np.ndarray]
    simulate: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    observed: np.ndarray = field(default_factory=lambda: np.empty(0))

    def exact(self, x: np.ndarray) -> Grid:
        """The posterior of one x (D,)."""
        return quadrature(lambda t: self.log_prior(t) + self.log_likelihood(t, x), self.box)

    def drawn(self, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Theta (n, 2) of the prior and x (n, D)."""
        theta = self.space.design(n, seed).numpy()
        return theta, self.simulate(theta, np.random.default_rng(seed)).astype(np.float32)


def stored(problem: Problem, n: int, path: Path, seed: int) -> SimulationStore:
    """Simulations of a problem, made here."""
    return SimulationStore.from_arrays(
        path, *problem.drawn(n, seed), problem.space, problem.spec, design="random",
        seeds=simulation_seeds(seed, range(n)),
    )  # fmt: skip


def measured(posterior: Any, grid: Grid, x: np.ndarray) -> dict[str, Any]:
    """Means and widths of draws against the exact ones, and the distance in nats."""
    x = x.astype(np.float32)[None]
    draws = posterior.sample(x, _DRAWS, seed=1)[0].numpy()
    log_q = posterior.log_prob(torch.from_numpy(grid.theta)[None], x)[0].numpy()
    if not getattr(posterior, "normalised", True):
        log_q = log_q - np.log(grid.mass(log_q))
    return {
        "mean": draws.mean(0), "sd": draws.std(0),
        "shift": (draws.mean(0) - grid.mean) / grid.sd, "width": draws.std(0) / grid.sd - 1,
        "nats": grid.nats_to(log_q),
    }  # fmt: skip


def compared(table: Table, problem: Problem, n: int, options: dict[str, Any]) -> Table:
    """Train on the same `n` simulations, and fill the rows and the verdict of `table`.

    Args:
        table: empty, of ``(what, parameters, *JUDGED)``; a quick one is not judged.
        problem: whose measured data the posteriors are of.
        n: simulations.
        options: of sbitools' training, none for defaults.
    """
    grid = problem.exact(problem.observed.astype(np.float32))
    names = problem.space.names
    _row(table, "exact, by quadrature", names, {"mean": grid.mean, "sd": grid.sd})
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = stored(problem, n, folder / "store", 1)
        ours: dict[str, Callable[[], Any]] = {
            what: partial(sbitools.train, store, method, run_dir=folder / method, **options)
            for what, method in OURS.items()
        }
        for what, way in (ours | {"sbi NPE": partial(sbi_npe, store)}).items():
            begun = time.process_time()
            posterior = way()
            seconds = time.process_time() - begun
            found[what] = measured(posterior, grid, problem.observed) | {"seconds": seconds}
            _row(table, what, names, found[what])
    good = [_good(found[what]) for what in OURS]
    table.passed = None if table.quick else all(good)
    table.notes += [
        f"{n} simulations, the same for all, defaults of both packages; {_DRAWS} draws of each",
        "shift: of the mean, in exact standard deviations; nats: Kullback-Leibler divergence of "
        "the posterior from the exact one, by quadrature",
    ]
    table.data = {"found": found, "exact": {"mean": grid.mean, "sd": grid.sd}}
    return table


def _good(one: dict[str, Any]) -> bool:
    return bool((abs(one["shift"]) <= MEAN).all() and (abs(one["width"]) <= WIDTH).all())


def _row(table: Table, what: str, names: Any, one: dict[str, Any]) -> None:
    values = [f"{m:.4g} ± {s:.2g}" for m, s in zip(one["mean"], one["sd"], strict=True)]
    judged: list[object] = ["-"] * 4
    if "nats" in one:
        shifts = ", ".join(f"{s:+.3f}" for s in one["shift"])
        widths = ", ".join(f"{100 * w:+.1f} %" for w in one["width"])
        judged = [shifts, widths, one["nats"], one["seconds"]]
    table.add(what, *values, *judged)
