"""Methods of emulation: what the entry-point group ``sbitools.emulators`` names.

A system says what is simulated, a method how it is emulated: from a store, and nothing else. Any
distribution can add one; sbitools itself never imports a method by its module name.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from .errors import ConfigError
from .installed import find_installed, names_installed

if TYPE_CHECKING:
    from pydantic import BaseModel

    from .parameters import ParameterSpace
    from .simulator import FieldSpec

__all__ = ["GROUP", "Fit", "Method", "Task", "choose_method", "find_method", "known_methods"]

GROUP = "sbitools.emulators"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What is to be emulated.

    Args:
        parameters: of the reference simulator.
        output: what one simulation is.
        n: simulations to learn from.
        source: an input field besides theta, or None.
    """

    parameters: ParameterSpace
    output: FieldSpec
    n: int
    source: FieldSpec | None = None


@dataclass(frozen=True)
class Fit:
    """How well a method suits a task.

    Args:
        rank: the higher, the better; None: it cannot do it.
        why: a sentence; where it cannot: what it takes, and what to use instead.
    """

    rank: int | None
    why: str


@runtime_checkable
class Method(Protocol):
    """One way to emulate fields.

    Attributes:
        name: the name in configurations, equal to that of the entry point.
        options: the pydantic model of what its emulators' `fit` takes.
    """

    name: str
    options: type[BaseModel]

    def suits(self, task: Task) -> Fit:
        """Whether it can emulate this, and how well."""
        ...

    def emulator(self, task: Task) -> Any:
        """An emulator that is not fitted yet."""
        ...

    def load(self, path: Path) -> Any:
        """The fitted emulator that `save` wrote to `path`."""
        ...


def known_methods() -> list[str]:
    """Names of the installed methods, sorted; none of them is imported."""
    return names_installed(GROUP)


def find_method(name: str) -> Method:
    """The installed method `name`; raises `ConfigError`, see `installed.find_installed`."""
    return find_installed(GROUP, "method", name, Method, "emulator.method")


def choose_method(task: Task) -> tuple[Method, str]:
    """The method that suits a task best, and why.

    Raises:
        ConfigError: if none can do it; the message says why each cannot.
    """
    fits = {name: (method, method.suits(task)) for name in known_methods()
            if (method := find_method(name))}  # fmt: skip
    able = {name: found for name, found in fits.items() if found[1].rank is not None}
    if not able:
        raise ConfigError(
            "emulator.method",
            expected=f"a method that can emulate {task.output.name!r} "
            f"{dict(zip(task.output.dims, task.output.shape, strict=True))} from {task.n} "
            "simulations",
            got="; ".join(f"{name}: {fit.why}" for name, (_, fit) in fits.items()) or "none",
            fix='train on the reference simulations alone: method = "none" in [emulator]',
        )  # fmt: skip
    best = max(able, key=lambda name: (able[name][1].rank or 0, name))
    _LOG.info("%s is emulated by %r: %s", task.output.name, best, able[best][1].why)
    return able[best][0], able[best][1].why
