"""Systems: what the entry-point group ``sbitools.systems`` names.

A system is one reference simulator and everything the chain needs to know about it. Any
distribution can add one; sbitools itself never imports a system by its module name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from .installed import check_attributes, find_installed, names_installed

if TYPE_CHECKING:
    from pydantic import BaseModel

    from .simulator import Simulator
    from .store import SimulationStore

__all__ = ["GROUP", "EmulatedSystem", "System", "find_system", "known_systems"]

GROUP = "sbitools.systems"


@runtime_checkable
class System(Protocol):
    """One reference simulator.

    Attributes:
        name: the name in configurations, equal to that of the entry point.
        settings: the pydantic model of the system's own settings (extra fields forbidden).

    A system may also have ``provide(settings, name, sizes, path)``, which makes the store
    ``"reference/train"``, ``"reference/validation"`` or ``"reference/test"`` of simulations that
    it has, or opens what it has made, and returns None where the reference has to be run; `sizes`
    are the numbers of simulations of all three, by name. ``signature(settings)`` is text that
    changes with the files behind the settings; ``remarks(settings)`` are sentences that the
    report repeats.
    """

    name: str
    settings: type[BaseModel]

    def simulator(self, settings: Any) -> Simulator:
        """The reference simulator: what the posterior is about, and is checked against."""
        ...


@runtime_checkable
class EmulatedSystem(System, Protocol):
    """A system with an emulator of its own; others are emulated by a method of `emulation`.

    It may also have `emulator_options`, the pydantic model of what its emulator's `fit` takes, so
    that a wrong ``[emulator]`` table is found before anything is simulated.
    """

    def training_simulator(self, settings: Any) -> Simulator:
        """The simulator whose store the emulator is fitted to; often `simulator` itself."""
        ...

    def emulator(self, settings: Any) -> Any:
        """An emulator that is not fitted yet; a simulator with the output of `simulator`."""
        ...

    def load_emulator(self, path: Path) -> Any:
        """The fitted emulator that `save` wrote to `path`."""
        ...

    def validate(self, emulator: Any, settings: Any, store: SimulationStore) -> Mapping[str, Any]:
        """Statistics of the emulator against held-out simulations of `training_simulator`."""
        ...


def known_systems() -> list[str]:
    """Names of the installed systems, sorted; none of them is imported."""
    return names_installed(GROUP)


def find_system(name: str) -> System:
    """The installed system `name`.

    Args:
        name: as in the entry-point group ``sbitools.systems``.

    Raises:
        ConfigError: if no installed distribution provides it, if it cannot be imported, or if what
            the entry point names is not a system. The message lists the known ones.
    """
    system = find_installed(GROUP, "system", name, System, "system")
    if any(hasattr(system, part) for part in ("emulator", "load_emulator", "validate")):
        check_attributes(f"system {name!r}", system, EmulatedSystem)
    return system
