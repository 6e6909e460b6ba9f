"""How the densities for short data vectors are fitted, and how much each of them counts.

Sizes and steps follow from the number of simulations, N; they were chosen once, on the problems of
`paper/benchmarks/sbibm.py`, and are the same for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sbitools.densities.fit import STEPS_PER_EPOCH, OnEpoch
from sbitools.densities.vector import VectorDensity, emulated_pairs
from sbitools.seeds import derive, generator
from sbitools.training import TrainingHistory

from .estimator import GROUPS, VectorEstimator, fitted_whole
from .fitting import Fit

if TYPE_CHECKING:
    from sbitools.inference.job import Job
    from sbitools.simulator import FieldSpec

    from .likelihood import VectorLikelihood

__all__ = ["UNUSED", "fit_likelihood", "fit_vectors", "vector_options"]

# The fit of a whole data vector has no embedding, no flow of transformations, and is an ensemble
# by itself; and a vector has no symmetries of a cube.
UNUSED = (
    "pretrain_epochs", "frozen", "symmetry", "ensemble", "features", "channels", "flow_transforms",
    "attention", "padded", "patch", "depth", "heads",
)  # fmt: skip

# Emulating longer x costs more than it brings.
_LONGEST_EMULATED = 32

_HELD_OUT = (100, 2000)  # simulations: a tenth of them, within these
_BATCH = 128
_EMULATED_STEPS = 6000
_PAIRS = (100_000, 400_000)  # emulated pairs: 20 N, within these
_SYNTHETIC_SEED, _DESIGN_SEED = 13, 15


def vector_options(options: Any, spec: FieldSpec, n: int) -> Any:
    """The options with batch size and held-out share for data vectors, where none were given.

    Args:
        options: of the method.
        spec: of the observed x.
        n: number of simulations.
    """
    if not n or not fitted_whole(options, spec):
        return options
    least, most = _HELD_OUT
    share = min(max(n / 10, min(least, n / 5)), most) / n
    chosen = {"batch_size": _BATCH, "validation_fraction": share}
    new = {k: v for k, v in chosen.items() if k not in options.model_fields_set}
    return options.model_copy(update=new)


def fit_vectors(
    job: Job, estimator: VectorEstimator, run_dir: Path, resume: bool, on_epoch: OnEpoch | None
) -> tuple[TrainingHistory, dict[str, Any]]:
    """Fit all groups in place, then their weights on the held-out simulations.

    Args:
        job: data and options.
        estimator: with the scale of x set.
        run_dir: one folder in it for each network.
        resume: take up an earlier run.
        on_epoch: called with each row of the training histories, with ``"part"`` in it.

    Returns:
        History of the stack trained on the simulations themselves, and provenance of the rest.
    """
    fit = Fit(job, estimator.embedding, run_dir, resume, on_epoch)
    groups: dict[str, Any] = estimator.groups
    expand = estimator.embedding.expand
    groups["linear"].fit(fit.pairs.u, expand(fit.pairs.x))
    used, info = ["linear", "direct"], {}
    if job.options.emulate and fit.pairs.x.shape[1] <= _LONGEST_EMULATED:
        info["emulator"] = _learn_from_emulator(fit, groups)
        used = list(GROUPS)
    groups["direct"].set_dropout(0.1 if fit.few else 0.0)
    history = fit.train(
        "direct", groups["direct"], 800 if fit.few else fit.steps,
        lambda u, x, rng: (u, expand(x)),
    )  # fmt: skip
    u, x = fit.pairs.held_out
    weights = fit.select([groups[name] for name in used], u, expand(x))
    shares = dict.fromkeys(GROUPS, 0.0) | dict(zip(used, weights.tolist(), strict=True))
    estimator.mixture.weights.copy_(torch.tensor([shares[name] for name in GROUPS]))
    return history, info | {"weights": shares}


def _learn_from_emulator(fit: Fit, groups: dict[str, Any]) -> dict[str, float]:
    """Fit a density of x, and the two groups that learn from its pairs; its shares."""
    options, n, seed = fit.options, len(fit.columns), fit.options.seed
    wide = fit.pairs.u.shape[1]
    density = VectorDensity(
        2 * wide, n, n_used=wide, hidden=options.flow_hidden, members=options.members,
        components=options.components, seed=seed,
    )  # fmt: skip
    shares = fit.likelihood(density)
    least, most = _PAIRS
    space, job = fit.job.store.parameters.inferred, fit.job
    design = space.design(max(least, min(20 * fit.pairs.n, most)), derive(seed, _DESIGN_SEED))
    made_u = job.method.coordinates(space, design).float()
    simulated = fit.pairs.x[:, fit.columns]
    made_x = emulated_pairs(density.eval(), made_u, simulated, fit.lattice, seed)
    features = fit.embedding.expand(fit.with_constants(made_x))
    groups["emulated linear"].fit(made_u, features)

    def batches(epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        for step in range(start, STEPS_PER_EPOCH):
            rng = generator(derive(seed, _SYNTHETIC_SEED, epoch, step) % (1 << 62))
            rows = torch.randint(len(made_u), (job.training.batch_size,), generator=rng)
            yield made_u[rows], features[rows]

    # Real simulations choose the epoch: some that the emulator was trained on, so that the
    # held-out ones stay for the weights.
    real = fit.pairs.u[:2000], fit.embedding.expand(fit.pairs.x[:2000])
    fit.run(
        "emulated", groups["emulated"], _EMULATED_STEPS, batches, real,
        lambda module, batch, rng: module.loss(*batch, rng).mean(), per_epoch=STEPS_PER_EPOCH,
        learning_rate=4e-3, weight_decay=1e-3, patience=None,
    )  # fmt: skip
    return shares


def fit_likelihood(
    job: Job, likelihood: VectorLikelihood, run_dir: Path, resume: bool, on_epoch: OnEpoch | None
) -> tuple[TrainingHistory, dict[str, Any]]:
    """Fit the density of x that a likelihood is; arguments as for `fit_vectors`."""
    fit = Fit(job, likelihood.embedding, run_dir, resume, on_epoch)
    shares = fit.likelihood(likelihood.emulator)
    return fit.histories["emulator-mixtures"], {"weights": shares}
