"""Neural posterior estimation: maximise E log q(theta | x) over the simulations of a store.

Papamakarios & Murray 2016 (arXiv:1605.06376), Greenberg et al. 2019 (arXiv:1905.07488).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

from sbitools.errors import ConfigError, PosteriorError
from sbitools.observation import Observation
from sbitools.simulator import FieldSpec
from sbitools.store import SimulationStore
from sbitools.training import TrainingOptions, mean_loss, run_training
from sbitools.training.distributed import local_device
from sbitools.training.loader import Batch, StreamingLoader, split

from .estimator import Estimator, EstimatorOptions
from .posterior import Posterior
from .symmetry import random_cube_symmetry

__all__ = ["NPEOptions", "train"]

# Fields from which the scale of the inputs is measured: enough for 2 %.
_SCALE_FIELDS = 1024

# Rows of a batch that one thread computes; a constant, so that results do not depend on `workers`.
_PIECE_ROWS = 16


class NPEOptions(EstimatorOptions, TrainingOptions):
    """Options of neural posterior estimation: the network and its training, in one table.

    Attributes:
        symmetry: ``"cube"`` shows the network a randomly flipped and permuted field at each step:
            for statistically isotropic fields on a cube, 48 times the data.
        device: torch device to train on; ``"auto"`` takes a GPU if there is one.
        workers: pieces of a batch that are computed at the same time on a CPU, one thread each;
            the result does not depend on it.
    """

    symmetry: Literal["none", "cube"] = "none"
    device: str = "auto"
    threads: int | None = Field(1, ge=1)
    workers: int = Field(2, ge=1)


def train(
    store: SimulationStore,
    method: str = "npe",
    *,
    observe: Observation | None = None,
    run_dir: str | Path,
    resume: bool = False,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    **options: Any,
) -> Posterior:
    """Train a posterior on the finished simulations of a store.

    Args:
        store: simulations with theta drawn from the prior.
        method: ``"npe"``.
        observe: observation model; its noise is redrawn at every step.
        run_dir: for metrics and the resumable state.
        resume: take up an interrupted run in `run_dir`.
        on_epoch: called with each new row of the training history.
        **options: fields of `NPEOptions`.

    Returns:
        The posterior; ``posterior.info`` holds the history and what was excluded.

    Raises:
        ConfigError: for an unknown method or option.
        TrainingError: if there is too little to train on, or training diverges.
        ObservationError: if the observation model does not fit the store's fields.
    """
    if method != "npe":
        raise ConfigError("method", expected="'npe'", got=repr(method), fix="use method='npe'")
    parsed = _parse(options)
    observation = observe or Observation()
    spec = observation.output(store.output)
    _check_parameters(store)
    device = _device(parsed.device)
    train_rows, held_out = split(store, parsed.validation_fraction, parsed.seed)
    once, noisy = observation.split()  # only the noise need be drawn anew at every step
    common: dict[str, Any] = {
        "prepare": lambda x: once(x, torch.zeros(len(x), dtype=torch.int64)),
        "row_bytes": once.output(store.output).nbytes,
    }
    training = StreamingLoader(store, train_rows, parsed.batch_size, parsed.seed, **common)
    validation = StreamingLoader(
        store, held_out, parsed.batch_size, parsed.seed, shuffle=False, **common
    )

    estimator = Estimator(_only(EstimatorOptions, parsed), len(store.parameters.inferred), spec)
    estimator.embedding.set_scale(*_moments(training, noisy, spec))
    estimator.to(device)
    identity = {
        "store": store.digest(), "observe": observation.digest(), "symmetry": parsed.symmetry,
        "network": _only(EstimatorOptions, parsed).model_dump(),
    }  # fmt: skip
    started = time.monotonic()
    history = run_training(
        estimator, _Loss(store, noisy, parsed), training.batches,
        lambda: validation.batches(0), _only(TrainingOptions, parsed), run_dir,
        steps_per_epoch=training.steps, resume=resume, identity=identity, on_epoch=on_epoch,
    )  # fmt: skip
    counts = {k: v for k, v in store.counts().items() if k != "done" and v}
    info = {
        "method": method, "options": parsed.model_dump(mode="json"),
        "history": history.to_dict(), "n_training": len(train_rows),
        "n_validation": len(held_out), "excluded": counts, "store": identity["store"],
        "design": store.design, "seconds": time.monotonic() - started,
    }  # fmt: skip
    return Posterior(
        estimator.cpu(), _only(EstimatorOptions, parsed), store.parameters.inferred,
        store.output, observation, info,
    )  # fmt: skip


class _Loss:
    """Mean of -log q(u | observe(x))."""

    def __init__(
        self, store: SimulationStore, observation: Observation, options: NPEOptions
    ) -> None:
        self.space = store.parameters.inferred
        self.columns = store.parameters.inferred_columns
        self.observation, self.options = observation, options

    def __call__(self, module: nn.Module, batch: Any, rng: torch.Generator) -> Tensor:
        assert isinstance(module, Estimator)  # noqa: S101  (for the type checker)
        theta, x, seeds = batch
        u = self.space.to_unconstrained(theta[:, self.columns])
        x = self.observation(x.to(module.device), seeds)
        pieces = self._pieces(len(x), module)
        if self.options.symmetry == "cube" and module.training:
            x = torch.cat([random_cube_symmetry(x[rows], rng) for rows in pieces])

        def piece(i: int) -> Tensor:
            rows = pieces[i]
            log_q = module.log_prob(u[rows, None], module.features(x[rows]))
            return -log_q.sum() * (len(pieces) / len(x))

        trained = [p for p in module.parameters() if p.requires_grad]
        return mean_loss(piece, len(pieces), trained or list(module.parameters()),
                         self.options.workers)  # fmt: skip

    @staticmethod
    def _pieces(n: int, module: Estimator) -> list[slice]:
        step = n if module.device.type != "cpu" else _PIECE_ROWS
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


def _parse(options: dict[str, Any]) -> NPEOptions:
    try:
        return NPEOptions(**options)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"option {name!r} of train", expected=first["msg"], got=repr(options.get(name)),
            fix=f"choose among {', '.join(NPEOptions.model_fields)}",
        ) from error  # fmt: skip


def _only(model: type, options: NPEOptions) -> Any:
    return model(**{k: getattr(options, k) for k in model.model_fields})  # type: ignore[attr-defined]


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


def _check_parameters(store: SimulationStore) -> None:
    space = store.parameters.inferred
    discrete = [p.name for p in space if p.categories]
    if not len(space) or discrete:
        raise PosteriorError(
            "inferred parameters", expected="one or more, all continuous",
            got=f"{space.names}, categorical: {discrete}",
            fix="set inferred=True for continuous parameters and False for categorical ones",
        )  # fmt: skip
