"""train(): from a store of simulations to a posterior, by any method."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sbitools.observation import Observation
from sbitools.precision import single_precision
from sbitools.store import SimulationStore

from .ensemble import fit_ensemble
from .job import Job
from .methods import find_method
from .mixture import Mixture
from .options import check_options, only, parse_options
from .posterior import Posterior
from .prior_check import warn_of_prior
from .vectors import VectorEstimator
from .vectors.likelihood import VectorLikelihood
from .vectors.training import fit_likelihood, fit_vectors, vector_options

__all__ = ["train"]


@single_precision()
def train(
    store: SimulationStore,
    method: str = "npe",
    *,
    observe: Observation | None = None,
    run_dir: str | Path,
    resume: bool = False,
    start: Posterior | None = None,
    indices: np.ndarray | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    **options: Any,
) -> Posterior:
    """Train a posterior on the finished simulations of a store.

    Args:
        store: simulations with theta drawn from the prior.
        method: a name out of `sbitools.inference.METHODS`.
        observe: observation model; its noise is redrawn at every step. None: that of `start`, or
            none at all.
        run_dir: for metrics and the resumable state.
        resume: take up an interrupted run in `run_dir`.
        start: a posterior of the same method and network whose weights are trained further
            (fine-tuning); its network options are kept.
        indices: simulations of the store to use; all that are done if None.
        on_epoch: called with each new row of the training history.
        **options: fields of the method's options, e.g. `NPEOptions`.

    Returns:
        The posterior; ``posterior.info`` holds the history and what was excluded.

    Raises:
        ConfigError: for an unknown method or option, or an option that would have no effect.
        TrainingError: if there is too little to train on, or training diverges.
        ObservationError: if the observation model does not fit the store's fields.
        PosteriorError: if the method cannot infer the store's parameters, or `start` is of
            another method, of other parameters or of other fields.

    Warns:
        PriorMismatchWarning: if theta of the simulations do not follow the stated prior.
    """
    chosen = find_method(method)
    if start is not None:
        options = start.options.model_dump() | options
    parsed = parse_options(chosen, options | {"method": method})
    observation = observe or (start.observation if start else Observation())
    if start is None:
        check_options(parsed, observation.output(store.output))
        n = len(store.done if indices is None else np.unique(indices))
        parsed = vector_options(parsed, observation.output(store.output), n)
    job = Job(store, chosen, parsed, observation, indices)
    warn_of_prior(store, job.rows_asked)
    estimator = job.estimator(start)
    started, folder, more = time.monotonic(), Path(run_dir), {}
    if start is None and isinstance(estimator, VectorEstimator):
        history, more = fit_vectors(job, estimator, folder, resume, on_epoch)
    elif start is None and isinstance(estimator, VectorLikelihood):
        history, more = fit_likelihood(job, estimator, folder, resume, on_epoch)
    elif start is None and isinstance(estimator, Mixture):
        history, more = fit_ensemble(job, estimator, folder, resume, on_epoch)
    else:
        if parsed.pretrain_epochs and start is None:
            job.stages(estimator, folder, resume, on_epoch)
        history = job.run(estimator, folder, resume, on_epoch)
    info = job.info(history, time.monotonic() - started) | more
    if start is not None:
        info["started_from"] = start.info
    posterior = chosen.posterior(
        estimator.cpu(), only(chosen.network, parsed), store.parameters.inferred, store.output,
        observation, info, training_seeds=job.seeds,
    )  # fmt: skip
    posterior.familiarity = job.familiarity(posterior)
    return posterior
