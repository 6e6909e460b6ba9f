"""How the 21cm emulator is trained, and how it samples."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from emulators.methods.diffusion.options import DiffusionOptions

__all__ = ["EmulatorOptions"]


class EmulatorOptions(DiffusionOptions):
    """`DiffusionOptions`, and what is particular to this emulator.

    Attributes:
        start: ``"fresh"`` weights, or the ``"shipped"`` ones, which fit the shipped planes'
            simulator and network alone; with no steps they are taken as they are.
        steps: see `DiffusionOptions`.
    """

    start: Literal["fresh", "shipped"] = "fresh"
    steps: int = Field(6500, ge=0)

    @model_validator(mode="after")
    def _some_steps(self) -> EmulatorOptions:
        if not self.steps and self.start == "fresh":
            raise ValueError("steps of 1 or more: fresh weights have to be trained")
        return self
