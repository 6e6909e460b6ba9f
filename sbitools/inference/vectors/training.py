"""How the densities of a `VectorEstimator` are fitted, and how much each of them counts.

Sizes and steps follow from the number of simulations, N; they were chosen once, on the problems of
`paper/benchmarks/sbibm.py`, and are the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sbitools.inference.mixture import select_members
from sbitools.seeds import derive
from sbitools.training import TrainingHistory, TrainingOptions, run_training

from .emulate import Emulator, emulated_pairs, parameter_features
from .estimator import GROUPS, VectorEstimator, fits_vectors
from .stack import Stack

if TYPE_CHECKING:
    from sbitools.inference.job import Job
    from sbitools.simulator import FieldSpec
    from sbitools.store import SimulationStore

__all__ = ["fit_vectors", "vector_options"]

# Emulating longer x costs more than it brings.
_LONGEST_EMULATED = 32

_HELD_OUT = (100, 2000)  # simulations: a tenth of them, within these
_BATCH = 128

_STEPS_PER_EPOCH = 200  # between two looks at the held-out simulations
_EMULATED_STEPS = 6000
_PAIRS = (100_000, 400_000)  # emulated pairs: 20 N, within these
_MOST_ROWS = 200_000  # simulations that closed forms look at
_SYNTHETIC_SEED = 13

OnEpoch = Callable[[dict[str, Any]], None]


def _small(n: int) -> bool:
    """Whether N simulations are so few that networks need dropout."""
    return n <= 3000


def _steps(n: int) -> int:
    return 1500 if _small(n) else 3000 if n <= 30_000 else 10_000


def vector_options(options: Any, spec: FieldSpec, store: SimulationStore) -> Any:
    """The options with batch size and held-out share for data vectors, where none were given."""
    auto = getattr(options, "flow", "") == "auto" and options.embedding == "auto"
    if not (auto and fits_vectors(spec)):
        return options
    n, (least, most) = len(store.done), _HELD_OUT
    share = min(max(n / 10, min(least, n / 5)), most) / max(n, 1)
    chosen = {"batch_size": _BATCH, "validation_fraction": share}
    new = {k: v for k, v in chosen.items() if k not in options.model_fields_set}
    return options.model_copy(update=new) if n else options


def fit_vectors(
    job: Job, estimator: VectorEstimator, run_dir: Path, resume: bool, on_epoch: OnEpoch | None
) -> tuple[TrainingHistory, dict[str, Any]]:
    """Fit all groups in place, then their weights on the held-out simulations.

    Args:
        job: data and options.
        estimator: with the scale of x set.
        run_dir: one folder in it for each network; an interrupted run resumes with what is there.
        resume: take up an earlier run.
        on_epoch: called with each row of the training histories, with ``"part"`` in it.

    Returns:
        History of the stack trained on the simulations themselves, and provenance of the rest.
    """
    fit = _Fit(job, estimator, run_dir, resume, on_epoch)
    u, x = fit.simulations()
    estimator.groups["direct"].dropout = 0.1 if _small(fit.n) else 0.0  # type: ignore[union-attr]
    estimator.groups["linear"].fit(u, estimator.embedding.expand(x))  # type: ignore[union-attr]
    emulated = x.shape[1] <= _LONGEST_EMULATED
    info: dict[str, Any] = {"emulator": fit.emulated(u, x)} if emulated else {}
    history = fit.direct()
    info["weights"] = fit.weigh(emulated)
    return history, info


class _Fit:
    """One run of `fit_vectors`."""

    def __init__(
        self, job: Job, estimator: VectorEstimator, run_dir: Path, resume: bool,
        on_epoch: OnEpoch | None,
    ) -> None:  # fmt: skip
        self.job, self.estimator, self.run_dir = job, estimator, run_dir
        self.resume, self.on_epoch = resume, on_epoch
        self.n, self.options = len(job.train_rows), job.options
        self.held_out = self._pairs(job.validation.batches(0))

    def simulations(self) -> tuple[Tensor, Tensor]:
        """u (N, P) and standardised x (N, n) of the training simulations, at most 200,000."""
        return self._pairs(self.job.training.batches(0))

    def _pairs(self, batches: Iterator[Any]) -> tuple[Tensor, Tensor]:
        us, xs, n = [], [], 0
        for batch in batches:
            u, x = self.job.pair(batch)
            us.append(u.float())
            xs.append(self.estimator.embedding.scale(x))
            n += len(u)
            if n >= _MOST_ROWS:
                break
        return torch.cat(us), torch.cat(xs)

    def direct(self) -> TrainingHistory:
        """The stack that learns from the simulations themselves."""
        steps = 800 if _small(self.n) else _steps(self.n)
        expand = self.estimator.embedding.expand
        return self._train(
            "direct", self.estimator.groups["direct"], steps,
            lambda u, x: (u, expand(x)), patience=10,
        )  # fmt: skip

    def emulated(self, u: Tensor, x: Tensor) -> dict[str, float]:
        """The emulator, and the two groups that learn from its pairs; returns its weights."""
        options, n = self.options, x.shape[1]
        emulator = Emulator(
            u.shape[1], n, hidden=options.flow_hidden, members=options.members,
            components=options.components, dropout=0.1 if _small(self.n) else 0.0,
            seed=options.seed,
        )  # fmt: skip
        emulator.linear.fit(x, parameter_features(u))
        for name, part in (("affine", emulator.affine), ("mixtures", emulator.mixtures)):
            self._train(
                f"emulator-{name}", part, _steps(self.n),
                lambda u, x: (x, parameter_features(u)), patience=10,
            )  # fmt: skip
        held_u, held_x = self.held_out
        weights = self._select(emulator.mixture.members, held_x, parameter_features(held_u))
        emulator.mixture.weights.copy_(weights)
        self._learn_from(emulator, u, x)
        names = ("linear", "affine", "mixtures")
        return dict(zip(names, weights.tolist(), strict=True))

    def _learn_from(self, emulator: Emulator, u: Tensor, x: Tensor) -> None:
        least, most = _PAIRS
        n = max(least, min(20 * self.n, most))
        made_u, made_x = emulated_pairs(
            emulator.eval(), n, x.min(0).values, x.max(0).values, self.options.seed
        )
        expand = self.estimator.embedding.expand
        groups = self.estimator.groups
        groups["emulated linear"].fit(made_u, expand(made_x))  # type: ignore[union-attr]
        size = self._batch_size

        def batches(epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
            for step in range(start, _STEPS_PER_EPOCH):
                seed = derive(self.options.seed, _SYNTHETIC_SEED, epoch, step)
                rng = torch.Generator().manual_seed(seed % (1 << 62))
                rows = torch.randint(n, (size,), generator=rng)
                yield made_u[rows], expand(made_x[rows])

        # Real simulations choose the epoch: those it was not trained on, but for the emulator.
        real = u[:2000], expand(x[:2000])
        self._run(
            "emulated", groups["emulated"], _EMULATED_STEPS, batches, lambda: iter([real]),
            learning_rate=4e-3, weight_decay=1e-3, patience=None,
        )  # fmt: skip

    def weigh(self, emulated: bool) -> dict[str, float]:
        """Set the weights of the groups by the held-out simulations."""
        u, x = self.held_out
        members: list[Any] = list(self.estimator.mixture.members)
        weights = self._select(members, u, self.estimator.embedding.expand(x), emulated)
        self.estimator.mixture.weights.copy_(weights)
        return dict(zip(GROUPS, weights.tolist(), strict=True))

    @staticmethod
    @torch.no_grad()
    def _select(members: Any, y: Tensor, c: Tensor, emulated: bool = True) -> Tensor:
        scores = []
        for i, member in enumerate(members):
            untrained = not emulated and GROUPS[i].startswith("emulated")
            parts = [member.eval().log_prob(a[:, None], b)[:, 0]
                     for a, b in zip(y.split(2000), c.split(2000), strict=True)]  # fmt: skip
            value = torch.cat(parts)
            scores.append(torch.full_like(value, -1e9) if untrained else value)
        return select_members(torch.stack(scores, 1)).float()

    @property
    def _batch_size(self) -> int:
        return self.job.training.batch_size

    def _train(
        self, name: str, stack: nn.Module, steps: int,
        pair: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], patience: int,
    ) -> TrainingHistory:  # fmt: skip
        """Train on the simulations, with their noise drawn anew in every pass."""
        loader, job, scale = self.job.training, self.job, self.estimator.embedding.scale
        passes = max(1, round(_STEPS_PER_EPOCH / loader.steps))

        def batches(epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
            for i in range(passes):
                first, start = min(start, loader.steps), max(0, start - loader.steps)
                for batch in loader.batches(epoch * passes + i, first):
                    u, x = job.pair(batch)
                    yield pair(u.float(), scale(x))

        held_out = pair(*self.held_out)
        return self._run(name, stack, steps, batches, lambda: iter([held_out]),
                         learning_rate=3e-3, weight_decay=1e-2, patience=patience,
                         per_epoch=passes * loader.steps)  # fmt: skip

    def _run(
        self, name: str, stack: nn.Module, steps: int, batches: Callable, held_out: Callable, *,
        learning_rate: float, weight_decay: float, patience: int | None,
        per_epoch: int = _STEPS_PER_EPOCH,
    ) -> TrainingHistory:  # fmt: skip
        chosen = {
            "learning_rate": learning_rate, "weight_decay": weight_decay, "patience": patience,
            "epochs": max(1, round(steps / per_epoch)), "warmup_steps": 100,
            "batch_size": self._batch_size, "seed": self.options.seed,
        }  # fmt: skip
        given = {k: getattr(self.options, k) for k in self.options.model_fields_set}
        known = {k: v for k, v in given.items() if k in TrainingOptions.model_fields}
        options = TrainingOptions(**chosen | known | {"threads": self.options.threads})

        def note(row: dict[str, Any]) -> None:
            if self.on_epoch:
                self.on_epoch(row | {"part": name})

        return run_training(
            stack, _mean_loss, batches, held_out, options, self.run_dir / name,
            steps_per_epoch=per_epoch, resume=self.resume,
            identity=self.job.identity() | {"part": name}, on_epoch=note,
        )  # fmt: skip


def _mean_loss(module: nn.Module, batch: Any, rng: torch.Generator) -> Tensor:
    assert isinstance(module, Stack)  # noqa: S101  (for the type checker)
    return module.loss(batch[0], batch[1], rng).mean()
