"""The N-body system: what the chain needs to know about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from sbitools.gate.models import PlainModel

from .mesh import mesh_factors

if TYPE_CHECKING:
    from sbitools.store import SimulationStore

    from .emulator import NBodyEmulator
    from .options import EmulatorOptions
    from .simulator import NBodySimulator

__all__ = ["NBodySettings", "NBodySystem", "system"]

Name = Literal["Omega_m", "sigma_8", "Omega_b", "h", "n_s"]
Redshift = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class NBodySettings(PlainModel):
    """What is simulated.

    Attributes:
        n: particles and cells per side.
        box_size: side of the box in Mpc/h.
        parameters: those that vary, with the priors of the Quijote Latin hypercube.
        redshift: of the density.
        redshifts: of the particles the emulator is fitted to; `redshift` is added if absent.
        steps: time steps of the reference.
        mesh_factor: cells of its force mesh per particle and axis; 2 up to 6.25 Mpc/h between
            particles and 3 above, if left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    n: int = Field(32, ge=8, multiple_of=4)
    box_size: float = Field(100.0, gt=0)
    parameters: tuple[Name, ...] = Field(("Omega_m", "sigma_8"), min_length=1)
    redshift: Redshift = 0.0
    redshifts: tuple[Redshift, ...] = Field(
        (0.0, 0.5, 1.0, 2.0), min_length=1, validate_default=True
    )
    steps: int = Field(16, ge=1)
    # The validator makes a number of it, so that a run's record names what was used.
    mesh_factor: int = Field(None, ge=1, validate_default=True)  # pyright: ignore[reportAssignmentType]

    @field_validator("mesh_factor", mode="before")
    @classmethod
    def _usual_mesh(cls, value: Any, info: ValidationInfo) -> Any:
        known = info.data  # the fields above, as far as they are valid
        if value is None and {"n", "box_size"} <= known.keys():
            return mesh_factors(known["box_size"] / known["n"])[0]
        return 2 if value is None else value

    @field_validator("redshifts", mode="after")
    @classmethod
    def _include_output(cls, values: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        redshift = info.data.get("redshift", values[0])
        return values if redshift in values else (redshift, *values)


class NBodySystem:
    """See `sbitools.systems.System`."""

    name = "nbody"
    settings = NBodySettings

    @property
    def emulator_options(self) -> type[EmulatorOptions]:
        """What ``[emulator]`` of a configuration may hold."""
        from .options import EmulatorOptions

        return EmulatorOptions

    def simulator(self, settings: NBodySettings) -> NBodySimulator:
        """Density contrast at one redshift."""
        return self._simulator(settings, (settings.redshift,), "density")

    def training_simulator(self, settings: NBodySettings) -> NBodySimulator:
        """The same universes as particles, at several redshifts."""
        return self._simulator(settings, settings.redshifts, "particles")

    def emulator(self, settings: NBodySettings) -> NBodyEmulator:
        """Not fitted yet."""
        from .emulator import NBodyEmulator

        return NBodyEmulator(self.simulator(settings), settings.redshifts)

    def load_emulator(self, path: Path) -> NBodyEmulator:
        """The fitted emulator in the folder `path`."""
        from .emulator import NBodyEmulator

        return NBodyEmulator.load(path)

    def validate(
        self, emulator: NBodyEmulator, settings: NBodySettings, store: SimulationStore
    ) -> dict[str, Any]:
        """See `emulators.nbody.validation.compare`."""
        from .validation import compare

        return compare(emulator, store, steps=settings.steps, mesh_factor=settings.mesh_factor)

    def _simulator(
        self, settings: NBodySettings, redshifts: tuple[float, ...], quantity: Any
    ) -> NBodySimulator:
        from .simulator import NBodySimulator

        return NBodySimulator(
            settings.n, settings.box_size, settings.parameters, redshifts=redshifts,
            steps=settings.steps, mesh_factor=settings.mesh_factor, quantity=quantity,
        )  # fmt: skip


system = NBodySystem()
