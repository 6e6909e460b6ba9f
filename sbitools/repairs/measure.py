"""Scores of posteriors on held-out reference simulations, for learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sbitools.calibration.drawing.stores import check_specification, seen
from sbitools.errors import StoreError
from sbitools.gate.plain import as_path
from sbitools.inference.train import train
from sbitools.seeds import derive, mix
from sbitools.store.access import as_store, chosen

from .crossfit import assign_folds, cross_fit
from .repair import _Job

__all__ = ["held_out_log_prob", "reference_curve", "repair_curve"]

_NOISE, _ORDER = 80, 81
_BATCH = 64


def held_out_log_prob(
    posterior: Any, store: Any, indices: np.ndarray | None = None, *, seed: int = 0
) -> np.ndarray:
    """log q(truth | x) in nats for simulations that the posterior never saw, shape (N,).

    The observation noise depends on the simulation and `seed` alone, so posteriors are compared
    on the same observations.

    Args:
        posterior: any.
        store: held-out simulations.
        indices: which of them; all that are done if None.
        seed: of the observation noise.

    Raises:
        StoreError: if the store does not fit the posterior, or trained it.
    """
    store = as_store(store)
    check_specification(posterior, store)
    rows = chosen(store, indices)
    known = int(seen(posterior, store, rows).sum())
    if known or not len(rows):
        raise StoreError(
            f"store {store.path}", expected="finished simulations that the posterior never saw",
            got=f"{len(rows)} simulations, {known} of which it was trained on",
            fix="simulate a test store with another seed",
        )  # fmt: skip
    columns, parts = store.parameters.inferred_columns, []
    for index, theta, x in store.batches(rows, _BATCH):
        noise = mix(store.seeds[torch.from_numpy(index)], derive(seed, _NOISE))
        truth = torch.as_tensor(theta, dtype=torch.float64)[:, columns]
        parts.append(posterior.log_prob(truth, posterior.observe(x, noise)).numpy())
    return np.concatenate(parts)


def reference_curve(
    store: Any,
    test_store: Any,
    sizes: Sequence[int],
    *,
    run_dir: str | Path,
    method: str = "npe",
    resume: bool = True,
    seed: int = 0,
    **options: Any,
) -> np.ndarray:
    """Train on reference simulations alone, at several sizes, and score each: (sizes, tests).

    Larger training sets contain the smaller ones; members of a group stay together.

    Args:
        store: reference simulations.
        test_store: held-out ones.
        sizes: numbers of simulations.
        run_dir: one folder per size is made in it.
        method: see `sbitools.train`.
        resume: take up interrupted trainings; False to refuse them.
        seed: of the choice, the training and the noise.
        **options: of `sbitools.train`.
    """
    done, groups = store.done, np.asarray(store.groups)
    names = np.unique(groups[done])
    order = np.random.default_rng(derive(seed, _ORDER)).permutation(names)
    place = {int(g): i for i, g in enumerate(order)}
    ranked = done[np.argsort([place[int(g)] for g in groups[done]], kind="stable")]
    scores = []
    run_dir = as_path(run_dir, "run_dir")
    for n in sizes:
        posterior = train(
            store, method, run_dir=run_dir / f"{n}", indices=np.sort(ranked[:n]),
            resume=resume, seed=seed, **options,
        )  # fmt: skip
        scores.append(held_out_log_prob(posterior, test_store, seed=seed))
    return np.stack(scores)


def repair_curve(
    posterior: Any,
    reference: Any,
    method: str,
    sizes: Sequence[int],
    *,
    folds: int = 5,
    run_dir: str | Path,
    resume: bool = True,
    seed: int = 0,
    **options: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a repair fitted to fewer simulations, cross-fitted: (sizes, N), and of none (N,).

    Args:
        posterior: to be repaired.
        reference: reference simulations; each judges repairs fitted to other folds.
        method: of `repair`, not ``"auto"``.
        sizes: numbers of independent simulations to fit to, at most those of all folds but one.
        folds: of the cross-fit.
        run_dir: for the state of trainings.
        resume: take up interrupted trainings; False to refuse them.
        seed: of folds, noise and training.
        **options: of `fine_tune`.
    """
    rows = reference.done
    fold = assign_folds(np.asarray(reference.groups)[rows], folds, seed)
    scores, before, run_dir = [], None, as_path(run_dir, "run_dir")
    for n in sizes:
        job = _Job(posterior, reference, rows, folds, 1, seed, run_dir / f"{n}", resume,
                   options)  # fmt: skip
        first, after, _ = cross_fit(
            posterior, reference, rows, job.fit(method), fold=fold, n_draws=1, seed=seed,
            n_train=n,
        )  # fmt: skip
        before = np.asarray(first.log_prob_true)
        scores.append(np.asarray(after.log_prob_true))
    return np.stack(scores), np.asarray(before)
