"""How a run emulates its reference: by the system's own emulator, by a method, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sbitools.config import RunConfig, validate_model
from sbitools.emulation import Task, choose_method, find_method
from sbitools.errors import ConfigError
from sbitools.systems import EmulatedSystem, System

if TYPE_CHECKING:
    from pydantic import BaseModel

    from sbitools.simulator import Simulator

__all__ = ["Emulation", "choose_emulation", "emulator_options"]

_OWN = "system"  # the name of the emulator that a system brings along


@dataclass(frozen=True)
class Emulation:
    """The emulator of a run.

    Args:
        name: of the method; ``"system"`` for the system's own emulator.
        why: it was chosen.
        options: the model of what `fit` takes, if known.
        new: makes an emulator that is not fitted.
        load: the fitted one in a folder.
        own: it belongs to the system, which also says what it is fitted to and validates it.
    """

    name: str
    why: str
    options: type[BaseModel] | None
    new: Callable[[], Any]
    load: Callable[[Path], Any]
    own: bool

    def check(self, options: Mapping[str, Any]) -> None:
        """Raise `ConfigError` for options that `fit` would not take."""
        if self.options is not None:
            validate_model(self.options, options, "emulator")


def emulator_options(config: RunConfig) -> dict[str, Any]:
    """What ``[emulator]`` says to `fit`."""
    return {key: value for key, value in config.emulator.items() if key != "method"}


def choose_emulation(
    config: RunConfig, system: System, settings: Any, reference: Simulator
) -> Emulation | None:
    """What ``emulator.method`` asks for: ``"auto"`` (the default), ``"none"``, or a name.

    ``"auto"`` is the system's own emulator; of a system that has none, the method that suits its
    fields best.

    Returns:
        None for ``"none"``: the posterior is trained on reference simulations.

    Raises:
        ConfigError: for an unknown method, or one that cannot emulate these fields.
    """
    wanted = config.emulator.get("method", "auto")
    own = isinstance(system, EmulatedSystem)
    if wanted == "none":
        if options := emulator_options(config):
            raise ConfigError(
                "emulator", expected='nothing but method = "none"', got=f"{sorted(options)}",
                fix="remove these options, or name a method",
            )  # fmt: skip
        return None
    if own and wanted in ("auto", _OWN):
        return Emulation(
            _OWN, f"the system {config.system!r} has an emulator of its own",
            getattr(system, "emulator_options", None), lambda: system.emulator(settings),
            system.load_emulator, own=True,
        )  # fmt: skip
    n = config.reference.n_train
    task = Task(reference.parameters, reference.output, n, getattr(reference, "source", None))
    if wanted == "auto":
        method, why = choose_method(task)
    else:
        method, why = find_method(_name(wanted)), "the configuration names it"
        fit = method.suits(task)
        if fit.rank is None:
            raise ConfigError(
                "emulator.method", expected="one that can emulate these fields",
                got=f"{wanted!r}: {fit.why}", fix='choose another, or "auto", or "none"',
            )  # fmt: skip
    return Emulation(
        method.name, why, method.options, lambda: method.emulator(task), method.load, own=False
    )


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(
            "emulator.method", expected='"auto", "none" or the name of a method', got=repr(value),
            fix="correct 'emulator.method' in the file",
        )  # fmt: skip
    return value
