"""train(): from a store of simulations to a posterior, by any method."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sbitools.errors import ConfigError, PosteriorError
from sbitools.observation import Observation
from sbitools.simulator import FieldSpec
from sbitools.store import SimulationStore
from sbitools.training import TrainingHistory, TrainingOptions, mean_loss, run_training
from sbitools.training.distributed import local_device
from sbitools.training.loader import Batch, StreamingLoader, split

from .methods import Method, find_method
from .options import only, parse_options
from .posterior import Posterior
from .symmetry import random_cube_symmetry

__all__ = ["train"]

# Fields from which the scale of the inputs is measured: enough for 2 %.
_SCALE_FIELDS = 1024

# Rows of a batch that one thread computes; a constant, so that results do not depend on `workers`.
_PIECE_ROWS = 16


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
        ConfigError: for an unknown method or option.
        TrainingError: if there is too little to train on, or training diverges.
        ObservationError: if the observation model does not fit the store's fields.
        PosteriorError: if the method cannot infer the store's parameters, or `start` is of
            another method, of other parameters or of other fields.
    """
    chosen = find_method(method)
    if start is not None:
        options = start.options.model_dump() | options
    parsed = parse_options(chosen, options | {"method": method})
    observation = observe or (start.observation if start else Observation())
    job = _Job(store, chosen, parsed, observation, indices)
    estimator = job.estimator(start)
    started = time.monotonic()
    history = job.run(estimator, Path(run_dir), resume, on_epoch)
    info = job.info(history, time.monotonic() - started)
    if start is not None:
        info["started_from"] = start.info
    return chosen.posterior(
        estimator.cpu(), only(chosen.network, parsed), store.parameters.inferred, store.output,
        observation, info, training_seeds=job.seeds,
    )  # fmt: skip


class _Job:
    """One training run: data, network, loss."""

    def __init__(
        self, store: SimulationStore, method: Method, options: Any, observation: Observation,
        indices: np.ndarray | None,
    ) -> None:  # fmt: skip
        self.store, self.method, self.options = store, method, options
        self.observation, self.spec = observation, observation.output(store.output)
        _check_parameters(store, method)
        self.device = _device(options.device)
        self.train_rows, self.held_out = split(
            store, options.validation_fraction, options.seed, indices
        )
        self.chosen = None if indices is None else sorted({int(i) for i in indices})
        once, self.noisy = observation.split()  # only the noise need be drawn anew at every step
        common: dict[str, Any] = {
            "prepare": lambda x: once(x, torch.zeros(len(x), dtype=torch.int64)),
            "row_bytes": once.output(store.output).nbytes,
        }
        size, seed = options.batch_size, options.seed
        self.training = StreamingLoader(store, self.train_rows, size, seed, **common)
        self.validation = StreamingLoader(
            store, self.held_out, size, seed, shuffle=False, **common
        )

    @property
    def seeds(self) -> Tensor:
        """Of the simulations that trained and validated."""
        return self.store.seeds[torch.from_numpy(np.union1d(self.train_rows, self.held_out))]

    def estimator(self, start: Posterior | None) -> nn.Module:
        """The network before training."""
        network, space = only(self.method.network, self.options), self.store.parameters.inferred
        estimator = self.method.build(network, space, self.spec)
        if start is None:
            estimator.embedding.set_scale(*_moments(self.training, self.noisy, self.spec))
        else:
            self._check_start(start, network)
            estimator.load_state_dict(start.estimator.state_dict())
        if self.options.frozen == "embedding":
            estimator.embedding.requires_grad_(False)
        return estimator.to(self.device)

    def _check_start(self, start: Posterior, network: Any) -> None:
        mine = (network, self.store.parameters.inferred, self.store.output, self.observation)
        theirs = (start.options, start.parameters, start.output, start.observation)
        names = ("network options", "parameters", "output", "observation model")
        for name, a, b in zip(names, mine, theirs, strict=True):
            if a.to_dict() != b.to_dict() if hasattr(a, "to_dict") else a != b:
                raise PosteriorError(
                    f"start: {name}", expected=f"{b}", got=f"{a}",
                    fix="fine-tune on simulations of the same kind, with the same network",
                )  # fmt: skip

    def run(
        self,
        estimator: nn.Module,
        run_dir: Path,
        resume: bool,
        on_epoch: Callable[[dict[str, float]], None] | None,
    ) -> TrainingHistory:
        """Train."""
        identity = {
            "store": self.store.digest(), "observe": self.observation.digest(),
            "symmetry": self.options.symmetry, "method": self.method.name,
            "network": only(self.method.network, self.options).model_dump(),
            "frozen": self.options.frozen, "indices": self.chosen,
        }  # fmt: skip
        return run_training(
            estimator, _Loss(self), self.training.batches, lambda: self.validation.batches(0),
            only(TrainingOptions, self.options), run_dir, steps_per_epoch=self.training.steps,
            resume=resume, identity=identity, on_epoch=on_epoch,
        )  # fmt: skip

    def info(self, history: TrainingHistory, seconds: float) -> dict[str, Any]:
        """Provenance."""
        counts = {k: v for k, v in self.store.counts().items() if k != "done" and v}
        return {
            "method": self.method.name, "options": self.options.model_dump(mode="json"),
            "history": history.to_dict(), "n_training": len(self.train_rows),
            "n_validation": len(self.held_out), "excluded": counts,
            "store": self.store.digest(), "design": self.store.design, "seconds": seconds,
        }  # fmt: skip


class _Loss:
    """Mean of the network's loss over a batch of observed fields."""

    def __init__(self, job: _Job) -> None:
        self.space = job.store.parameters.inferred
        self.columns = job.store.parameters.inferred_columns
        self.coordinates = job.method.coordinates
        self.observation, self.options = job.noisy, job.options

    def __call__(self, module: Any, batch: Any, rng: torch.Generator) -> Tensor:
        theta, x, seeds = batch
        device = next(module.parameters()).device
        u = self.coordinates(self.space, theta[:, self.columns])
        x = self.observation(x.to(device), seeds)
        pieces = self._pieces(len(x), device)
        if self.options.symmetry == "cube" and module.training:
            x = torch.cat([random_cube_symmetry(x[rows], rng) for rows in pieces])
        # One generator per piece: pieces are computed in any order.
        own = torch.randint(1 << 62, (len(pieces),), generator=rng).tolist()

        def piece(i: int) -> Tensor:
            rows, generator = pieces[i], torch.Generator().manual_seed(own[i])
            return module.loss(u[rows], x[rows], generator).sum() * (len(pieces) / len(x))

        trained = [p for p in module.parameters() if p.requires_grad]
        return mean_loss(piece, len(pieces), trained or list(module.parameters()),
                         self.options.workers)  # fmt: skip

    @staticmethod
    def _pieces(n: int, device: torch.device) -> list[slice]:
        step = n if device.type != "cpu" else _PIECE_ROWS
        return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def _moments(
    loader: StreamingLoader, observation: Observation, spec: FieldSpec
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of observed training fields, per cell."""
    total = torch.zeros(spec.shape, dtype=torch.float64)
    square, count = torch.zeros_like(total), 0
    for _, x, seeds in _some(loader):
        y = observation(x, seeds).double()
        total += y.sum(0)
        square += (y**2).sum(0)
        count += len(y)
    mean = total / count
    return mean.float(), (square / count - mean**2).clamp(min=0).sqrt().float()


def _some(loader: StreamingLoader) -> Iterator[Batch]:
    seen = 0
    for batch in loader.batches(0):
        yield batch
        seen += len(batch[0])
        if seen >= _SCALE_FIELDS:
            return


def _device(name: str) -> torch.device:
    if name == "auto":
        return local_device()
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            "option 'device' of train", expected="'auto', 'cpu' or a device of this machine",
            got=repr(name), fix=f"use device='auto' ({str(error).splitlines()[0]})",
        ) from error  # fmt: skip
    return device


def _check_parameters(store: SimulationStore, method: Method) -> None:
    space = store.parameters.inferred
    discrete = [p.name for p in space if p.categories]
    if not len(space) or (discrete and not method.categorical):
        raise PosteriorError(
            "inferred parameters", expected=f"one or more, all continuous for {method.title}",
            got=f"{space.names}, categorical: {discrete}",
            fix="set inferred=True for continuous parameters and False for categorical ones, or "
            "use method='discrete'",
        )  # fmt: skip
