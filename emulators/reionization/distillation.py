"""Few calls of the network for a field: it learns where many short steps of a sampler end.

The way of `dpm3` from noise to a field is cut into a few long steps. The network, which begins as
the fitted one, is trained to take each of them in one call: at the k-th level sigma_k its answer D
leads to x_{k+1} = r x_k + (1 - r) D, r = sigma_{k+1} / sigma_k. What it learns from are whole ways
of the fitted network, from noise alone (Luhman & Luhman 2021, arXiv:2101.02388, of one step;
Salimans & Ho 2022, arXiv:2202.00512, of steps that are halved again and again): the same noise
leads to the same field as before, and no simulation is needed.

Of light cones the ways of single windows are learned. In a whole cone, windows that overlap are
averaged at every call: of few long steps, that is less often than the fitted network's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emulators.methods.diffusion import states
from emulators.methods.diffusion.loss import TargetLoss
from emulators.methods.diffusion.options import SHORT_STEPS, STEPS_PER_EPOCH
from emulators.options import parse_options
from sbitools.campaign import simulate
from sbitools.errors import ConfigError
from sbitools.gate.plain import as_path
from sbitools.seeds import derive, mix, normal
from sbitools.simulator import FieldSpec
from sbitools.store import SimulationStore
from sbitools.training import TrainingHistory, TrainingOptions, run_training, split

from .emulator import ReionizationEmulator
from .options import EmulatorOptions

__all__ = ["StepBatches", "Ways", "distill"]

Batch = tuple[Tensor, ...]
"""x (B, C, *n), target (B, C, *n), sigma (B,), condition (B, P), and positions (B, n[-1])."""

_START = 41  # of derived seeds
_CODE = 1
"""To be raised whenever the same emulator and seeds give other ways."""
_CHANGED = {*TrainingOptions.model_fields, "steps", "pieces"} - {"epochs"}
# "auto": the emulator may have been fitted on another processor.
_DEFAULTS: dict[str, Any] = {"steps": 3000, "learning_rate": 1e-3, "precision": "auto"}
_CELLS = 1 << 17  # of fields whose ways are followed at the same time: bounds the memory


def distill(
    emulator: ReionizationEmulator,
    calls: int = 4,
    config: Mapping[str, Any] | None = None,
    *,
    run_dir: str | Path,
    n_ways: int = 4096,
    workers: int = 2,
    resume: bool = True,
    progress: bool = True,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> tuple[ReionizationEmulator, TrainingHistory]:
    """Another emulator with the same fields, that calls its network `calls` times for each.

    Args:
        emulator: fitted.
        calls: of the network, 2 or more.
        config: of training, `TrainingOptions` and ``steps`` and ``pieces`` of `EmulatorOptions`;
            what it does not name is as in the fit, but for 3,000 steps and a rate of 1e-3.
        run_dir: for the ways, metrics and the resumable state; of one emulator and number of
            calls.
        n_ways: from noise to a field, that are learned from: each takes 1 + 6 calls calls of
            the fitted network. Those that are in `run_dir` already are not made again.
        workers: processes that make them.
        resume: take up interrupted training; False to refuse it.
        progress: show how many ways there are, on stderr.
        on_epoch: called after each epoch.

    Raises:
        ConfigError: for a distilled emulator, fewer than 2 calls or 4 ways, or options of the
            network.
        TrainingError: before a fit, if training diverges, or `run_dir` holds another run.
        StoreError: if `run_dir` holds the ways of another emulator, or the disk is full.
        CampaignError: if workers cannot start or were stopped.
    """
    _check(emulator, calls, n_ways, config or {})
    given = emulator.options.model_dump() | _DEFAULTS | dict(config or {})
    given |= {"sampler": "distilled", "sampler_steps": calls, "start": "fresh"}
    options = parse_options(EmulatorOptions, given).resolved()
    run_dir = as_path(run_dir, "run_dir")
    ways = Ways(emulator, options)
    store = simulate(
        ways, n_ways, run_dir / "ways", seed=derive(options.seed, _START), workers=workers,
        progress=progress,
    )  # fmt: skip
    student = ReionizationEmulator.from_config(
        emulator.config() | {"options": options.model_dump(mode="json")}
    )
    module = student.module().to(next(emulator.module().parameters()).device)
    module.load_state_dict(emulator.module().state_dict())
    batches = StepBatches(store, ways, options)
    history = run_training(
        module, TargetLoss(options), batches.train, batches.validation, options,
        run_dir / "training", steps_per_epoch=batches.steps, resume=resume, on_epoch=on_epoch,
        identity={"store": store.digest()}, optimizer_threads=options.pieces,
    )  # fmt: skip
    module.requires_grad_(False)
    return student, history


def _check(
    emulator: ReionizationEmulator, calls: int, n_ways: int, config: Mapping[str, Any]
) -> None:
    emulator.module()
    unknown = sorted(set(config) - _CHANGED)
    rules = {
        "emulator": (emulator.options.sampler != "distilled", "distilled", "one that was fitted"),
        "calls": (calls >= 2, calls, "2 or more"),
        "n_ways": (n_ways >= 4, n_ways, "4 or more, to train and to validate with"),
        "config": (not unknown, unknown, f"options of {sorted(_CHANGED)}"),
    }
    for name, (ok, got, expected) in rules.items():
        if not ok:
            raise ConfigError(
                f"distill {name}", expected=expected, got=repr(got), fix=f"correct {name}"
            )


class Ways:
    """From noise to fields: a simulator of all answers that the long steps should get.

    Of light cones, it is a window somewhere along the line of sight.

    Args:
        emulator: that is distilled.
        options: of the distilled one.
    """

    group_size = 1
    source: FieldSpec | None = None

    def __init__(self, emulator: ReionizationEmulator, options: EmulatorOptions) -> None:
        self.emulator, self.parameters = emulator, emulator.parameters
        self.fine = options.make_schedule().levels(options.sampler_steps * SHORT_STEPS)
        self.levels = options.levels().tolist()
        dims, shape = emulator.output.dims, list(emulator.output.shape)
        if dims[-1] == "los":
            shape[-1] = min(shape[-1], options.window)
        self.sky = [i for i, d in enumerate(dims, start=2) if d != "los"]
        assert emulator.transform is not None  # noqa: S101  (a fitted emulator has one)
        self.field = (emulator.transform.channels, *shape)
        self.output = FieldSpec(
            "answers", ("call", "channel", *dims), (options.sampler_steps, *self.field)
        )

    @property
    def version(self) -> str:
        """That of the code and the emulator, and the levels."""
        return f"ways {_CODE} of {self.emulator.version}, levels {self.levels}"

    def simulate(self, theta: Tensor, seeds: Tensor) -> Tensor:
        """Answers (B, calls, C, *n)."""
        size = max(1, _CELLS // (self.output.nbytes // 4))
        parts = [slice(i, i + size) for i in range(0, len(theta), size)]
        return torch.cat([self._answers(theta[p], seeds[p]) for p in parts])

    def _answers(self, theta: Tensor, seeds: Tensor) -> Tensor:
        module = self.emulator.module()
        device = next(module.parameters()).device
        noise = self.noise(seeds).to(device)
        condition, position = self.context(theta, seeds)
        denoise = module.at(
            condition.to(device), None if position is None else position.to(device)
        )  # fmt: skip
        answers, x = [], self.levels[0] * noise
        with torch.no_grad(), self.emulator.autocast(device):
            way = states("dpm3", denoise, noise, self.fine, self.sky)
            for k, after in enumerate(islice(way, SHORT_STEPS - 1, None, SHORT_STEPS)):
                r = self.levels[k + 1] / self.levels[k]
                answers.append((after - r * x) / (1 - r))
                x = after
        return torch.stack(answers, dim=1).float().cpu()

    def noise(self, seeds: Tensor) -> Tensor:
        """White noise (B, C, *n)."""
        return normal(seeds, self.field)

    def context(self, theta: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the network is told: the condition, and positions of windows of light cones."""
        condition = self.emulator.condition(theta)
        if self.emulator.output.dims[-1] != "los":
            return condition, None
        place = self.emulator.simulator.position(theta)
        first = mix(seeds, _START) % (place.shape[1] - self.field[-1] + 1)
        cells = first[:, None] + torch.arange(self.field[-1])
        return condition, place.gather(1, cells)

    def state(self, noise: Tensor, answers: Tensor, call: Tensor) -> Tensor:
        """x before a call, (B, C, *n), of each row another."""
        x = self.levels[0] * noise
        out = x.clone()
        for k in range(1, len(self.levels) - 1):
            r = self.levels[k] / self.levels[k - 1]
            x = r * x + (1 - r) * answers[:, k - 1]
            out[call == k] = x[call == k]
        return out


class StepBatches:
    """Batches of long steps.

    They are not moved around the sky: the network is indifferent to that.
    """

    def __init__(self, store: SimulationStore, ways: Ways, options: EmulatorOptions) -> None:
        self.store, self.ways, self.options = store, ways, options
        self.steps = min(options.steps, STEPS_PER_EPOCH)
        self.training, self.held_out = split(store, options.validation_fraction, options.seed)

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Batches of an epoch from step `start` on."""
        n = self.options.batch_size
        for step in range(start, self.steps):
            rng = np.random.default_rng(derive(self.options.seed, _START, 1, epoch, step))
            yield self._batch(rng.choice(self.training, n, replace=len(self.training) < n), rng)

    def validation(self) -> Iterator[Batch]:
        """All held-out ways, or 16 batches of them."""
        rng = np.random.default_rng(derive(self.options.seed, _START, 2))
        n = self.options.batch_size
        rows = self.held_out[: 16 * n]
        for first in range(0, len(rows), n):
            yield self._batch(rows[first : first + n], rng)

    def _batch(self, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        ways, seeds = self.ways, self.store.seeds[rows]
        answers, noise = self.store.read(rows), ways.noise(seeds)
        calls = answers.shape[1]
        call = torch.from_numpy(rng.permutation(len(rows)) + rng.integers(calls)) % calls
        x = ways.state(noise, answers, call)
        target = answers[torch.arange(len(rows)), call]
        condition, position = ways.context(self.store.theta[rows], seeds)
        sigma = torch.tensor(ways.levels, dtype=torch.float32)[call]
        return x, target, sigma, condition, *([] if position is None else [position])
