"""Fine-tuning: the estimator is trained a little further, on reference simulations.

In two stages, as transfer learning of networks usually goes: first the flow alone, with the
embedding as it is; then everything, at a smaller rate. The noise of the observation model is drawn
anew at every step and, where training used it, so is the symmetry: both multiply few simulations.
Both stages stop early on a fifth of the simulations. (Few expensive after many cheap simulations:
Saoulis et al. 2025, arXiv:2505.21215.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from sbitools.errors import PosteriorError
from sbitools.gate.plain import as_path
from sbitools.inference.posterior import Posterior
from sbitools.inference.train import train

__all__ = ["fine_tune"]

# Defaults of both stages; `train` takes any of them as option.
_COMMON: dict[str, Any] = {
    "validation_fraction": 0.2, "batch_size": 32, "warmup_steps": 5, "ema_decay": 0.9,
    "schedule": "cosine", "weight_decay": 1e-4,
}  # fmt: skip
_HEAD = {"frozen": "embedding", "learning_rate": 5e-4, "epochs": 30, "patience": 8}
_WHOLE = {"frozen": "none", "learning_rate": 1e-4, "epochs": 20, "patience": 6}


def fine_tune(
    posterior: Any,
    store: Any,
    rows: np.ndarray,
    *,
    run_dir: str | Path,
    resume: bool = True,
    freeze: bool = False,
    **options: Any,
) -> Posterior:
    """Train a posterior further on some simulations of a store.

    Order and noise follow from the seed the posterior was trained with, which its network keeps.

    Args:
        posterior: from `sbitools.train`.
        store: reference simulations.
        rows: the simulations to learn from.
        run_dir: for the state of both stages.
        resume: take up an interrupted run; False to refuse it.
        freeze: leave out the second stage: the embedding stays as it is.
        **options: of training, for both stages, e.g. ``learning_rate`` or ``epochs``.

    Raises:
        PosteriorError: for a posterior that is no network of its own (a repaired one, say).
        TrainingError: if training diverges.
    """
    if not isinstance(posterior, Posterior):
        raise PosteriorError(
            "posterior to fine-tune", expected="one from sbitools.train", got=repr(posterior),
            fix="fine-tune its base, or repair it by recalibration",
        )  # fmt: skip
    stages = {"head": _HEAD} if freeze else {"head": _HEAD, "whole": _WHOLE}
    tuned = posterior
    for name, own in stages.items():
        chosen = _COMMON | own | options
        method = str(posterior.options.method)
        tuned = train(
            store, method, start=tuned, indices=rows, run_dir=as_path(run_dir, "run_dir") / name,
            resume=resume, **_known(method, posterior, chosen),
        )  # fmt: skip
    tuned.training_seeds = torch.cat([posterior.training_seeds, tuned.training_seeds]).unique()
    return tuned


def _known(method: str, posterior: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Training options: those of the posterior's own training, and what is different now."""
    before = dict(posterior.info.get("options", {}))
    kept = {k: before[k] for k in ("symmetry", "precision", "workers", "device") if k in before}
    return kept | options
