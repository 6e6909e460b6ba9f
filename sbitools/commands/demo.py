"""The packaged demonstration of a system: ``demo.toml`` and ``demo_small.toml`` beside it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path

from sbitools.config import RunConfig, apply_overrides, parse_config
from sbitools.errors import ConfigError
from sbitools.gate.plain import text
from sbitools.systems import GROUP, find_system

__all__ = ["demo_config", "demo_text", "folder_override"]


def demo_text(system: str, small: bool = False, overrides: Iterable[str] = ()) -> str:
    """The TOML text of a system's demonstration.

    Args:
        system: its name.
        small: the tiny setting.
        overrides: texts ``key.path=value``; with any, the file's comments are lost.

    Raises:
        ConfigError: for an unknown system, one without a demonstration, or wrong overrides.
    """
    packaged, overrides = _packaged(system, small), list(overrides)
    if not overrides:
        return packaged
    from sbitools.report.provenance import toml_text

    values = apply_overrides(tomllib.loads(packaged), overrides)
    parse_config(values)
    return toml_text(values) + "\n"


def _packaged(system: str, small: bool) -> str:
    find_system(system)
    (entry,) = entry_points(group=GROUP, name=system)
    name = "demo_small.toml" if small else "demo.toml"
    file = files(entry.module) / name
    if not file.is_file():
        raise ConfigError(
            f"demo of system {system!r}", expected=f"{name} beside {entry.module}",
            got="no such file", fix="write a configuration and run the commands one by one",
        )  # fmt: skip
    return file.read_text(encoding="utf-8")


def demo_config(system: str, small: bool = False, overrides: Iterable[str] = ()) -> RunConfig:
    """The configuration of a system's demonstration; raises like `demo_text`."""
    return parse_config(apply_overrides(tomllib.loads(_packaged(system, small)), overrides))


def folder_override(folder: Path) -> str:
    """The override that puts results into `folder`, whatever characters its name has.

    Raises:
        ConfigError: for a name that is not Unicode.
    """
    name = json.dumps(text(str(folder), "--out"), ensure_ascii=False)  # a string of TOML, too
    return f"run_dir={name}".replace("\x7f", "\\u007f")
