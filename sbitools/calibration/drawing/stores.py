"""What a store of tests must be: of the right kind, unseen, and inside the prior."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from sbitools.errors import PosteriorError, StoreError
from sbitools.seeds import simulation_seeds
from sbitools.store.marks import in_sketches

__all__ = ["as_posterior", "check_inside", "check_specification", "check_unseen", "seen"]


_POSTERIOR = ("parameters", "output", "observe", "sample")


def as_posterior(value: Any) -> Any:
    """`value` if it can be asked like a posterior; raises `PosteriorError` for anything else."""
    missing = [name for name in _POSTERIOR if not hasattr(value, name)]
    if missing or isinstance(value, type):
        raise PosteriorError(
            "posterior", expected="a posterior of sbitools.train", got=type(value).__name__,
            fix="pass the posterior itself; sbitools.Posterior.load(path) reads a saved one",
        )  # fmt: skip
    return value


def check_specification(posterior: Any, store: Any) -> None:
    """Raise `StoreError` unless the store holds what the posterior was trained for.

    Raises:
        PosteriorError: if the posterior is for one observation only (`sbitools.train_rounds`).
    """
    if getattr(posterior, "info", {}).get("amortised") is False:
        raise PosteriorError(
            "posterior in calibration", expected="an amortised posterior",
            got="one of truncated rounds, which answers for its own observation alone",
            fix="calibrate a posterior of one round, from sbitools.train",
        )  # fmt: skip
    pairs = (
        ("output", posterior.output.to_dict(), store.output.to_dict()),
        (
            "inferred parameters",
            posterior.parameters.to_dict(),
            store.parameters.inferred.to_dict(),
        ),
    )
    for what, expected, got in pairs:
        if expected != got:
            raise StoreError(
                f"{what} of store {store.path}", expected=f"{expected}", got=f"{got}",
                fix="calibrate with simulations of the specification the posterior was trained on",
            )  # fmt: skip


def check_unseen(posterior: Any, store: Any, digest: str) -> None:
    """Raise `StoreError` if the posterior was trained on simulations of this store.

    Known by the digest of the whole store, and by `seen`: a posterior looks better than it is on
    what it has seen.

    Args:
        posterior: its `info` and `training_seeds` say what it was trained on.
        store: of tests.
        digest: of the store.
    """
    got = ""
    if digest in json.dumps(getattr(posterior, "info", {}), default=str):
        got = "the training store"
    elif (shared := seen(posterior, store, store.done)).any():
        got = (
            f"{int(shared.sum())} of {len(shared)} that have the seeds, or theta and x, of "
            "training simulations"
        )
    if got:
        raise StoreError(
            f"store {store.path}", expected="simulations the posterior was not trained on",
            got=got, fix="simulate a test store with another seed",
        )  # fmt: skip


def seen(posterior: Any, store: Any, rows: np.ndarray) -> np.ndarray:
    """Which of the simulations `rows` trained or repaired a posterior, truth values.

    By their seeds; and by theta and x, for an import that gave them other seeds. Of very many
    simulations only some are known by theta and x, see `sbitools.store.marks`.
    """
    known = np.asarray(getattr(posterior, "training_seeds", ()), dtype=np.int64)
    found = in_sketches(store, rows, getattr(posterior, "info", None))
    if len(known) and not _numbered(store):
        found |= np.isin(np.asarray(store.seeds)[rows], known)
    return found


def _numbered(store: Any) -> bool:
    """Whether seeds were only made up from the index at an import: equal ones mean nothing."""
    seeds = np.asarray(store.seeds)
    return store.seed is None and bool((seeds == simulation_seeds(0, range(len(seeds)))).all())


def check_inside(posterior: Any, store: Any, theta: np.ndarray) -> None:
    """Raise `StoreError` unless theta (n, P) are where the posterior can be."""
    import torch

    inside = np.isfinite(posterior.parameters.log_prob(torch.from_numpy(theta)).numpy())
    if not inside.all():
        raise StoreError(
            f"theta of store {store.path}", expected="parameters inside the prior it trained with",
            got=f"{theta[~inside][0].tolist()}, and {int((~inside).sum()) - 1} more in this batch",
            fix="leave them out with `indices`, or train with a wider prior",
        )  # fmt: skip
