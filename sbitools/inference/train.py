"""train(): from a store of simulations to a posterior, by any method."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from sbitools.display.bars import showing
from sbitools.embeddings.own import given, own_module, without_module
from sbitools.errors import ConfigError, PosteriorError, TrainingError
from sbitools.gate.plain import as_path, flag
from sbitools.networks.precision import single_precision
from sbitools.observation import Observation, Step
from sbitools.simulator import FieldSpec
from sbitools.store import SimulationStore
from sbitools.store.access import as_store
from sbitools.store.access import chosen as select
from sbitools.training.one_run import only_training

from .job import Job, fit_network
from .keywords import TrainKeywords
from .methods import find_method
from .options import check_options, only, parse_options
from .posterior import Posterior
from .prior_check import warn_of_prior

__all__ = ["train"]

_LOG = logging.getLogger(__name__)


@single_precision()
def train(
    store: SimulationStore | str | Path | Sequence[SimulationStore | str | Path],
    method: str = "npe",
    *,
    observe: Observation | Sequence[Step] | None = None,
    run_dir: str | Path,
    resume: bool = True,
    start: Posterior | None = None,
    indices: np.ndarray | None = None,
    progress: bool = True,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    **options: Unpack[TrainKeywords],
) -> Posterior:
    """Train a posterior on the finished simulations of a store.

    Args:
        store: simulations with theta drawn from the prior, or the path of their store; several
            data products of the same theta in a tuple, see `sbitools.store.products`.
        method: a name out of `sbitools.inference.METHODS`.
        observe: observation model, or its steps in a list; its noise is redrawn at every step.
            None: that of `start`, or none at all.
        run_dir: for metrics and the resumable state of one run; other files in it are left alone.
        resume: take up an interrupted run in `run_dir`, or read a finished one back; False to
            refuse both. A run of other data or options is refused anyway, and never replaced.
        start: a posterior of the same method and network whose weights are trained further
            (fine-tuning); its network options are kept.
        indices: simulations of the store to use, as numbers or as a mask over the whole store; all
            that are done if None.
        progress: show epochs, losses and time left where stderr is a terminal or a notebook.
        on_epoch: called with each new row of the training history, e.g. a
            `sbitools.training.CSVTracker` or `TensorBoardTracker`; ``"part"`` names the training
            where there are several.
        **options: fields of the method's options: `NPEOptions`, `FMPEOptions`, `NPSEOptions`,
            `NLEOptions`, `NREOptions` or `DiscreteOptions`, which say what they mean; `embedding`
            may be a torch module of your own, see `sbitools.embeddings.OwnEmbedding`.

    Returns:
        The posterior; ``posterior.info`` holds the history and what was excluded.

    Raises:
        ConfigError: for an unknown method or option, or an option that would have no effect.
        TrainingError: if there is too little to train on, or training diverges.
        RunDirError: if `run_dir` has another run, or one that is not to be resumed, or another
            process trains there.
        ObservationError: if the observation model does not fit the store's fields.
        PosteriorError: if the method cannot infer the store's parameters, or `start` is of
            another method, of other parameters or of other fields.

    Warns:
        PriorMismatchWarning: if theta of the simulations do not follow the stated prior.

    Example:
        >>> quick = train(store, run_dir="quick", epochs=1, emulate=False)
        >>> quick.sample(x_observed, 1000, seed=1).shape
        torch.Size([1000, 1])
    """
    chosen, store, resume = find_method(method), as_store(store), flag(resume, "resume")
    progress = flag(progress, "progress")
    if on_epoch is not None and not callable(on_epoch):
        raise ConfigError(
            "on_epoch of train", expected="a function of a row of the history, or None",
            got=type(on_epoch).__name__, fix="leave it out",
        )  # fmt: skip
    _check_start(start)
    rows = None if indices is None else np.unique(select(store, indices, error=TrainingError))
    given_options, module = without_module({**options})
    if start is not None:
        given_options = start.options.model_dump() | given_options
        module = module or own_module(start.estimator)
    parsed = parse_options(chosen, given_options | {"method": method})
    observation = _observation(observe, start, store.output)
    if start is None:
        check_options(parsed, observation.output(store.output))
        n = len(store.done if rows is None else rows)
        asked, parsed = parsed, chosen.adapt(parsed, observation.output(store.output), n)
        changed = {k: v for k, v in parsed.model_dump().items() if v != getattr(asked, k)}
        if changed:
            _LOG.info("options chosen for %d simulations of %s: %s", n, store.output, changed)
    job = Job(store, chosen, parsed, observation, rows)
    warn_of_prior(store, job.rows_asked)
    with given(module):
        estimator = job.estimator(start)
    _LOG.info("%s by %s", chosen.title, job.told(estimator))
    started, folder = time.monotonic(), as_path(run_dir, "run_dir")
    fit = chosen.fit if start is None else fit_network
    with showing(progress), only_training(folder, job.identity(), resume):
        history, more = fit(job, estimator, folder, resume, on_epoch)
    info = job.info(history, time.monotonic() - started) | more
    if start is not None:
        info["started_from"] = start.info
    posterior = chosen.posterior(
        estimator.cpu(), only(chosen.network, parsed), store.parameters.inferred, store.output,
        observation, info, training_seeds=job.seeds,
    )  # fmt: skip
    posterior.familiarity = job.familiarity(posterior)
    return posterior


def _check_start(start: Any) -> None:
    if start is not None and not isinstance(start, Posterior):
        raise PosteriorError(
            "start", expected="a posterior of sbitools.train", got=type(start).__name__,
            fix="pass the posterior itself; sbitools.Posterior.load(path) reads a saved one",
        )  # fmt: skip
    if start is not None and getattr(start.estimator, "closed", False):
        raise PosteriorError(
            "start", expected="a posterior with networks, to be trained further",
            got="one of densities in closed form, which were better than any network",
            fix="train anew on all simulations, or repair by recalibration",
        )  # fmt: skip


def _observation(observe: Any, start: Any, output: FieldSpec) -> Observation:
    if observe is None and start is not None:
        return start.observation
    return Observation.of(observe).bind(output)
