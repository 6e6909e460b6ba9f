"""Draw from a posterior for every simulation of a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .drawing.answers import answers
from .drawing.draws import CalibrationDraws

__all__ = ["draw"]


def draw(
    posterior: Any,
    store: Any,
    n_draws: int = 1000,
    *,
    seed: int = 0,
    indices: Sequence[int] | np.ndarray | None = None,
    batch_size: int = 64,
    time_limit: float | None = None,
    log_prob: bool = True,
    latent: bool = True,
    quantities: Mapping[str, Callable[..., Any]] | None = None,
    progress: bool = False,
) -> CalibrationDraws:
    """Posterior draws for the simulations of a store.

    Each x passes through the posterior's own observation model, with noise seeds derived from the
    simulation's seed. A batch that fails or exceeds its time is taken apart, and an observation
    that fails alone is recorded in `excluded`: it neither stalls nor ends the rest.

    Args:
        posterior: with sample, sample_and_log_prob, log_prob and observe.
        store: test simulations, of the posterior's output and parameters.
        n_draws: per simulation; fewer if all together would exceed 1 GiB.
        seed: of draws, noise, and everything the checks draw.
        indices: simulations to use, as numbers or as a mask over the whole store; all that are
            done if None.
        batch_size: simulations in memory at a time.
        time_limit: seconds one observation may take.
        log_prob: also keep densities, which `coverage` needs.
        latent: also keep the flow's latents of theta and the features of x, where the posterior
            has them; the latent check needs them.
        quantities: test quantities for `sbc`: name -> function of theta (B, n, P), and of x
            (B, *shape) if it takes two arguments, that gives (B, n).
        progress: show a bar.

    Returns:
        The draws, float64, with densities, groups and everything excluded.

    Raises:
        StoreError: if the store does not fit the posterior, has no finished simulation, or has
            theta outside the posterior's prior.
        PosteriorError: if the posterior failed for every simulation.
        ConfigError: for numbers that cannot be used.
    """
    return CalibrationDraws(**answers(
        posterior, store, n_draws, seed=seed, indices=indices, batch_size=batch_size,
        time_limit=time_limit, log_prob=log_prob, latent=latent, quantities=quantities,
        progress=progress,
    ))  # fmt: skip
