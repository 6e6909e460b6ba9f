"""Training an embedding before the density estimator: regression of the parameters.

Its features are read by one linear layer that predicts the posterior mean of each unconstrained
parameter, and its variance. Then the density estimator is trained on the frozen features, and in
the end both together: the three stages of Schosser et al. 2024 (arXiv:2401.04174). Features from
which the mean is a linear function are a good start for a flow, and regression is cheaper.

For a prior that is standard normal in unconstrained coordinates, as all standard ones are, the
untrained regression predicts the prior.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from sbitools.networks.precision import single_precision
from sbitools.observation import Observation
from sbitools.seeds import initial_weights
from sbitools.store import SimulationStore
from sbitools.training import (
    StreamingLoader,
    TrainingHistory,
    TrainingOptions,
    mean_loss,
    run_training,
    split,
)

__all__ = ["Embedding", "Regression", "frozen", "pretrain"]

Augment = Callable[[Tensor, torch.Generator], Tensor]

# Rows of a batch that one thread computes; a constant, so that results do not depend on `workers`.
_PIECE_ROWS = 16

# Log-variances are held within this of 0, softly: e^-12 of the prior's variance is a parameter
# known to 0.25 %; a regression that is surer than that is surer than its training set can be.
_MAX_LOG_VARIANCE = 12.0


class Embedding(Protocol):
    """What every summary network has besides being a module."""

    n_features: int

    def fill(self, x: Tensor) -> Tensor:
        """x with the mean in cells that are not used, so that cells may change places."""
        ...


class Regression(nn.Module):
    """An embedding and a linear layer: mean and log-variance of each parameter.

    Args:
        embedding: a module with `n_features`; it is held, not copied.
        n_parameters: dimension of u.
    """

    def __init__(self, embedding: nn.Module, n_parameters: int) -> None:
        super().__init__()
        self.embedding = embedding
        n_features = int(embedding.n_features)  # type: ignore[arg-type]
        with initial_weights(0):  # and overwritten
            self.head = nn.Linear(n_features, 2 * n_parameters)
        nn.init.zeros_(self.head.weight)  # zeros predict N(0, 1), the prior
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, P) of u for observed fields (B, *shape)."""
        weight = self.head.weight
        features = self.embedding(x.to(weight.device)).float()
        with torch.autocast(weight.device.type, enabled=False):
            mean, log_variance = self.head(features).chunk(2, dim=1)
        return mean, _MAX_LOG_VARIANCE * torch.tanh(log_variance / _MAX_LOG_VARIANCE)


@single_precision()
def pretrain(
    embedding: nn.Module,
    store: SimulationStore,
    observation: Observation,
    options: TrainingOptions,
    run_dir: str | Path,
    *,
    target: Literal["gaussian", "mean"] = "gaussian",
    augment: Augment | None = None,
    rows: tuple[np.ndarray, np.ndarray] | None = None,
    workers: int = 1,
    resume: bool = True,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    identity: Mapping[str, Any] | None = None,
) -> tuple[Regression, TrainingHistory]:
    """Train an embedding in place to predict the parameters of a store.

    All inferred parameters must be continuous.

    Args:
        embedding: its scale set, on the device to train on.
        store: simulations with theta drawn from the prior.
        observation: its noise is redrawn at every step.
        options: how to train; ``epochs`` of this stage alone.
        run_dir: for metrics and the resumable state, of this stage alone.
        target: ``"gaussian"`` fits mean and variance, -log N(u; mean, variance); ``"mean"`` the
            mean alone, squared error.
        augment: ``augment(x, generator)``, a random symmetry of the observed fields that leaves
            the parameters as they are; in training only.
        rows: indices of the simulations that train and of those that validate, for example those
            of the later joint training; None splits the store as `sbitools.train` does with the
            same seed and fraction.
        workers: pieces of a batch that are computed at the same time on a CPU, one thread each.
        resume: take up an interrupted run in `run_dir`; False to refuse it.
        on_epoch: called with each new row of the training history.
        identity: plain values besides the data's that tell this run from others.

    Returns:
        The regression around the embedding, and the history of its training. Losses are means
        over rows, summed over parameters; 0.5 per parameter is what the prior scores on either
        target.

    Raises:
        TrainingError: if there is too little to train on, or training diverges.
        ObservationError: if the observation model does not fit the store's fields.
    """
    observation = observation.bind(store.output)
    rows = rows or split(store, options.validation_fraction, options.seed)
    once, noisy = observation.split()  # only the noise need be drawn anew at every step
    training, validation = (
        StreamingLoader(
            store, part, options.batch_size, options.seed, shuffle=shuffle,
            prepare=lambda x: once(x, torch.zeros(len(x), dtype=torch.int64)),
            row_bytes=once.output(store.output).nbytes,
        )
        for part, shuffle in zip(rows, (True, False), strict=True)
    )  # fmt: skip
    device = next(embedding.parameters()).device
    module = Regression(embedding, len(store.parameters.inferred)).to(device)
    loss = _Loss(store, noisy, target, augment, workers)
    own = {"store": store.digest(), "observe": observation.digest(), "target": target,
           "stage": "regression", "rows": [len(part) for part in rows]}  # fmt: skip
    history = run_training(
        module, loss, training.batches, lambda: validation.batches(0), options, run_dir,
        steps_per_epoch=training.steps, resume=resume, on_epoch=on_epoch,
        identity=own | dict(identity or {}),
    )  # fmt: skip
    return module, history


class _Loss:
    """Mean of -log N(u; mean, variance) + const, or of half the squared error."""

    def __init__(
        self, store: SimulationStore, observation: Observation, target: str,
        augment: Augment | None, workers: int,
    ) -> None:  # fmt: skip
        self.space = store.parameters.inferred
        self.columns = store.parameters.inferred_columns
        self.observation, self.target = observation, target
        self.augment, self.workers = augment, workers

    def __call__(self, module: nn.Module, batch: Any, rng: torch.Generator) -> Tensor:
        theta, x, seeds = batch
        device = next(module.parameters()).device
        u = self.space.to_unconstrained(theta[:, self.columns]).float().to(device)
        x = self.observation(x.to(device), seeds)
        step = len(x) if device.type != "cpu" else _PIECE_ROWS
        pieces = [slice(i, min(i + step, len(x))) for i in range(0, len(x), step)]
        if self.augment and module.training:
            x = module.embedding.fill(x)  # type: ignore[operator, union-attr]
            x = torch.cat([self.augment(x[rows], rng) for rows in pieces])

        def piece(i: int) -> Tensor:
            rows = pieces[i]
            return self._rows(module, u[rows], x[rows]).sum() * (len(pieces) / len(x))

        trained = [p for p in module.parameters() if p.requires_grad]
        return mean_loss(piece, len(pieces), trained or list(module.parameters()), self.workers)

    def _rows(self, module: nn.Module, u: Tensor, x: Tensor) -> Tensor:
        mean, log_variance = module(x)
        square = (u - mean) ** 2
        if self.target == "gaussian":
            return 0.5 * (log_variance + square * torch.exp(-log_variance)).sum(1)
        return 0.5 * square.sum(1)


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Within, the weights of `module` take no gradient: the stage that trains what reads it."""
    before = [(p, p.requires_grad) for p in module.parameters()]
    module.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, flag in before:
            parameter.requires_grad_(flag)
