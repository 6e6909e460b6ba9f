"""The 21cm system: what the chain needs to know about it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field

from sbitools.gate.models import PlainModel

if TYPE_CHECKING:
    from sbitools.store import SimulationStore

    from .emulator import ReionizationEmulator
    from .options import EmulatorOptions
    from .simulator import ReionizationSimulator

__all__ = ["ReionizationSettings", "ReionizationSystem", "system"]

Name = Literal["m_wdm", "Omega_m", "E0", "log10_LX", "log10_Tvir", "zeta", "redshift"]


class ReionizationSettings(PlainModel):
    """What is simulated; see `ReionizationSimulator`.

    Attributes:
        quantity: ``"slice"``, ``"cube"`` or ``"lightcone"``.
        n: cells per side.
        box_size: in Mpc.
        parameters: those that vary.
        priors: of some of them, ``{kind = "uniform", low = ..., high = ...}``.
        fixed: values of parameters that do not vary.
        n_los: cells along the line of sight of a light cone.
        spin_temperature: follow it.
        recombinations: inhomogeneous ones.
        refinement: cells of the initial conditions per cell and axis.
        limits: reject light cones that contradict what is known of the optical depth and the end
            of reionization.
        shipped: take the reference simulations from the small set that comes with the package;
            all other settings must be those of that set.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    quantity: Literal["slice", "cube", "lightcone"] = "slice"
    n: int = Field(64, ge=8)
    box_size: float = Field(128.0, gt=0)
    parameters: tuple[Name, ...] = ("zeta", "log10_Tvir")
    priors: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    fixed: dict[Name, float] = Field(default_factory=dict)
    n_los: int | None = Field(None, ge=8)
    spin_temperature: bool = False
    recombinations: bool = False
    refinement: int = Field(2, ge=1)
    limits: bool = False
    shipped: bool = False


class ReionizationSystem:
    """See `sbitools.systems.System`."""

    name = "reionization"
    settings = ReionizationSettings

    @property
    def emulator_options(self) -> type[EmulatorOptions]:
        """What ``[emulator]`` of a configuration may hold."""
        from .options import EmulatorOptions

        return EmulatorOptions

    def simulator(self, settings: ReionizationSettings) -> ReionizationSimulator:
        """Brightness temperature by 21cmFAST."""
        from sbitools.priors import from_dict

        from .reference.fast21cm import Limits
        from .simulator import ReionizationSimulator

        return ReionizationSimulator(
            settings.quantity, settings.n, settings.box_size, settings.parameters,
            priors={str(name): from_dict(prior) for name, prior in settings.priors.items()},
            fixed={str(name): value for name, value in settings.fixed.items()},
            n_los=settings.n_los, spin_temperature=settings.spin_temperature,
            recombinations=settings.recombinations, refinement=settings.refinement,
            limits=Limits() if settings.limits else None,
        )  # fmt: skip

    def training_simulator(self, settings: ReionizationSettings) -> ReionizationSimulator:
        """All planes of a cube for a plane, else the same."""
        return self.simulator(settings).training_simulator()

    def provide(
        self, settings: ReionizationSettings, name: str, sizes: Mapping[str, int], path: Path
    ) -> SimulationStore | None:
        """Shipped simulations as the store `name`, if the settings ask for them.

        Raises:
            ConfigError: if other simulations are wanted than those that are shipped, or more.
        """
        from sbitools.errors import ConfigError
        from sbitools.store import SimulationStore

        from . import shipped

        if not settings.shipped:
            return None
        theirs = shipped.simulator()
        if self.simulator(settings).version != theirs.version:
            raise ConfigError(
                "settings.shipped", expected=f"the settings of the shipped set: {theirs.config()}",
                got="others", fix="set shipped = false, which needs 21cmFAST",
            )  # fmt: skip
        if path.exists():
            return SimulationStore.open(path)
        return shipped.store(name.split("/")[1], path, sizes[name])  # pyright: ignore[reportArgumentType]

    def emulator(self, settings: ReionizationSettings) -> ReionizationEmulator:
        """Not fitted yet."""
        from .emulator import ReionizationEmulator

        return ReionizationEmulator(self.simulator(settings))

    def load_emulator(self, path: Path) -> ReionizationEmulator:
        """The fitted emulator in the folder `path`."""
        from .emulator import ReionizationEmulator

        return ReionizationEmulator.load(path)

    def validate(
        self, emulator: ReionizationEmulator, settings: ReionizationSettings,
        store: SimulationStore,
    ) -> dict[str, Any]:  # fmt: skip
        """See `emulators.reionization.validation.compare`."""
        from .validation import compare

        return compare(emulator, store)


system = ReionizationSystem()
