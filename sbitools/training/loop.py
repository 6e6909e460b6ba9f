"""The one training loop: any module, any loss, streaming batches.

Exponential moving average of the weights, early stopping on validation, warm-up and cosine decay,
gradient clipping, bfloat16 where it helps, data parallel under `torchrun`. Everything random is a
function of (seed, epoch, step), so a resumed run repeats the uninterrupted one bit for bit.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from sbitools.display.bars import Bar, counting, losses
from sbitools.display.brief import Brief
from sbitools.errors import TrainingError
from sbitools.gate.models import PlainModel
from sbitools.networks.precision import single_precision
from sbitools.seeds import derive, generator

from . import distributed
from .optimizer import make_optimizer
from .run_state import RunState, claimed

__all__ = ["Loss", "TrainingHistory", "TrainingOptions", "run_training"]

_LOG = logging.getLogger(__name__)

TensorBatch = Sequence[Tensor]
Loss = Callable[[nn.Module, TensorBatch, torch.Generator], Tensor]

# So many steps in a row without a finite gradient mean that training has diverged.
_MAX_BAD_STEPS = 20

# Within an epoch: steps done, those of them with finite gradients, their summed loss, and how many
# in a row were not.
_START = {"step": 0, "good": 0, "loss_sum": 0.0, "bad": 0}


class TrainingOptions(PlainModel):
    """How to train.

    Attributes:
        epochs: passes over the training set, at most.
        batch_size: simulations per step (over all ranks).
        optimizer: ``"muon"`` learns large convolutional networks in fewer steps, see `optimizer`.
        learning_rate: peak of the schedule.
        weight_decay: of weights, not of biases and gains.
        warmup_steps: linear warm-up.
        schedule: ``"cosine"`` decays to 1 % of the peak over all epochs.
        clip_norm: gradient norm that is not exceeded.
        ema_decay: of the averaged weights, which are the ones kept; 0 keeps the raw ones. In the
            first steps a shorter average is used.
        patience: epochs without a better validation loss before stopping; None never stops early.
        validation_fraction: of the groups of simulations.
        precision: bfloat16 runs forward passes in bfloat16 (autocast), weights stay float32.
        seed: of everything random.
        time_limit: seconds after which training stops at the end of a step (such a run depends on
            the machine's speed); None for no limit.
        checkpoint_seconds: a resumable state is written this often, and after every epoch.
        threads: torch threads in this process while training; None leaves them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(100, ge=1)
    batch_size: int = Field(64, ge=1)
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    warmup_steps: int = Field(50, ge=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    clip_norm: float = Field(5.0, gt=0)
    ema_decay: float = Field(0.99, ge=0, lt=1)
    patience: int | None = Field(20, ge=1)
    validation_fraction: float = Field(0.1, gt=0, lt=1)
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = Field(0, ge=0)
    time_limit: float | None = Field(None, gt=0)
    checkpoint_seconds: float = Field(60.0, ge=0)
    threads: int | None = Field(None, ge=1)


@dataclass(repr=False)
class TrainingHistory(Brief):
    """What happened: one row per epoch, the best epoch, seconds in all, and why it stopped."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = -1
    seconds: float = 0.0
    stopped: str = ""

    @property
    def best_validation_loss(self) -> float:
        """Lowest validation loss."""
        return min((row["validation_loss"] for row in self.epochs), default=math.inf)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rows = [
            {k: v if math.isfinite(v) else None for k, v in row.items()} for row in self.epochs
        ]
        return asdict(self) | {"epochs": rows}  # JSON has no infinity: it becomes null

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingHistory:
        """Inverse of `to_dict`."""
        rows = [{k: math.inf if v is None else v for k, v in r.items()} for r in values["epochs"]]
        return cls(**{**values, "epochs": rows})


@single_precision()
def run_training(
    module: nn.Module,
    loss: Loss,
    train_batches: Callable[[int, int], Iterator[TensorBatch]],
    validation_batches: Callable[[], Iterator[TensorBatch]],
    options: TrainingOptions,
    run_dir: str | Path,
    *,
    steps_per_epoch: int,
    resume: bool,
    identity: Mapping[str, Any] | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    optimizer_threads: int = 1,
) -> TrainingHistory:
    """Train `module` in place; it leaves with the averaged weights of the best epoch.

    Args:
        module: what is trained.
        loss: ``loss(module, batch, generator)``, the mean over the batch's first axis; the
            generator is the only randomness it may use.
        train_batches: ``train_batches(epoch, start)``, the batches of an epoch from a step on,
            the same ones whenever asked.
        validation_batches: the batches of the validation set.
        options: how to train.
        run_dir: for `metrics.jsonl` and the resumable state.
        steps_per_epoch: length of ``train_batches(epoch, 0)``.
        resume: take up the run in `run_dir` if it has one; False refuses it. Without a default:
            only `identity` tells a run from that of other data.
        identity: plain values that tell this run from others, e.g. the digest of its store: a run
            of another identity is not resumed.
        on_epoch: called with each new row of the history, for progress.
        optimizer_threads: that a step of Muon may use.

    Raises:
        TrainingError: if gradients stay non-finite.
        RunDirError: if `run_dir` holds another run, holds one and `resume` is not set, is being
            trained in by another process, or cannot be written.
    """
    run = options.model_dump(mode="json") | {"steps": max(1, steps_per_epoch)}
    state = RunState(run_dir, run | dict(identity or {}))
    optimizer = make_optimizer(
        module, options.optimizer, options.learning_rate, options.weight_decay, optimizer_threads
    )
    trainer = _Trainer(module, loss, options, optimizer, state, steps_per_epoch, on_epoch)
    device = next(module.parameters()).device
    with distributed.session(device), claimed(state.run_dir), _threads(options.threads):
        trainer.start(resume)
        done, total = trainer.position["epoch"], options.epochs
        with counting("training, epoch", total, done, trainer.steps) as trainer.bar:
            while not trainer.history.stopped:
                trainer.epoch(train_batches, validation_batches)
        return trainer.finish()


class _Trainer:
    """State of one run; see `run_training`."""

    bar: Bar

    def __init__(
        self, module: nn.Module, loss: Loss, options: TrainingOptions, optimizer: Any,
        state: RunState, steps: int, on_epoch: Callable[[dict[str, float]], None] | None,
    ) -> None:  # fmt: skip
        self.module, self.loss, self.options, self.steps = module, loss, options, max(1, steps)
        self.on_epoch, self.optimizer = on_epoch, optimizer
        self.average = copy.deepcopy(module).requires_grad_(False)
        self.best = copy.deepcopy(self.average)
        self.history = TrainingHistory()
        self.position = _START | {"epoch": 0}
        self.state = state
        self.started = time.monotonic()
        self.saved = self.started
        self.seconds_before = 0.0

    def start(self, resume: bool) -> None:
        """Load the state of an earlier run, or begin a new one."""
        saved = self.state.load(self._parts(), self.optimizer) if resume else None
        if saved is None:
            self.state.begin()
            distributed.broadcast(self.module)
            self.average.load_state_dict(self.module.state_dict())
            return
        self.history = TrainingHistory.from_dict(saved["history"])
        self.position, self.seconds_before = saved["position"], self.history.seconds
        limit = self.options.time_limit
        if self.history.stopped == "time limit" and (limit is None or limit > self.seconds_before):
            self.history.stopped = ""  # more time was granted
        self.state.truncate_metrics(len(self.history.epochs))
        _LOG.info(
            "%s: %s", self.state.run_dir, f"finished before ({self.history.stopped}), read back"
            if self.history.stopped else "resumed at epoch {epoch}, step {step}".format(**saved[
                "position"]),
        )  # fmt: skip

    def _parts(self) -> dict[str, nn.Module]:
        return {"module": self.module, "average": self.average, "best": self.best}

    def epoch(self, train: Callable, validation: Callable) -> None:
        """Go on to the end of the epoch, then validate."""
        epoch = self.position["epoch"]
        self.module.train()
        for batch in train(epoch, self.position["step"]):
            self._step(batch, epoch)
            if self._out_of_time():
                break
            late = time.monotonic() - self.saved > self.options.checkpoint_seconds
            if distributed.agree(late):  # all ranks save at the same step
                self._save()
        self._close_epoch(epoch, validation)
        self._save()

    def _step(self, batch: TensorBatch, epoch: int) -> None:
        step, options = self.position["step"], self.options
        rate = self._rate(epoch * self.steps + step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        local, weight = distributed.share(batch)
        rng = generator(derive(options.seed, 3, epoch, step, distributed.rank()))
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            value = self.loss(self.module, local, rng)
        (value * weight).backward()
        distributed.average_gradients(self.module)
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), options.clip_norm)
        total = distributed.mean(value.detach() * weight)
        if math.isfinite(float(norm)) and math.isfinite(total):
            self.optimizer.step()
            self._update_average(epoch * self.steps + step)
            self.position["loss_sum"] += total
            self.position["good"] += 1
            self.position["bad"] = 0
        else:
            self._skip_bad_step(epoch)
        self.position["step"] += 1
        self.bar.add()

    def _skip_bad_step(self, epoch: int) -> None:
        self.position["bad"] += 1
        _LOG.warning("%s: a step of epoch %d without finite gradients was left out",
                     self.state.run_dir, epoch)  # fmt: skip
        if self.position["bad"] >= _MAX_BAD_STEPS:
            raise TrainingError(
                f"training in {self.state.run_dir}", expected="finite losses and gradients",
                got=f"{_MAX_BAD_STEPS} steps in a row without, in epoch {epoch}",
                fix="lower learning_rate, or look for extreme values in the training fields",
            )  # fmt: skip

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        decay = min(self.options.ema_decay, (1 + step) / (10 + step))
        for mean, now in zip(
            self.average.state_dict().values(), self.module.state_dict().values(), strict=True
        ):
            if mean.dtype.is_floating_point:
                mean.lerp_(now, 1 - decay)
            else:
                mean.copy_(now)

    @torch.no_grad()
    def _validate(self, batches: Iterator[TensorBatch]) -> float:
        self.average.eval()
        total, count = 0.0, 0
        for i, batch in enumerate(batches):
            if i % distributed.world_size() != distributed.rank():
                continue
            # The same noise in every epoch, so that epochs differ by the weights alone.
            rng = generator(derive(self.options.seed, 4, i))
            with self._autocast():
                total += float(self.loss(self.average, batch, rng)) * len(batch[0])
            count += len(batch[0])
        return distributed.ratio(total, count)

    def _close_epoch(self, epoch: int, validation: Callable) -> None:
        history, options = self.history, self.options
        value = self._validate(validation())
        value = value if math.isfinite(value) else math.inf
        if value < history.best_validation_loss or epoch == 0:
            history.best_epoch = epoch
            self.best.load_state_dict(self.average.state_dict())
        history.seconds = self.seconds_before + time.monotonic() - self.started
        row = {
            "epoch": epoch, "step": epoch * self.steps + self.position["step"],
            "train_loss": self.position["loss_sum"] / max(1, self.position["good"]),
            "skipped_steps": self.position["step"] - self.position["good"],
            "validation_loss": value, "learning_rate": self.optimizer.param_groups[0]["lr"],
            "seconds": history.seconds,
        }  # fmt: skip
        history.epochs.append(row)
        self.state.append_metrics(TrainingHistory([row]).to_dict()["epochs"][0])
        self.bar.add(0, losses(row))
        if self.on_epoch:
            self.on_epoch(row)
        waited = epoch - history.best_epoch
        if self._out_of_time():
            history.stopped = "time limit"
            if self.position["step"] < self.steps:
                return  # a run that is given more time goes on within this epoch
        elif epoch + 1 >= options.epochs:
            history.stopped = "epochs"
        elif options.patience is not None and waited >= options.patience:
            history.stopped = "patience"
        self.position = _START | {"epoch": epoch + 1}

    def _rate(self, step: int) -> float:
        o = self.options
        warm = min(1.0, (step + 1) / (o.warmup_steps + 1))
        if o.schedule == "constant":
            return o.learning_rate * warm
        progress = min(1.0, step / (o.epochs * self.steps))
        return o.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))

    def _autocast(self) -> torch.autocast:
        device = next(self.module.parameters()).device.type
        return torch.autocast(device, torch.bfloat16, self.options.precision == "bfloat16")

    def _out_of_time(self) -> bool:
        limit = self.options.time_limit
        spent = self.seconds_before + time.monotonic() - self.started
        return limit is not None and distributed.agree(spent > limit)

    def _save(self) -> None:
        self.history.seconds = self.seconds_before + time.monotonic() - self.started
        extra = {"history": self.history.to_dict(), "position": self.position}
        self.state.save(self._parts(), self.optimizer, extra)
        self.saved = time.monotonic()

    def finish(self) -> TrainingHistory:
        """Give the module the best averaged weights."""
        if not math.isfinite(self.history.best_validation_loss):
            raise TrainingError(
                f"training in {self.state.run_dir}", expected="a finite validation loss",
                got="none in any epoch", fix="lower learning_rate, or check the validation fields",
            )  # fmt: skip
        self.module.load_state_dict(self.best.state_dict())
        self.module.eval()
        _LOG.info(
            "%s: stopped by %s after %d of %d epochs of %d steps of %d simulations; the best one "
            "was %d, validation loss %.5g", self.state.run_dir, self.history.stopped,
            len(self.history.epochs), self.options.epochs, self.steps, self.options.batch_size,
            self.history.best_epoch + 1, self.history.best_validation_loss,
        )  # fmt: skip
        return self.history


class _threads:
    """Set torch's thread count for a while."""

    def __init__(self, n: int | None) -> None:
        self.n, self.before = n, torch.get_num_threads()

    def __enter__(self) -> None:
        if self.n is not None:
            torch.set_num_threads(self.n)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.before)
