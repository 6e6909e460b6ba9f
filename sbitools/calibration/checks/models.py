"""Calibration of posterior model probabilities on held-out simulations of every model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from sbitools.calibration.check import Check
from sbitools.calibration.drawing.stores import as_posterior, check_unseen
from sbitools.errors import MisspecificationWarning, PosteriorError, StoreError
from sbitools.gate.plain import whole
from sbitools.seeds import derive
from sbitools.store.models import MODEL, ModelStore

from .discrete import discrete
from .gate import checked

__all__ = ["models"]

_CHOICE, _NOISE = 53, 54
_FAR = 4.0  # standard deviations that the number of tests of a model may be above what is expected


@checked
def models(
    posterior: Any,
    stores: Mapping[str, Any],
    *,
    bins: int = 15,
    false_alarm: float = 0.01,
    seed: int = 0,
    batch_size: int = 256,
) -> Check:
    """Test the probabilities of `sbitools.train_models` on simulations it was not trained on.

    Tests are drawn as the posterior assumes it: a model by its prior probability, then one of its
    simulations, which is used once; so stores of any sizes will do, and p-values are exact. What
    is tested, and with which statistics, is said by `discrete`; its plot shows for each model the
    share of tests that were of it against its stated probability, in bands that the curves of
    right probabilities leave anywhere with probability `false_alarm` at most.

    Args:
        posterior: of one parameter, the model.
        stores: model -> simulations, other ones than those of training, or their path.
        bins: of the reliability diagram and of the test.
        false_alarm: of the check.
        seed: of the choice of tests, of observation noise, and of labels drawn again.
        batch_size: simulations in memory at a time.

    Raises:
        StoreError: for other models, other fields, or simulations of the training set.
        PosteriorError: if the posterior is not one of models.
        ShapeError: if there are fewer than 20 tests.
    """
    import torch

    batch_size = whole(batch_size, "batch_size", least=1)
    names, prior = _models_of(posterior)
    tests = ModelStore(stores)
    if set(tests.stores) != set(names) or tests.output.to_dict() != posterior.output.to_dict():
        raise StoreError(
            "stores of tests", expected=f"models {list(names)} and {posterior.output}",
            got=f"{list(tests.stores)} and {tests.output}",
            fix="test with simulations of the models that were trained",
        )  # fmt: skip
    tests = ModelStore({name: tests.stores[name] for name in names})
    for store in tests.stores.values():
        check_unseen(posterior, store, store.digest())
    rows = _drawn(tests, np.asarray(prior), np.random.default_rng(derive(seed, _CHOICE)))
    found = []
    with warnings.catch_warnings():
        # Among many tests some are unfamiliar; what comes of it is what is measured.
        warnings.simplefilter("ignore", MisspecificationWarning)
        for index, _, x in tests.batches(rows, batch_size):
            noise = torch.tensor([derive(s, _NOISE) for s in tests.seeds[index].tolist()])
            found.append(np.asarray(posterior.probabilities(posterior.observe(x, noise))))
    check = discrete(
        np.concatenate(found) if found else np.empty((0, len(names))), tests.model[rows],
        names=names, bins=bins, false_alarm=false_alarm, seed=seed,
    )  # fmt: skip
    note = "" if tests.design == "random" else "theta are no independent draws of their priors"
    d = check.details
    return replace(
        check, name="models", kind="categories", note=note,
        summary=f"{check.summary}; log score {d['log_score']:.3f}, "
        f"{d['log_score_expected']:.3f} stated",
    )  # fmt: skip


def _models_of(posterior: Any) -> tuple[tuple[str, ...], tuple[float, ...]]:
    posterior = as_posterior(posterior)
    space = posterior.parameters
    if tuple(space.names) != (MODEL,) or not hasattr(posterior, "probabilities"):
        raise PosteriorError(
            "posterior", expected="one of sbitools.train_models, of the parameter 'model' alone",
            got=f"one of {space.names}", fix="use calibrate, or discrete with probabilities",
        )  # fmt: skip
    return space[0].categories, space[0].prior.probabilities


def _drawn(tests: ModelStore, prior: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Simulations of models drawn by their probabilities, each of its own group."""
    own, groups = [], tests.groups
    for m in range(len(prior)):
        rows = rng.permutation(np.flatnonzero(tests.model == m))
        _, first = np.unique(groups[rows], return_index=True)
        own.append(rows[np.sort(first)])
    have = np.array([len(rows) for rows in own])
    # The largest number of which no model gets more than it has, but once in 30,000 times.
    far = _FAR * np.sqrt(prior * (1 - prior))
    n = int(((np.sqrt(far**2 + 4 * prior * have) - far) / (2 * prior)).min() ** 2)
    labels = rng.choice(len(prior), n, p=prior)
    taken = [rows[: int((labels == m).sum())] for m, rows in enumerate(own)]
    return np.concatenate(taken)
