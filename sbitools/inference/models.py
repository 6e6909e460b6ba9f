"""train_models(): which of several models a field is of, learned from their stores.

A classifier that is trained by a proper score (the logarithmic one) on simulations of several
models gives posterior model probabilities, and its odds without those of the prior are Bayes
factors: the parameters of every model are integrated out by having been drawn.

References:
    | Amortized Bayesian model comparison with evidential deep learning
      (Radev et al. 2021, arXiv:2004.10629)
    | Evidence Networks: simple losses for fast, amortized, neural Bayesian model comparison
      (Jeffrey & Wandelt 2024, arXiv:2305.11241)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
import torch

from sbitools.errors import ConfigError, FailedSimulationsWarning, TrainingError
from sbitools.observation import Observation, Step
from sbitools.store import SimulationStore
from sbitools.store.marks import sketch
from sbitools.store.models import ModelStore
from sbitools.training.loader import split

from .discrete import DiscretePosterior
from .keywords import TrainKeywords
from .prior_check import warn_of_prior
from .train import train

__all__ = ["train_models"]

_NOT_HERE = ("method", "start", "indices")


def train_models(
    stores: Mapping[str, SimulationStore | str | Path],
    *,
    run_dir: str | Path,
    probabilities: Mapping[str, float] | Sequence[float] | None = None,
    observe: Observation | Sequence[Step] | None = None,
    resume: bool = True,
    progress: bool = True,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    **options: Unpack[TrainKeywords],
) -> DiscretePosterior:
    """Train posterior model probabilities on one store for each model.

    The answer does not depend on how many simulations each model has: their shares are divided
    out, and the stated prior probabilities put in. But a model with few is learned worse.

    Args:
        stores: model -> its simulations, or the path of their store; parameters may differ, the
            field may not. Theta must be draws of the whole prior of each: a Bayes factor depends
            on it.
        run_dir: see `train`.
        probabilities: of the models before the data, by name or in order, with the sum 1; equal
            if None. See `DiscretePosterior.with_prior` to change them later.
        observe: see `train`; the same for all models.
        resume: see `train`.
        progress: see `train`.
        on_epoch: see `train`.
        **options: of `train` with method ``"discrete"``.

    Returns:
        A posterior of one parameter, ``"model"``, with ``probabilities(x)`` and
        ``log_bayes_factor(x, first, second)``.

    Raises:
        StoreError: for fewer than two models, different fields, or a model without simulations.
        ParameterError: for probabilities that are not positive or do not sum to 1.
        ConfigError: for an unknown option.
        TrainingError: if a model has too few simulations to be trained on.
        RunDirError: if `run_dir` has a run that is not to be resumed.

    Warns:
        PriorMismatchWarning: if theta of a store do not follow its stated prior.
        FailedSimulationsWarning: if some failed; they are left out of the comparison.

    Example:
        >>> wide = ParameterSpace([Parameter("mu", priors.Normal(0.0, 5.0))])
        >>> other = FunctionSimulator(
        ...     lambda theta, s: theta.float() + seeds.normal(s, (2,)), wide, field)
        >>> stores = {"narrow": store, "wide": sbitools.simulate(
        ...     other, 300, "wide", seed=3, workers=1, progress=False)}
        >>> models = train_models(stores, run_dir="models", epochs=1, progress=False)
        >>> models.probabilities(x_observed).shape
        torch.Size([2])
    """
    for name in _NOT_HERE:
        if name in options:
            raise ConfigError(
                f"option {name!r} of train_models", expected="an option of discrete posteriors",
                got=f"{name}=...", fix="leave it out",
            )  # fmt: skip
    joined = ModelStore(stores)
    (parameter,) = joined.parameters
    prior = None if probabilities is None else probabilities
    names = parameter.categories or ()
    if prior is None:
        prior = (1 / len(names),) * len(names)
    checked = DiscretePosterior.checked_prior(prior, names)
    for name, store in joined.stores.items():
        warn_of_prior(store, None, of=f"the store of model {name!r}")
        _warn_of_failures(name, store)
    posterior = train(
        joined, "discrete", observe=observe, run_dir=run_dir, resume=resume,  # pyright: ignore[reportArgumentType]
        progress=progress, on_epoch=on_epoch, **options,
    )  # fmt: skip
    assert isinstance(posterior, DiscretePosterior)  # noqa: S101  (the method's own class)
    _divide_out(posterior, joined)
    posterior.info["models"] = {
        name: {"store": store.digest(), "simulations of it": size,
               "simulations": sketch(store, store.done)}
        for (name, store), size in zip(joined.stores.items(), joined.sizes, strict=True)
    }  # fmt: skip
    return posterior.with_prior(checked)


def _warn_of_failures(name: str, store: SimulationStore) -> None:
    failed = store.counts()["failed"]
    if failed:
        warnings.warn(
            f"{failed} simulations of model {name!r} failed and were left out: the comparison is "
            "of p(x | model, success), and lacks the factor p(success | model); find out why they "
            "failed (store.failures())", FailedSimulationsWarning, stacklevel=3,
        )  # fmt: skip


def _divide_out(posterior: DiscretePosterior, joined: ModelStore) -> None:
    """Make the network's prior that of all simulations: it has seen the shares of training ones.

    Those differ a little, as held-out simulations are chosen without regard to the model.
    """
    options = posterior.info["options"]
    trained, _ = split(joined, options["validation_fraction"], options["seed"])  # pyright: ignore[reportArgumentType]
    seen = np.bincount(joined.model[trained], minlength=len(joined.stores))
    if not seen.all():
        name = list(joined.stores)[int(seen.argmin())]
        raise TrainingError(
            f"simulations of model {name!r}", expected="some to train on",
            got=f"none: all {joined.sizes[int(seen.argmin())]} are held out",
            fix="simulate more of this model",
        )  # fmt: skip
    ratio = np.log(joined.sizes) - np.log(len(joined)) - np.log(seen) + np.log(seen.sum())
    posterior.estimator.shift(torch.from_numpy(ratio))
