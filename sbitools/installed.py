"""What installed distributions add by entry points: systems, and methods of emulation."""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .errors import ConfigError

__all__ = ["find_installed", "names_installed"]


def names_installed(group: str) -> list[str]:
    """Names in an entry-point group, sorted; nothing is imported."""
    return sorted(_entries(group))


def find_installed(group: str, what: str, name: str, protocol: type, field: str) -> Any:
    """The object that a group of entry points has under `name`.

    Args:
        group: of entry points.
        what: such an object, in messages.
        name: of the entry point.
        protocol: whose attributes it must have.
        field: of the configuration that named it.

    Raises:
        ConfigError: if no installed distribution provides it, if it cannot be imported, or if it
            lacks attributes. The message lists the known ones.
    """
    entries = _entries(group)
    if name not in entries:
        close = difflib.get_close_matches(name, entries, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "install the distribution that has it"
        raise ConfigError(
            field, expected=f"one of {sorted(entries) or 'none installed'}", got=repr(name),
            fix=f"{hint} (distributions register in the entry-point group {group!r})",
        )  # fmt: skip
    try:
        found = entries[name].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{what} {name!r}", expected=f"an importable object {entries[name].value!r}",
            got=f"{type(error).__name__}: {error}",
            fix="reinstall the distribution that provides it, with its extras",
        ) from error  # fmt: skip
    if not isinstance(found, protocol):
        raise ConfigError(
            f"{what} {name!r}",
            expected=f"the attributes of {protocol.__module__}.{protocol.__name__}",
            got=f"{type(found).__name__} without {_missing(found, protocol)}",
            fix="implement what is missing; those in the package emulators are examples",
        )  # fmt: skip
    return found


def _entries(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=group)}


def _missing(found: object, protocol: type) -> str:
    wanted = [*protocol.__annotations__, *(n for n in vars(protocol) if not n.startswith("_"))]
    return ", ".join(w for w in dict.fromkeys(wanted) if not hasattr(found, w))
