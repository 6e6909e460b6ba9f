"""How the emulator of sky maps is fitted and run."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from sbitools.gate.models import PlainModel

__all__ = ["EmulatorOptions"]


class EmulatorOptions(PlainModel):
    """Settings of `ScatteringEmulator.fit`.

    Attributes:
        seed: of random subsets and of the Gaussian maps that simulations are compared with.
        lmax: of the smooth sky that modulates the rings.
        levels: scales of the scattering covariance; None goes down to Nside 2.
        steps: of the optimiser, per map, at most.
        maps: ``"optimised"`` one by one, or ``"generated"`` by a network that has learned to.
        generator_steps: of the training of that network; 0 leaves the starts as they are.
        closeness: a map is done when its loss is below this share of what is not known about its
            targets, given the number of simulations.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(0, ge=0, lt=2**63)
    lmax: int = Field(2, ge=1, le=8)
    levels: int | None = Field(None, ge=1)
    steps: int = Field(25, ge=0)
    closeness: float = Field(0.1, gt=0)
    maps: Literal["optimised", "generated"] = "optimised"
    generator_steps: int = Field(200, ge=0)
