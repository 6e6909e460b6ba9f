"""The identity of a simulator: what must be equal for equal theta and seeds to give equal x.

It is a table of digests by name, so that a message can say what changed. Parameters, output,
source and group size are not in it: a store compares them by themselves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from types import FunctionType
from typing import Any

from .values import VALUE, Digester, is_own, state_of

__all__ = ["changes", "identity", "origin", "values_changed"]

_SEPARATE = ("parameters", "output", "source", "group_size", "version", "identity", "name")


def identity(simulator: Any) -> dict[str, str]:
    """Digests, by name, of what makes this simulator.

    Its class and code, with the functions and values the code refers to; what its functions close
    over; its attributes. Libraries count by name, so that their upgrade changes nothing. A
    `version` (text) that the simulator states stands for its code; its attributes still count. An
    `identity` (text, or texts by name) stands for both. A simulator of this package states all it
    is as a version.

    What is not seen, because the code does not show it: files, databases and environment
    variables that a simulator reads while it runs; modules that it imports by a text
    (`importlib.import_module(name)`, plugins) or code that it builds from one (`exec`); other
    programs that it starts; compiled extensions; and versions of libraries. A simulator that
    depends on any of these states a `version`, to be changed with them (for example a hash of the
    file), or keeps what it has read as an attribute, which counts.

    Args:
        simulator: any simulator.

    Returns:
        Plain values: short texts.
    """
    kind = type(simulator)
    stated = {name: text for name in ("identity", "version")
              if (text := _text(simulator, name))}  # fmt: skip
    name = next(iter(stated), None)
    out = {"class": kind.__qualname__}
    if name is not None:
        table = stated[name]
        out |= {name: table} if isinstance(table, str) else table
    owner = _owner(kind, name) if name is not None and name not in _vars(simulator) else None
    digest = Digester(code=name is None)
    for part in kind.__mro__:
        if part is owner or (name is not None and owner is None):
            break  # what is stated stands for this class and those below it
        if is_own(part):
            code = Digester().class_(part, leave=_SEPARATE)
            out[f"code of {part.__qualname__}"] = code.hex()[:32]
    whole = name == "identity" or (owner is not None and not is_own(kind))
    return out | ({} if whole else _options(simulator, digest))


def _options(simulator: Any, digest: Digester) -> dict[str, str]:
    out = {}
    for name, value in sorted(state_of(simulator).items()):
        if name in _SEPARATE:
            continue
        if name == "function" and isinstance(value, FunctionType):
            parts = digest.function(value)
            out |= {key: digest(part).hex()[:32] for key, part in sorted(parts.items())}
        else:
            out[f"option {name}"] = digest(value).hex()[:32]
    return out


def _vars(simulator: Any) -> Mapping[str, Any]:
    return getattr(simulator, "__dict__", {})


def _owner(kind: type, name: str) -> type | None:
    return next((part for part in kind.__mro__ if name in vars(part)), None)


def _text(simulator: Any, name: str) -> str | dict[str, str]:
    value = getattr(simulator, name, "")
    if name == "identity" and isinstance(value, Mapping):
        return {str(key): str(part) for key, part in value.items()}
    return value if isinstance(value, str) else ""


def changes(was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names of what differs; none if the older one says nothing.

    Values of global names that a function reads are not among them, see `values_changed`.
    """
    return [key for key in _differing(was, now) if not key.startswith(VALUE)]


def values_changed(was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Global names that a function reads and whose plain values differ.

    A script sets many that say how and not what (a pause, a folder, the number of its process),
    and nobody can tell: they are worth a warning, and make no other simulator.
    """
    return [key.removeprefix(VALUE) for key in _differing(was, now) if key.startswith(VALUE)]


def _differing(was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [k for k in sorted({*was, *now}) if was and was.get(k) != now.get(k)]


def origin(simulator: str, table: Mapping[str, str]) -> str:
    """One sha256 for a simulator's name and identity, ``""`` without identity."""
    if not table:
        return ""
    own = {k: v for k, v in table.items() if not k.startswith(VALUE)}
    return hashlib.sha256(json.dumps([simulator, own], sort_keys=True).encode()).hexdigest()
