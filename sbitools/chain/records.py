"""What a stage of the chain leaves behind: a record of its inputs, outputs, time and memory.

A stage is up to date if its record says done and names the same settings and the same sha256 of
every input. A record is written before the work starts and again when it ends, aside and renamed,
so that a killed stage is told from a finished one, and resumed only under unchanged settings.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sbitools.disk.files import hash_file, parse_json, read_file, read_json, write_atomic
from sbitools.errors import StoreError

from .memory import PeakMemory

__all__ = [
    "StageRecord", "differences", "digest_path", "digest_store", "is_store", "read_json",
    "read_record", "record_work", "write_json",
]  # fmt: skip


@dataclass(frozen=True)
class StageRecord:
    """The content of one ``stages/<name>.json``.

    Args:
        name: of the stage, e.g. ``"reference/train"``.
        state: ``"running"`` from the start, ``"done"`` at the end.
        settings: everything of the configuration the stage depends on.
        inputs: sha256 of each artifact it read.
        outputs: sha256 of each artifact it wrote.
        started: UTC, ISO 8601.
        seconds: wall time, of the last attempt if the stage was killed and resumed.
        peak_memory_mb: highest memory of the process and its children, MiB.
        notes: numbers for the report, e.g. counts of a campaign.
    """

    name: str
    state: Literal["running", "done"]
    settings: dict[str, Any]
    inputs: dict[str, str]
    outputs: dict[str, str] = field(default_factory=dict)
    started: str = ""
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    notes: dict[str, Any] = field(default_factory=dict)

    def matches(self, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> bool:
        """Whether this record was made with these settings and inputs."""
        return self.settings == _plain(settings) and self.inputs == dict(inputs)

    def is_imported(self, base: Mapping[str, Any]) -> bool:
        """Whether this is an imported store of the system that `base` describes.

        Such a store has its own size and no seed; the configuration does not say what they are.
        """
        same = all(self.settings.get(key) == value for key, value in _plain(base).items())
        return same and bool(self.notes.get("imported"))


def read_record(path: Path) -> StageRecord | None:
    """The record at `path`, or None if there is none.

    Raises:
        StoreError: if the file is not a stage record.
    """
    if not path.exists():
        return None
    try:
        values = parse_json(read_file(path))
        told = values.pop("sha256", None) if isinstance(values, dict) else None
        if told is not None and told != _own_digest(values):
            raise ValueError("text that does not match its own sha256")
        record = StageRecord(**values)
        if record.state not in ("running", "done") or not _fits(record):
            raise ValueError("fields that do not fit")
        return record
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(
            str(path), expected="a stage record", got=str(error), fix="delete it and run again"
        ) from error


def _fits(record: StageRecord) -> bool:
    """Whether the fields are of the right kinds: records of sbitools 0.1.0 have no hash."""
    tables = record.settings, record.inputs, record.outputs, record.notes
    return all(isinstance(table, dict) for table in tables)


def _write_record(path: Path, record: StageRecord) -> None:
    values = _plain(asdict(record))
    write_json(path, values | {"sha256": _own_digest(values)})


def _own_digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def record_work(
    path: Path,
    name: str,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    work: Callable[[], tuple[Mapping[str, Path], Mapping[str, Any]]],
) -> StageRecord:
    """Run `work` between a "running" and a "done" record.

    Args:
        path: of the record.
        name: of the stage.
        settings: what the stage depends on, plain values.
        inputs: sha256 of what it reads.
        work: returns the artifacts it wrote by name, and notes.
    """
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    started = StageRecord(name, "running", _plain(settings), dict(inputs), started=begun)
    _write_record(path, started)
    clock = time.perf_counter()
    with PeakMemory() as memory:
        outputs, notes = work()
    record = StageRecord(
        name, "done", _plain(settings), dict(inputs),
        outputs={key: digest_path(artifact) for key, artifact in outputs.items()},
        started=begun, seconds=time.perf_counter() - clock,
        peak_memory_mb=round(memory.megabytes, 1), notes=_plain(notes),
    )  # fmt: skip
    _write_record(path, record)
    return record


def digest_path(path: Path, plain: bool = False) -> str:
    """sha256 of a file, of a store's content, or of the names and hashes of a folder's files.

    Args:
        path: of a file or folder.
        plain: take a store for any other folder.

    Raises:
        StoreError: for a damaged store.
        OSError: for a file that is not there.
    """
    if not path.is_dir():
        return hash_file(path)
    if is_store(path) and not plain:
        return digest_store(path, verify=True)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    lines = [f"{file.relative_to(path).as_posix()} {hash_file(file)}" for file in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def is_store(path: Path) -> bool:
    """Whether a folder holds a simulation store."""
    return (path / "store.json").is_file()


def digest_store(path: Path, verify: bool) -> str:
    """`SimulationStore.digest`: equal for equal simulations, however their parts are cut.

    Args:
        path: of the store.
        verify: hash every part, instead of trusting the hashes that they keep.

    Raises:
        StoreError: for a damaged store.
    """
    from sbitools.store import SimulationStore

    store = SimulationStore.open(path)
    if verify:
        store.verify()
    return store.digest()


def write_json(path: Path, values: Any) -> None:
    """Write plain values as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(values, indent=2, sort_keys=True, default=str) + "\n"
    write_atomic(path, text.encode())


def differences(
    was: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> dict[str, tuple[Any, Any]]:
    """Settings that differ, by dotted path: what they were and what they are, None if absent."""
    out: dict[str, tuple[Any, Any]] = {}
    was, now = _plain(was), _plain(now)
    for key in [*now, *(k for k in was if k not in now)]:
        old, new, path = was.get(key), now.get(key), f"{prefix}{key}"
        if isinstance(old, dict) and isinstance(new, dict):
            out |= differences(old, new, f"{path}.")
        elif old != new:
            out[path] = (old, new)
    return out


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(dict(values), sort_keys=True, default=str))
