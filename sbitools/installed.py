"""What installed distributions add by entry points: systems, and methods of emulation."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .errors import ConfigError
from .gate.names import or_else

__all__ = ["check_attributes", "find_installed", "names_installed"]


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
        hint = or_else(name, entries, "install the distribution that has it")
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
    check_attributes(f"{what} {name!r}", found, protocol)
    return found


def check_attributes(what: str, found: object, protocol: type) -> None:
    """Raise `ConfigError` unless `found` has the attributes of `protocol`."""
    if isinstance(found, protocol):
        return
    bases = [base for base in protocol.__mro__ if "_is_protocol" in vars(base)]
    names = [n for base in reversed(bases) for n in (*base.__annotations__, *vars(base))]
    missing = [n for n in dict.fromkeys(names) if not n.startswith("_") and not hasattr(found, n)]
    raise ConfigError(
        what, expected=f"the attributes of {protocol.__module__}.{protocol.__name__}",
        got=f"{type(found).__name__} without {', '.join(missing)}",
        fix="implement what is missing; those in the package emulators are examples",
    )  # fmt: skip


def _entries(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=group)}
