"""Ensembles: networks from different seeds, mixed by their score on held-out simulations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sbitools.densities.mixture import Mixture, stacking_weights
from sbitools.display.bars import showing
from sbitools.seeds import derive
from sbitools.training import TrainingHistory
from sbitools.training.trackers import of_part

if TYPE_CHECKING:
    from .estimator import EstimatorOptions
    from .job import Job

__all__ = ["fit_ensemble", "member_options"]

_MEMBER = 14


def member_options(options: EstimatorOptions) -> list[Any]:
    """The options of each member: those of the ensemble with seeds of their own."""
    seeds = [derive(options.seed, _MEMBER, k) % (1 << 62) for k in range(options.ensemble)]
    return [options.model_copy(update={"ensemble": 1, "seed": seed}) for seed in seeds]


def fit_ensemble(
    job: Job, mixture: Mixture, run_dir: Path, resume: bool,
    on_epoch: Callable[[dict[str, float]], None] | None,
) -> tuple[TrainingHistory, dict[str, Any]]:  # fmt: skip
    """Train the members in place, one after the other, and weigh them.

    Each sees the batches in an order of its own; all are validated by the same simulations, whose
    log score the weights maximise.

    Args:
        job: data and options.
        mixture: of untrained members.
        run_dir: gets one folder per member.
        resume: take up an earlier run.
        on_epoch: called with each row of the histories, with ``"part"`` in it.

    Returns:
        The history of the best member, and provenance of the rest.
    """
    histories = []
    for k, member in enumerate(mixture.members):
        own = job.with_seed(derive(job.options.seed, _MEMBER, k) % (1 << 62))
        folder = run_dir / f"member-{k}"
        name = f"member {k + 1}"
        told = of_part(on_epoch, name)
        with showing(about=f"{name}: "):
            if job.options.pretrain_epochs:
                own.stages(member, folder, resume, told)
            histories.append(own.run(member, folder, resume, told))
    weights = stacking_weights(_scores(job, mixture))
    mixture.weights.copy_(weights)
    best = min(histories, key=lambda h: h.best_validation_loss)
    losses = [h.best_validation_loss for h in histories]
    return best, {"weights": weights.tolist(), "validation_losses": losses}


@torch.no_grad()
def _scores(job: Job, mixture: Mixture) -> Tensor:
    """log q_k of the held-out simulations, (N, K)."""
    rows = []
    for batch in job.validation.batches(0):
        u, x = job.pair(batch)
        each = [m.log_prob(u[:, None], m.features(x))[:, 0] for m in mixture.members]  # type: ignore[operator]
        rows.append(torch.stack(each, 1).cpu())
    return torch.cat(rows)
