"""The system of sky maps: what the chain needs to know about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field

from sbitools.gate.models import PlainModel

if TYPE_CHECKING:
    from sbitools.store import SimulationStore

    from .emulator import ScatteringEmulator
    from .options import EmulatorOptions
    from .simulator import TodSimulator

__all__ = ["ScatteringSettings", "ScatteringSystem", "system"]

Name = Literal["gain_rms", "correlation_time", "knee", "scan_angle"]


class ScatteringSettings(PlainModel):
    """What is simulated; see `TodSimulator`.

    Attributes:
        nside: of the maps.
        strategy: of the scan.
        parameters: those that vary.
        calibration: ``"given"``, linear in the gains, or ``"dipole"``, which is not.
        n_rings: in the year; None is 32 nside.
        samples: in a ring; None is 16 nside.
        net: noise of a detector in uK sqrt(s); None is that of the calibration's preset.
        distribution: of the gains; None is that of the calibration's preset.
        fixed: values of parameters that do not vary.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    nside: int = Field(16, ge=2)
    strategy: Literal["planck", "litebird"] = "planck"
    parameters: tuple[Name, ...] = ("gain_rms", "correlation_time")
    calibration: Literal["given", "dipole"] = "given"
    n_rings: int | None = Field(None, ge=8)
    samples: int | None = Field(None, ge=8)
    net: float | None = Field(None, ge=0)
    distribution: Literal["gaussian", "student"] | None = None
    fixed: dict[Name, float] = Field(default_factory=dict)


class ScatteringSystem:
    """See `sbitools.systems.System`."""

    name = "scattering"
    settings = ScatteringSettings

    @property
    def emulator_options(self) -> type[EmulatorOptions]:
        """What ``[emulator]`` of a configuration may hold."""
        from .options import EmulatorOptions

        return EmulatorOptions

    def simulator(self, settings: ScatteringSettings) -> TodSimulator:
        """Q and U of the systematic effects, from time-ordered data."""
        from .simulator import TodSimulator

        return TodSimulator(
            settings.nside, settings.strategy, settings.parameters,
            calibration=settings.calibration, n_rings=settings.n_rings, samples=settings.samples,
            net=settings.net, distribution=settings.distribution,
            fixed={str(name): value for name, value in settings.fixed.items()},
        )  # fmt: skip

    def training_simulator(self, settings: ScatteringSettings) -> TodSimulator:
        """The same: the emulator learns from the maps themselves."""
        return self.simulator(settings)

    def emulator(self, settings: ScatteringSettings) -> ScatteringEmulator:
        """Not fitted yet."""
        from .emulator import ScatteringEmulator

        return ScatteringEmulator.of(self.simulator(settings))

    def load_emulator(self, path: Path) -> ScatteringEmulator:
        """The fitted emulator in the folder `path`."""
        from .emulator import ScatteringEmulator

        return ScatteringEmulator.load(path)

    def validate(
        self, emulator: ScatteringEmulator, settings: ScatteringSettings, store: SimulationStore
    ) -> dict[str, Any]:
        """See `emulators.survey.validation.compare`."""
        from .validation import compare

        return compare(emulator, self.simulator(settings), store)


system = ScatteringSystem()
