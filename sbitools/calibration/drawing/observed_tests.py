"""Tests of one simulator: what was observed, and what a posterior and its network made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sbitools.display.brief import Brief
from sbitools.errors import ShapeError
from sbitools.gate.plain import whole
from sbitools.seeds import derive
from sbitools.store.access import as_store, chosen

__all__ = ["ObservedTests", "look"]

_NOISE, _DRAWS = 95, 96


@dataclass(frozen=True, repr=False)
class ObservedTests(Brief):
    """What is known of N tests of one simulator.

    Args:
        theta: true parameters, shape (N, P).
        errors: (posterior mean - truth) / posterior sd, shape (N, P).
        features: what the posterior's network makes of x, shape (N, F).
        statistics: name -> values of the observed fields, shape (N, B).
        group: shape (N,); tests of one group are not independent.
        names: of the parameters.
    """

    theta: np.ndarray
    errors: np.ndarray
    features: np.ndarray
    statistics: Mapping[str, np.ndarray]
    group: np.ndarray
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        sized = {"errors": self.errors, "features": self.features, "group": self.group}
        for name, value in (sized | dict(self.statistics)).items():
            if len(value) != len(self.theta) or not np.isfinite(value).all():
                raise ShapeError(
                    name, expected=f"{len(self.theta)} rows of finite values, one per test",
                    got=f"shape {np.shape(value)}", fix="leave out tests that failed, everywhere",
                )  # fmt: skip


def look(
    posterior: Any,
    store: Any,
    statistics: Mapping[str, Callable[[Any], np.ndarray]],
    *,
    indices: np.ndarray | None = None,
    n_draws: int = 200,
    batch_size: int = 64,
    seed: int = 0,
) -> ObservedTests:
    """Observe, embed, draw and measure the simulations of a store, a batch at a time.

    Args:
        posterior: its observation model makes x, with noise that depends on simulation and seed.
        store: test simulations.
        statistics: name -> function of x (B, *shape) that gives (B, number of bins), e.g.
            ``lambda x: power_spectrum(x, box_size).power``.
        indices: simulations to use, as numbers or as a mask over the whole store; all that are
            done if None.
        n_draws: for posterior mean and sd.
        batch_size: simulations in memory.
        seed: of noise and draws.
    """
    import torch

    from sbitools.seeds import mix

    store, n_draws = as_store(store), whole(n_draws, "n_draws", least=1)
    rows = chosen(store, indices)
    columns, parts = store.parameters.inferred_columns, []
    for index, theta, x in store.batches(rows, batch_size):
        noise = mix(store.seeds[torch.from_numpy(index)], derive(seed, _NOISE))
        x = posterior.observe(x, noise)
        draws = posterior.sample(x, n_draws, seed=derive(seed, _DRAWS, int(index[0]))).numpy()
        truth = np.asarray(theta, dtype=np.float64)[:, columns]
        error = (draws.mean(1) - truth) / np.maximum(draws.std(1), 1e-300)
        values = [np.asarray(f(x), dtype=np.float64) for f in statistics.values()]
        parts.append((truth, error, posterior.features(x).numpy(), *values))
    truth, error, features, *values = (np.concatenate(p) for p in zip(*parts, strict=True))
    return ObservedTests(
        truth, error, features.astype(np.float64), dict(zip(statistics, values, strict=True)),
        np.asarray(store.groups)[rows], tuple(posterior.parameters.names),
    )  # fmt: skip
