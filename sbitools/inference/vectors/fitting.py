"""What all fits of vector densities share: the simulations, one training run, and the shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sbitools.inference.mixture import select_members
from sbitools.seeds import derive, generator
from sbitools.training import TrainingHistory, TrainingOptions, run_training

from .emulate import Emulator, parameter_features
from .lattice import Lattice
from .scale import Standardise

if TYPE_CHECKING:
    from sbitools.inference.job import Job

__all__ = ["STEPS_PER_EPOCH", "Fit", "OnEpoch"]

STEPS_PER_EPOCH = 200  # between two looks at the held-out simulations
_MOST_ROWS = 200_000  # simulations that closed forms look at
_SPREAD = 16  # key of the seed that spreads counts over their unit

OnEpoch = Callable[[dict[str, Any]], None]
Pair = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


class Fit:
    """One fit of the densities of a data vector.

    Args:
        job: data and options.
        embedding: with the scale of x set.
        run_dir: one folder in it for each network; an interrupted run resumes with what is there.
        resume: take up an earlier run.
        on_epoch: called with each row of the training histories, with ``"part"`` in it.
    """

    def __init__(
        self, job: Job, embedding: Standardise, run_dir: Path, resume: bool,
        on_epoch: OnEpoch | None,
    ) -> None:  # fmt: skip
        self.job, self.embedding, self.run_dir = job, embedding, run_dir
        self.resume, self.on_epoch = resume, on_epoch
        self.histories: dict[str, TrainingHistory] = {}
        self.n, self.options = len(job.train_rows), job.options
        self.u, self.x = self._pairs(job.training.batches(0))
        self.held_out = self._pairs(job.validation.batches(0))
        seen = embedding.seen.expand(self.x.shape[1])
        self.columns = seen.nonzero()[:, 0].to(self.x.device)  # those that vary have a density
        mean, std = embedding.mean[self.columns], embedding.std[self.columns]
        kind = job.spec.torch_dtype
        last = mean.abs() * torch.finfo(kind if kind.is_floating_point else torch.float64).eps
        self.lattice = Lattice(self.x[:, self.columns], std, last)

    @property
    def few(self) -> bool:
        """Whether there are so few simulations that networks need dropout."""
        return self.n <= 3000

    @property
    def steps(self) -> int:
        """Steps of training on the simulations, at most."""
        return 1500 if self.few else 3000 if self.n <= 30_000 else 10_000

    def _pairs(self, batches: Iterator[Any]) -> tuple[Tensor, Tensor]:
        """u (N, P) and standardised x (N, n), at most 200,000."""
        us, xs, n = [], [], 0
        for batch in batches:
            u, x = self.job.pair(batch)
            us.append(u.float())
            xs.append(self.embedding.standardise(x))
            n += len(u)
            if n >= _MOST_ROWS:
                break
        return torch.cat(us), torch.cat(xs)

    def emulator(self, emulator: Emulator) -> dict[str, float]:
        """Fit p(x | u) of `columns` in place; returns the shares of its parts."""
        rng = generator(derive(self.options.seed, _SPREAD))
        columns = self.columns
        spread = [self.lattice.spread(x[:, columns], rng) for x in (self.x, self.held_out[1])]
        emulator.linear.fit(spread[0], parameter_features(self.u))
        emulator.affine.set_dropout(0.1 if self.few else 0.0)

        def pair(u: Tensor, x: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
            return self.lattice.spread(x[:, columns], rng), parameter_features(u)

        for name, part in (("affine", emulator.affine), ("mixtures", emulator.mixtures)):
            self.train(f"emulator-{name}", part, self.steps, pair)
        weights = self.select(
            emulator.mixture.members, spread[1], parameter_features(self.held_out[0])
        )
        emulator.mixture.weights.copy_(weights)
        return dict(zip(emulator.parts, weights.tolist(), strict=True))

    def with_constants(self, x: Tensor) -> Tensor:
        """Standardised x of `columns`, with those that never vary, which are 0."""
        return x.new_zeros(len(x), self.x.shape[1]).index_copy(1, self.columns.to(x.device), x)

    @staticmethod
    @torch.no_grad()
    def select(members: Any, y: Tensor, c: Tensor) -> Tensor:
        """Weights of members by the held-out pairs."""
        scores = []
        for member in members:
            parts = [member.eval().log_prob(a[:, None], b)[:, 0]
                     for a, b in zip(y.split(2000), c.split(2000), strict=True)]  # fmt: skip
            scores.append(torch.cat(parts))
        return select_members(torch.stack(scores, 1)).float()

    def train(self, name: str, stack: nn.Module, steps: int, pair: Pair) -> TrainingHistory:
        """Train a stack on the simulations, with their noise drawn anew in every pass."""
        loader, job, scale = self.job.training, self.job, self.embedding.standardise
        passes = max(1, round(STEPS_PER_EPOCH / loader.steps))

        def batches(epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
            for i in range(passes):
                first, start = min(start, loader.steps), max(0, start - loader.steps)
                for batch in loader.batches(epoch * passes + i, first):
                    u, x = job.pair(batch)
                    yield u.float(), scale(x)

        def loss(module: Any, batch: Any, rng: torch.Generator) -> Tensor:
            y, c = pair(batch[0], batch[1], rng)
            return module.loss(y, c, rng).mean()

        return self.run(
            name, stack, steps, batches, self.held_out, loss, per_epoch=passes * loader.steps,
            learning_rate=3e-3, weight_decay=1e-2, patience=10,
        )  # fmt: skip

    def run(
        self, name: str, stack: nn.Module, steps: int, batches: Callable,
        held_out: tuple[Tensor, Tensor], loss: Callable, *, per_epoch: int, **chosen: Any,
    ) -> TrainingHistory:  # fmt: skip
        """One training run; options that the user gave win over those chosen here."""
        chosen |= {
            "epochs": max(1, round(steps / per_epoch)), "warmup_steps": 100,
            "batch_size": self.job.training.batch_size, "seed": self.options.seed,
        }  # fmt: skip
        given = {k: getattr(self.options, k) for k in self.options.model_fields_set}
        known = {k: v for k, v in given.items() if k in TrainingOptions.model_fields}
        options = TrainingOptions(**chosen | known | {"threads": self.options.threads})

        def note(row: dict[str, Any]) -> None:
            if self.on_epoch:
                self.on_epoch(row | {"part": name})

        self.histories[name] = run_training(
            stack, loss, batches, lambda: iter([held_out]), options, self.run_dir / name,
            steps_per_epoch=per_epoch, resume=self.resume,
            identity=self.job.identity() | {"part": name}, on_epoch=note,
        )  # fmt: skip
        return self.histories[name]
