"""How the N-body emulator is trained, and what its network looks like."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from emulators.options import fast_bfloat16
from sbitools.training import TrainingOptions

__all__ = ["EmulatorOptions"]


class EmulatorOptions(TrainingOptions):
    """`TrainingOptions`, and what is particular to this emulator.

    Attributes:
        workers: boxes of a batch that are computed at the same time, one thread each; the result
            does not depend on it.
        precision: of the activations; weights are float32. ``"auto"`` is bfloat16 where the
            processor multiplies it in hardware (about eight times faster), else float32.
        channels: of each level of the network, finest first.
        scale: displacement in Mpc/h that the network sees as 1.
        passes: times an epoch sees each box.
        output_share: share of the steps at the redshift of the emulator's output; the other
            redshifts of the store have equal shares of the rest.
        velocity_share: share of the steps whose loss has the velocity, at three times the cost.
        density_weight: of the density's logarithm in the loss, beside the displacement's.
        power_weight: of the mean squared log ratio of power spectra.
        phase_weight: of the mean over wavenumbers of log(1 - r), r the cross-correlation.
    """

    epochs: int = Field(6, ge=1)
    batch_size: int = Field(2, ge=1)
    learning_rate: float = Field(3e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    warmup_steps: int = Field(30, ge=0)
    patience: int | None = Field(None, ge=1)
    threads: int | None = Field(1, ge=1)
    workers: int = Field(2, ge=1)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # pyright: ignore[reportIncompatibleVariableOverride]
    channels: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(
        (16, 32, 48), min_length=1, max_length=6
    )
    scale: float = Field(6.0, gt=0)
    passes: int = Field(4, ge=1)
    output_share: float = Field(0.4, gt=0, le=1)
    velocity_share: float = Field(0.25, ge=0, le=1)
    density_weight: float = Field(0.0, ge=0)
    power_weight: float = Field(3.0, ge=0)
    phase_weight: float = Field(0.5, ge=0)

    def resolved(self) -> EmulatorOptions:
        """The same with ``"auto"`` replaced by what this machine is good at."""
        if self.precision != "auto":
            return self
        return self.model_copy(update={"precision": "bfloat16" if fast_bfloat16() else "float32"})
