"""Systems: what the entry-point group ``sbitools.systems`` names.

A system is one reference simulator and everything the chain needs to know about it. Any
distribution can add one; sbitools itself never imports a system by its module name.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from .errors import ConfigError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from .simulator import Simulator
    from .store import SimulationStore

__all__ = ["GROUP", "System", "find_system", "known_systems"]

GROUP = "sbitools.systems"


@runtime_checkable
class System(Protocol):
    """One reference simulator, its emulator and their comparison.

    Attributes:
        name: the name in configurations, equal to that of the entry point.
        settings: the pydantic model of the system's own settings (extra fields forbidden).

    A system may also have `emulator_options`, the pydantic model of what its emulator's `fit`
    takes, so that a wrong ``[emulator]`` table is found before anything is simulated; and
    ``provide(settings, name, n, path)``, which makes the store ``"reference/train"``,
    ``"reference/validation"`` or ``"reference/test"`` of simulations that it ships, or opens what
    it has made, and returns None where the reference has to be run.
    """

    name: str
    settings: type[BaseModel]

    def simulator(self, settings: Any) -> Simulator:
        """The reference simulator: what the posterior is about, and is checked against."""
        ...

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


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def known_systems() -> list[str]:
    """Names of the installed systems, sorted; none of them is imported."""
    return sorted(_entries())


def find_system(name: str) -> System:
    """The installed system `name`.

    Args:
        name: as in the entry-point group ``sbitools.systems``.

    Raises:
        ConfigError: if no installed distribution provides it, if it cannot be imported, or if what
            the entry point names is not a system. The message lists the known ones.
    """
    entries = _entries()
    if name not in entries:
        close = difflib.get_close_matches(name, entries, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "install the distribution that has it"
        raise ConfigError(
            "system", expected=f"one of {sorted(entries) or 'none installed'}", got=repr(name),
            fix=f"{hint} (distributions register systems in the entry-point group {GROUP!r})",
        )  # fmt: skip
    try:
        system = entries[name].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"system {name!r}", expected=f"an importable object {entries[name].value!r}",
            got=f"{type(error).__name__}: {error}",
            fix="reinstall the distribution that provides it, with its extras",
        ) from error  # fmt: skip
    if not isinstance(system, System):
        raise ConfigError(
            f"system {name!r}", expected="the attributes of sbitools.systems.System",
            got=f"{type(system).__name__} without {_missing(system)}",
            fix="implement what is missing; emulators/nbody is an example",
        )  # fmt: skip
    return system


def _missing(system: object) -> str:
    wanted = ("name", "settings", "simulator", "training_simulator", "emulator",
              "load_emulator", "validate")  # fmt: skip
    return ", ".join(w for w in wanted if not hasattr(system, w))
