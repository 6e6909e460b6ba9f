"""Whether a store was begun by the same campaign: the same draws of the same simulator.

Texts may be corrected: labels and units say nothing about the numbers. Neither does the version
of sbitools.
"""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sbitools.errors import StaleSimulationsWarning, StoreError
from sbitools.identity import changes, values_changed
from sbitools.parameters import ParameterSpace
from sbitools.simulator import FieldSpec
from sbitools.store.manifest import Manifest

__all__ = ["check_identity", "check_same", "with_texts_of"]

_PARAMETER_TEXTS = {"unit", "latex"}
_FIELD_TEXTS = {"unit"}


def check_same(path: Path, have: Manifest, wanted: Manifest) -> None:
    """Raise `StoreError` unless both describe one campaign, its size aside.

    Args:
        path: of the store, for the message.
        have: what the store says.
        wanted: what the campaign is now.
    """
    _check_command(path, have, wanted.identity)
    pairs: dict[str, tuple[Any, Any]] = {
        "seed": (have.seed, wanted.seed),
        "design": (have.design, wanted.design),
        "parameters": (_space(have.layout.parameters), _space(wanted.layout.parameters)),
        "output": (_field(have.layout.output), _field(wanted.layout.output)),
        "source": (_field(have.layout.source), _field(wanted.layout.source)),
        "group_size": (have.group_size, wanted.group_size),
        "simulator": (have.simulator, wanted.simulator),
        "code_version": (_stated(have), _stated(wanted)),
        "task_size": (have.task_size, wanted.task_size),
    }
    for name, (old, now) in pairs.items():
        if old != now:
            raise StoreError(
                f"{name} of the store {path}", expected=f"{old}", got=f"{now}",
                fix="choose another path, or pass what the store was made with",
            )  # fmt: skip
    check_identity(path, have, wanted.identity)


def check_identity(path: Path, have: Manifest, now: Mapping[str, str]) -> None:
    """Raise `StoreError` if a store was made by a simulator that has changed since.

    Warn with `StaleSimulationsWarning` if only values of global names did.

    Args:
        path: of the store, for the message.
        have: what the store says.
        now: the simulator's `identity`.
    """
    _check_command(path, have, now)
    changed = changes(have.identity, now)
    if changed:
        raise StoreError(
            f"simulator of the store {path}", expected=f"{have.simulator} as it was when the "
            "store was made", got=f"one with another {', another '.join(changed)}",
            fix="choose another path, or delete the store and simulate again; a simulator that "
            "states its `version` can be rewritten, as long as the version stays",
        )  # fmt: skip
    values = values_changed(have.identity, now)
    if values:
        warnings.warn(
            f"store {path}: its simulator reads {', '.join(values)}, whose value is another than "
            "when the store was begun. If x depends on it, choose another path.",
            StaleSimulationsWarning, stacklevel=2,
        )  # fmt: skip


def _check_command(path: Path, have: Manifest, now: Mapping[str, str]) -> None:
    """A store that a command made goes on with this command, and no other does."""
    old, new = have.identity.get("command"), now.get("command")
    if old == new or not have.identity:
        return
    again = "choose another path, or delete the store and simulate again"
    raise StoreError(
        f"simulator of the store {path}",
        expected=have.simulator if old is None else f"the command {old}",
        got="one that is no command" if new is None else f"the command {new}",
        fix=again if old is None else f"pass that command again: --command {shlex.quote(old)}, "
        f"or CommandSimulator in Python; or {again}",
    )  # fmt: skip


def _stated(manifest: Manifest) -> str:
    """The version that the simulator states, without that of sbitools."""
    return manifest.code_version.rpartition("sbitools ")[0].removesuffix("; ")


def _space(space: ParameterSpace) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in _PARAMETER_TEXTS}
            for row in space.to_dict()]  # fmt: skip


def _field(spec: FieldSpec | None) -> dict[str, Any] | None:
    if spec is None:
        return None
    return {k: v for k, v in spec.to_dict().items() if k not in _FIELD_TEXTS}


def with_texts_of(path: Path, have: Manifest, wanted: Manifest) -> Manifest:
    """The store's manifest with the labels and units of `wanted`, written if they are others.

    Parts keep the texts they have; their stamps stay those of the first ones.
    """
    old, new = have.layout, wanted.layout
    if (old.parameters, old.output, old.source) == (new.parameters, new.output, new.source):
        return have
    layout = replace(new, origin=old.origin, stamps=old.digests)
    done = replace(have, layout=layout)
    done.write_texts(path)
    return done
