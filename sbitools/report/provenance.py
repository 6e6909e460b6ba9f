"""Where a report comes from: versions, machine, seeds and hashes."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sbitools.chain import Run

__all__ = ["PACKAGES", "machine", "provenance", "versions"]

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
        hashes of every stage, and the configuration.
    """
    from sbitools.chain import STAGES

    records = {name: record for name in STAGES if (record := run.record(name)) is not None}
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
        "config": json.loads(run.config.model_dump_json()),
    }  # fmt: skip
