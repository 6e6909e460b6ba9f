"""How the density of a data vector is fitted: training runs, and the shares by held-out pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sbitools.display.bars import showing
from sbitools.seeds import derive, generator
from sbitools.training import TrainingHistory, TrainingOptions, run_training
from sbitools.training.trackers import of_part

from .lattice import Lattice
from .mixture import select_members
from .vector import VectorDensity

__all__ = ["STEPS_PER_EPOCH", "DensityFit", "OnEpoch", "Pairs"]

STEPS_PER_EPOCH = 200  # between two looks at the held-out simulations
_SPREAD = 16  # key of the seed that spreads counts over their unit

OnEpoch = Callable[[dict[str, Any]], None]
Transform = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Pairs:
    """Simulations as pairs of what is given, u (N, P), and standardised x (N, n).

    Args:
        u: of the simulations that closed forms look at.
        x: of the same.
        held_out: u and x of others.
        batches: ``batches(epoch, start)``, the pairs of a pass from a batch on.
        steps: batches of a pass.
        batch_size: pairs of a batch.
        n: simulations of a pass.
    """

    u: Tensor
    x: Tensor
    held_out: tuple[Tensor, Tensor]
    batches: Callable[[int, int], Iterator[tuple[Tensor, Tensor]]]
    steps: int
    batch_size: int
    n: int


class DensityFit:
    """One fit of densities.

    Args:
        pairs: what is learned from.
        options: `TrainingOptions`, or more; those that were given win over what is chosen here.
        run_dir: one folder in it for each network; an interrupted run resumes with what is there.
        resume: take up an earlier run.
        on_epoch: called with each row of the training histories, with ``"part"`` in it.
        identity: plain values that tell this fit from others.
    """

    def __init__(
        self, pairs: Pairs, options: Any, run_dir: Path, resume: bool, on_epoch: OnEpoch | None,
        identity: Callable[[], dict[str, Any]],
    ) -> None:  # fmt: skip
        self.pairs, self.options, self.run_dir = pairs, options, run_dir
        self.resume, self.on_epoch, self.identity = resume, on_epoch, identity
        self.histories: dict[str, TrainingHistory] = {}

    @property
    def few(self) -> bool:
        """Whether there are so few simulations that networks need dropout."""
        return self.pairs.n <= 3000

    @property
    def steps(self) -> int:
        """Steps of training on the simulations, at most."""
        return 1500 if self.few else 3000 if self.pairs.n <= 30_000 else 10_000

    def density(
        self, density: VectorDensity, columns: Tensor, lattice: Lattice,
        features: Callable[[Tensor], Tensor],
    ) -> dict[str, float]:  # fmt: skip
        """Fit p(x | u) in place; returns the shares of its parts.

        Args:
            density: of `columns` of x.
            columns: of x, those that vary.
            lattice: which of them are counts.
            features: of u.
        """
        pairs, rng = self.pairs, generator(derive(self.options.seed, _SPREAD))
        spread = [lattice.spread(x[:, columns], rng) for x in (pairs.x, pairs.held_out[1])]
        for closed in density.linear:
            closed.fit(spread[0], features(pairs.u))

        def pair(u: Tensor, x: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
            return lattice.spread(x[:, columns], rng), features(u)

        self.stacks(density, pair)
        return self.shares(density, spread[1], features(pairs.held_out[0]))

    def stacks(self, density: VectorDensity, pair: Transform) -> None:
        """Train the networks of a density; `pair` makes y and c of u and x."""
        density.affine.set_dropout(0.1 if self.few else 0.0)
        for name, part in (("affine", density.affine), ("mixtures", density.mixtures)):
            self.train(f"emulator-{name}", part, self.steps, pair)

    def shares(self, density: VectorDensity, y: Tensor, c: Tensor) -> dict[str, float]:
        """Set the shares of a density's parts by held-out y and c; and return them by name."""
        weights = self.select(density.mixture.members, y, c)
        density.mixture.weights.copy_(weights)
        return dict(zip(density.parts, weights.tolist(), strict=True))

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

    def train(self, name: str, stack: nn.Module, steps: int, pair: Transform) -> TrainingHistory:
        """Train a stack on the simulations, with their noise drawn anew in every pass."""
        pairs = self.pairs
        passes = max(1, round(STEPS_PER_EPOCH / pairs.steps))

        def batches(epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
            for i in range(passes):
                first, start = min(start, pairs.steps), max(0, start - pairs.steps)
                yield from pairs.batches(epoch * passes + i, first)

        def loss(module: Any, batch: Any, rng: torch.Generator) -> Tensor:
            y, c = pair(batch[0], batch[1], rng)
            return module.loss(y, c, rng).mean()

        return self.run(
            name, stack, steps, batches, pairs.held_out, loss, per_epoch=passes * pairs.steps,
            learning_rate=3e-3, weight_decay=1e-2, patience=10,
        )  # fmt: skip

    def run(
        self, name: str, stack: nn.Module, steps: int, batches: Callable,
        held_out: tuple[Tensor, Tensor], loss: Callable, *, per_epoch: int, **chosen: Any,
    ) -> TrainingHistory:  # fmt: skip
        """One training run; options that the user gave win over those chosen here."""
        chosen |= {
            "epochs": max(1, round(steps / per_epoch)), "warmup_steps": 100,
            "batch_size": self.pairs.batch_size, "seed": self.options.seed,
        }  # fmt: skip
        given = {k: getattr(self.options, k) for k in self.options.model_fields_set}
        known = {k: v for k, v in given.items() if k in TrainingOptions.model_fields}
        options = TrainingOptions(**chosen | known | {"threads": self.options.threads})

        with showing(about=f"{name}: "):
            self.histories[name] = run_training(
                stack, loss, batches, lambda: iter([held_out]), options, self.run_dir / name,
                steps_per_epoch=per_epoch, resume=self.resume,
                identity=self.identity() | {"part": name}, on_epoch=of_part(self.on_epoch, name),
            )  # fmt: skip
        return self.histories[name]
