"""Where a report comes from: versions, machine, seeds and hashes."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sbitools.chain.run import Run

__all__ = ["PACKAGES", "machine", "provenance", "toml_text", "versions"]

PACKAGES = ("sbitools", "torch", "numpy", "scipy", "sbi", "zuko", "nflows", "h5py", "safetensors",
            "matplotlib")  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of Python and of what the numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine() -> dict[str, str]:
    """Kind and size of this machine; nothing that names it or its user."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {"system": platform.system(), "processor": platform.machine(), "cores": str(cores)}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        found["memory"] = f"{size / 2**30:.0f} GiB"
    return found


def provenance(run: Run) -> dict[str, Any]:
    """Everything needed to repeat a run.

    Returns:
        Plain values: date (UTC), versions, machine, the specifications' digests, the seeds and
        hashes of every stage, the commands that were given, and the configuration.
    """
    from sbitools.chain.names import NAMES

    records = {name: record for name in NAMES if (record := run.record(name)) is not None}
    reference = run.reference
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": machine(),
        "specifications": {
            "parameters": reference.parameters.digest(), "output": reference.output.digest(),
        },
        "seeds": {"run": run.config.seed}
        | {name: r.settings["seed"] for name, r in records.items() if "seed" in r.settings},
        "hashes": {name: r.outputs for name, r in records.items() if r.outputs},
        "commands": {n: r.notes["command"] for n, r in records.items() if "command" in r.notes},
        "config": json.loads(run.config.model_dump_json()),
    }  # fmt: skip


def toml_text(values: dict[str, Any], table: str = "") -> str:
    """Plain values as a TOML text; None is left out, as absence means the same."""
    plain = {k: v for k, v in values.items() if v is not None}
    tables = {k: v for k, v in plain.items() if _is_table(v)}
    lines = [f"{k} = {_toml(v)}" for k, v in plain.items() if k not in tables]
    for key, value in tables.items():
        path = f"{table}.{key}" if table else key
        rows = [value] if isinstance(value, dict) else value
        head = f"[{path}]" if isinstance(value, dict) else f"[[{path}]]"
        lines += [f"\n{head}\n{toml_text(row, path)}" for row in rows]
    return "\n".join(lines)


def _is_table(value: Any) -> bool:
    rows = isinstance(value, list) and value and all(isinstance(v, dict) for v in value)
    return isinstance(value, dict) or bool(rows)


def _toml(value: Any) -> str:
    """A JSON value is a TOML value, unless a table hides in a list."""
    if isinstance(value, list):
        return f"[{', '.join(_toml(v) for v in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    # JSON may write DEL as it is, and characters beyond 16 bits in halves; TOML allows neither.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
