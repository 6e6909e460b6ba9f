"""One training run of one network: its data, its loss, its provenance."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sbitools.embeddings import observed_mask
from sbitools.embeddings.own import own_module
from sbitools.embeddings.pretrain import frozen, pretrain
from sbitools.embeddings.products import learn_scale
from sbitools.errors import PosteriorError
from sbitools.identity.values import Digester
from sbitools.networks.devices import find_device
from sbitools.observation import Observation
from sbitools.observation.familiarity import FEWEST, Familiarity, data_statistics
from sbitools.seeds import generator
from sbitools.store import SimulationStore
from sbitools.store.marks import sketch
from sbitools.training import TrainingHistory, TrainingOptions, mean_loss, run_training
from sbitools.training.distributed import local_device
from sbitools.training.loader import Batch, StreamingLoader, split
from sbitools.training.trackers import of_part

from .first_guess import can_guess, guess_target
from .methods import Method
from .options import only
from .posterior import Posterior
from .prior_check import simulated_ranges
from .symmetry import random_symmetry, turned_axes

__all__ = ["Job", "fit_network"]

# Fields from which the scale of the inputs is measured: enough for 2 %; and more of small ones, so
# that an entry which varies in one of many simulations is not taken for a constant.
_SCALE_FIELDS, _SCALE_BYTES = 1024, 4 << 20
_SETTLED = 2048  # fields that a network for fields is settled by

# Fields that the record of familiar ones is made of; a quarter of them must be held-out ones, or
# fields of training join: their features are not quite those of new fields.
_FAMILIAR_FIELDS = 2000

# Options on which results do not depend, but for rounding on another device.
_NO_MATTER = ("checkpoint_seconds", "time_limit", "threads", "workers", "device")

# Rows of a batch that one thread computes; a constant, so that results do not depend on `workers`.
_PIECE_ROWS = 16


class Job:
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
        self.started_from: str | None = None  # sha256 of weights
        self.own: dict[str, str] = {}  # what tells a summary network of the user's from others
        self.chosen = None if indices is None else indices.tolist()
        once, self.noisy = observation.split()  # only the noise need be drawn anew at every step
        self.common: dict[str, Any] = {
            "prepare": lambda x: once(x, torch.zeros(len(x), dtype=torch.int64)),
            "row_bytes": once.output(store.output).nbytes,
        }
        size, seed = options.batch_size, options.seed
        self.training = StreamingLoader(store, self.train_rows, size, seed, **self.common)
        self.validation = StreamingLoader(
            store, self.held_out, size, seed, shuffle=False, **self.common
        )

    def with_seed(self, seed: int) -> Job:
        """The same data in another order; the same simulations held out."""
        other = copy.copy(self)
        other.options = self.options.model_copy(update={"seed": seed})
        other.training = copy.copy(self.training)
        other.training.seed = seed
        return other

    @property
    def rows_asked(self) -> np.ndarray | None:
        """Simulations that were asked for; None for all."""
        return None if self.chosen is None else np.array(self.chosen, dtype=np.int64)

    @property
    def seeds(self) -> Tensor:
        """Of the simulations that trained and validated."""
        return self.store.seeds[torch.from_numpy(self._rows)]

    @property
    def _rows(self) -> np.ndarray:
        """Simulations that trained and validated, ascending."""
        return np.union1d(self.train_rows, self.held_out)

    def estimator(self, start: Posterior | None) -> nn.Module:
        """The network before training."""
        network, space = only(self.method.network, self.options), self.store.parameters.inferred
        estimator = self.method.build(network, space, self.spec)
        if (own := own_module(estimator)) is not None:
            nets = own.values() if isinstance(own, Mapping) else [own]
            told = [part for net in nets for part in (repr(net), dict(net.state_dict()))]
            self.own = {"embedding": Digester()(told).hex()}
        if start is None:
            # Noise that is added after a mask would hide what is masked from the embedding.
            mask = observed_mask(self.observation, self.spec)
            learn_scale(
                estimator.embedding,
                lambda: (self.noisy(x, seeds) for _, x, seeds in _some(self.training)),
                self.spec, mask,
            )  # fmt: skip
            if (settle := getattr(estimator, "settle", None)) and can_guess(space):
                settle(self._pairs)
        else:
            self._check_start(start, network)
            weights = start.estimator.state_dict()
            estimator.load_state_dict(weights)
            self.started_from = Digester()(dict(weights)).hex()
        if self.options.frozen == "embedding":
            estimator.embedding.requires_grad_(False)
        return estimator.to(self.device)

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Coordinates of theta, and observed fields, for what is known before training."""
        for batch in islice(self.training.batches(0), -(-_SETTLED // self.options.batch_size)):
            theta, x, seeds = batch  # which stay where the new network is, whatever the device
            yield guess_target(self._coordinates(theta)), self.noisy(x, seeds)

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

    def pair(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """u (B, P) and observed x (B, *shape) of a batch, with its own noise."""
        theta, x, seeds = batch
        return self._coordinates(theta), self.noisy(x.to(self.device), seeds)

    def _coordinates(self, theta: Tensor) -> Tensor:
        space = self.store.parameters
        return self.method.coordinates(space.inferred, theta[:, space.inferred_columns])

    def familiarity(self, posterior: Posterior) -> Familiarity | None:
        """What x look like: the held-out simulations and, if those are few, the others too."""
        rows = self.held_out
        if len(rows) < _FAMILIAR_FIELDS // 4:
            rows = np.concatenate([rows, self.train_rows])
        # One of each group: members of one are alike.
        _, first = np.unique(self.store.groups[rows], return_index=True)
        rows = rows[np.sort(first)][:_FAMILIAR_FIELDS]
        if len(rows) < FEWEST:
            return None
        loader = StreamingLoader(
            self.store, rows, self.options.batch_size, self.options.seed, shuffle=False,
            **self.common,
        )  # fmt: skip
        features, statistics = [], []
        for batch in loader.batches(0):
            x = self.pair(batch)[1].cpu()
            features.append(posterior.features(x).numpy())
            statistics.append(data_statistics(posterior.comparable(x)))
        return Familiarity.fit(
            np.concatenate(features), np.concatenate(statistics), self.spec.shape,
            seed=self.options.seed,
        )  # fmt: skip

    def identity(self) -> dict[str, Any]:
        """What tells this run from others: data, options that matter, weights at the start."""
        chosen = self.options.model_dump(mode="json")
        return {f"option {k}": v for k, v in chosen.items() if k not in _NO_MATTER} | {
            "start": self.started_from,
            "store": self.store.digest(), "observe": self.observation.digest(),
            "symmetry": self.options.symmetry, "method": self.method.name,
            "network": only(self.method.network, self.options).model_dump(),
            "frozen": self.options.frozen, "indices": self.chosen, **self.own,
        }  # fmt: skip

    def stages(
        self, estimator: Any, run_dir: Path, resume: bool,
        on_epoch: Callable[[dict[str, float]], None] | None,
    ) -> None:  # fmt: skip
        """The embedding alone, then the rest on top of it: what comes before joint training."""
        n = self.options.pretrain_epochs
        options = only(TrainingOptions, self.options).model_copy(update={"epochs": n})
        symmetry = self.options.symmetry
        pretrain(
            estimator.embedding, self.store, self.observation, options, run_dir / "pretrain",
            augment=partial(random_symmetry, axes=turned_axes(self.spec, symmetry))
            if symmetry != "none" else None,
            rows=(self.train_rows, self.held_out), workers=self.options.workers, resume=resume,
            on_epoch=of_part(on_epoch, "pretrain"),
            identity={f"option {k}": v for k, v in self.identity().items()},
        )  # fmt: skip
        with frozen(estimator.embedding):
            self.run(estimator, run_dir / "frozen", resume, of_part(on_epoch, "frozen"), options)

    def run(
        self,
        estimator: nn.Module,
        run_dir: Path,
        resume: bool,
        on_epoch: Callable[[dict[str, float]], None] | None,
        options: TrainingOptions | None = None,
    ) -> TrainingHistory:
        """Train, by other `options` than the job's own if given."""
        return run_training(
            estimator, _Loss(self), self.training.batches, lambda: self.validation.batches(0),
            options or only(TrainingOptions, self.options), run_dir,
            steps_per_epoch=self.training.steps, resume=resume, identity=self.identity(),
            on_epoch=on_epoch, optimizer_threads=self.options.workers,
        )  # fmt: skip

    def _ranges(self) -> dict[str, list[float]]:
        """Where the inferred parameters of the simulations lie."""
        space = self.store.parameters
        theta = self.store.theta[torch.from_numpy(self._rows)][:, space.inferred_columns].numpy()
        return simulated_ranges(space.inferred, theta)

    def told(self, network: nn.Module) -> str:
        """What is trained on what, in a line: nobody may have said it."""
        parts = (getattr(module, "embedding", None) for module in network.modules())
        embedding = next(part for part in parts if isinstance(part, nn.Module))
        left_out = ", ".join(f"{n} {k}" for k, n in self._excluded.items())
        return (
            f"{type(network).__name__}, embedding {type(embedding).__name__}, on {self.device}; "
            f"{len(self.train_rows)} simulations train, {len(self.held_out)} validate, "
            f"{left_out or 'none'} left out; batches of {self.options.batch_size}"
        )

    @property
    def _excluded(self) -> dict[str, int]:
        """Simulations of the store that are not done, by their state."""
        return {k: v for k, v in self.store.counts().items() if k != "done" and v}

    def info(self, history: TrainingHistory, seconds: float) -> dict[str, Any]:
        """Provenance."""
        return {
            "method": self.method.name, "options": self.options.model_dump(mode="json"),
            "history": history.to_dict(), "n_training": len(self.train_rows),
            "n_validation": len(self.held_out), "excluded": self._excluded,
            "store": self.store.digest(), "design": self.store.design, "seconds": seconds,
            "simulated": self._ranges(), "simulations": sketch(self.store, self._rows),
        }  # fmt: skip


def fit_network(
    job: Job, estimator: nn.Module, run_dir: Path, resume: bool,
    on_epoch: Callable[[dict[str, float]], None] | None,
) -> tuple[TrainingHistory, dict[str, Any]]:  # fmt: skip
    """Train one network in place, in three stages if its options ask for them.

    Args:
        job: data and options.
        estimator: from `Job.estimator`.
        run_dir: of the run.
        resume: take up an earlier run.
        on_epoch: called with each row of the training history.

    Returns:
        The history, and nothing else to tell.
    """
    if job.options.pretrain_epochs and job.started_from is None:
        job.stages(estimator, run_dir, resume, on_epoch)
    return job.run(estimator, run_dir, resume, on_epoch), {}


class _Loss:
    """Mean of the network's loss over a batch of observed fields."""

    def __init__(self, job: Job) -> None:
        self.job, self.options = job, job.options

    def __call__(self, module: Any, batch: Any, rng: torch.Generator) -> Tensor:
        u, x = self.job.pair(batch)
        pieces = self._pieces(len(x), module)
        symmetry = self.options.symmetry
        if symmetry != "none" and module.training:
            x, axes = module.embedding.fill(x), turned_axes(self.job.spec, symmetry)
            x = torch.cat([random_symmetry(x[rows], rng, axes=axes) for rows in pieces])
        # One generator per piece: pieces are computed in any order.
        own = torch.randint(1 << 62, (len(pieces),), generator=rng).tolist()

        def piece(i: int) -> Tensor:
            rows, rng = pieces[i], generator(own[i])
            return module.loss(u[rows], x[rows], rng).sum() * (len(pieces) / len(x))

        trained = [p for p in module.parameters() if p.requires_grad]
        return mean_loss(piece, len(pieces), trained or list(module.parameters()),
                         self.options.workers)  # fmt: skip

    @staticmethod
    def _pieces(n: int, module: Any) -> list[slice]:
        device = next(module.parameters()).device
        step = n if device.type != "cpu" else getattr(module, "piece_rows", _PIECE_ROWS)
        return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def _some(loader: StreamingLoader) -> Iterator[Batch]:
    seen = read = 0
    for batch in loader.batches(0):
        yield batch
        seen, read = seen + len(batch[0]), read + batch[1].nbytes
        if seen >= _SCALE_FIELDS and read >= _SCALE_BYTES:
            return


def _device(name: str) -> torch.device:
    if name == "auto":
        return local_device()
    return find_device(name, "option 'device' of train", also="'auto', ")


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
