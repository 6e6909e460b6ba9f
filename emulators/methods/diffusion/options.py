"""How a diffusion model is trained, and how it samples."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field
from torch import Tensor

from emulators.options import fast_bfloat16
from sbitools.training import TrainingOptions

from .samplers import Sampler
from .schedules import Schedule

__all__ = ["SHORT_STEPS", "STEPS_PER_EPOCH", "DiffusionOptions"]


class DiffusionOptions(TrainingOptions):
    """`TrainingOptions`, and what is particular to diffusion models.

    Attributes:
        steps: of training in all; an epoch, after which there is a validation, is 250 of them,
            and more than one epoch are whole ones.
        precision: of the activations; weights are float32. ``"auto"`` is bfloat16 where the
            processor multiplies it in hardware, else float32.
        pieces: parts of a batch that are computed at the same time, one thread each.
        widths: channels of each level of the network, finest first.
        blocks: residual blocks per level and way.
        patch: cells per side that are one cell of the network's finest level.
        window: cells of a long axis, as a line of sight, that the network sees at once.
        overlap: cells that neighbouring windows share, at least.
        noise_schedule: ``"edm"`` or ``"flow"``, see `schedules`.
        center: of ln sigma in training, with ``"edm"``.
        width: standard deviation of ln sigma in training, with ``"edm"``.
        sampler: ``"dpm3"``, ``"dpm2"`` or ``"heun"``, see `samplers`; ``"distilled"``
            is what `distillation.distill` makes.
        sampler_steps: noise levels; ``"heun"`` calls the network twice for each but the last.
    """

    steps: int = Field(6500, ge=1)
    batch_size: int = Field(16, ge=1)
    optimizer: Literal["adamw", "muon"] = "muon"
    learning_rate: float = Field(2e-3, gt=0)
    warmup_steps: int = Field(100, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    ema_decay: float = Field(0.999, ge=0, lt=1)
    patience: int | None = Field(None, ge=1)
    threads: int | None = Field(1, ge=1)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # pyright: ignore[reportIncompatibleVariableOverride]
    pieces: int = Field(2, ge=1)
    widths: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        (64, 96, 128), min_length=1, max_length=6
    )
    blocks: int = Field(1, ge=1)
    patch: int = Field(2, ge=1)
    window: int = Field(32, ge=8)
    overlap: int = Field(8, ge=0)
    noise_schedule: Literal["edm", "flow"] = "edm"
    center: float = 0.3
    width: float = Field(1.6, gt=0)
    sampler: Sampler = "dpm3"
    sampler_steps: int = Field(18, ge=2)

    def resolved(self) -> Self:
        """The same with ``"auto"`` replaced, and as many epochs as the steps make."""
        precision = self.precision
        if precision == "auto":
            precision = "bfloat16" if fast_bfloat16() else "float32"
        epochs = max(1, -(-self.steps // STEPS_PER_EPOCH))
        return self.model_copy(update={"precision": precision, "epochs": epochs})

    def make_schedule(self) -> Schedule:
        """Noise levels of training and sampling."""
        return Schedule(self.noise_schedule, center=self.center, width=self.width)

    def levels(self) -> Tensor:
        """At which the sampler stops, (sampler_steps + 1,)."""
        if self.sampler == "distilled":
            return self.make_schedule().levels(self.sampler_steps * SHORT_STEPS)[::SHORT_STEPS]
        return self.make_schedule().levels(self.sampler_steps)


SHORT_STEPS = 6  # of a sampler, for each long one of a distilled network
STEPS_PER_EPOCH = 250
