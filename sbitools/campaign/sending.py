"""A simulator as bytes that a worker process can load, or the name of what cannot be sent."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import cloudpickle

from sbitools.errors import CampaignError

__all__ = ["as_bytes"]

_DEPTH = 6  # of the search for the part that cannot be sent


def as_bytes(simulator: Any) -> bytes:
    """The simulator by cloudpickle; the bytes travel in memory and are never written to disk.

    Raises:
        CampaignError: if it holds what cannot be sent: a lock, an open file, a generator.
    """
    try:
        return cloudpickle.dumps(simulator)
    except Exception as error:
        name, value = _culprit("simulator", simulator)
        raise CampaignError(
            name, expected="what can be sent to a worker process (cloudpickle)",
            got=f"{type(value).__module__}.{type(value).__qualname__}: {_text(error)}",
            fix="open or make it inside simulate(), and keep its path or options instead",
        ) from error  # fmt: skip


def _culprit(name: str, value: Any) -> tuple[str, Any]:
    """The innermost part of `value` that cannot be sent, and where it is."""
    seen = {id(value)}
    for _ in range(_DEPTH):
        for where, part in _parts(name, value):
            if id(part) not in seen and not _goes(part):
                seen.add(id(part))
                name, value = where, part
                break
        else:
            break
    return name, value


def _goes(value: Any) -> bool:
    try:
        cloudpickle.dumps(value)
    except Exception:
        return False
    return True


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if inspect.ismethod(value):
        yield name, value.__self__
    elif inspect.isfunction(value):
        with contextlib.suppress(ValueError):  # a cell that is empty
            found = inspect.getclosurevars(value)
            for key, part in (*found.nonlocals.items(), *found.globals.items()):
                yield f"{key!r} in {name}", part
        for part in (value.__defaults__ or (), value.__kwdefaults__ or {}):
            yield from _parts(f"defaults of {name}", part)
    elif isinstance(value, Mapping):
        yield from ((f"{name}[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"{name}[{i}]", part) for i, part in enumerate(value))
    else:
        fields = getattr(value, "__dict__", {})
        yield from ((f"{name}.{key}", part) for key, part in fields.items())
        for key in getattr(type(value), "__slots__", ()):
            with contextlib.suppress(AttributeError):
                yield f"{name}.{key}", getattr(value, key)


def _text(error: Exception) -> str:
    try:
        return str(error)
    except Exception:
        return type(error).__name__
