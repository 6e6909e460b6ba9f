"""Whether what a finished stage left is what its record says: hashes of files, not of records.

Files of later stages are cheap and are always hashed. Of a store that a stage reads, every part
is; of one further up, its small columns are, with the hashes that each part keeps.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .records import StageRecord, digest_path, digest_store, is_store
from .stages import store_simulator

if TYPE_CHECKING:
    from .run import Run

__all__ = ["altered"]

# Where a stage keeps what its record names, below its folder.
_PLACES = {
    "store": ".", "checkpoint": "checkpoint", "statistics": "statistics.npz",
    "result": "result.json", "examples": "examples.npz", "info": "info.json",
    "history": "history.json", "draws": "draws.npz", "html": "report.html", "json": "report.json",
}  # fmt: skip


def altered(run: Run, record: StageRecord, whole: bool = True) -> list[str]:
    """Outputs of a finished stage that are not on disk as its record says.

    Args:
        run: whose stage it is.
        record: of the stage.
        whole: hash every part of a store, and ask whether its simulator is the one of today.

    Raises:
        StoreError: for a damaged store, or one whose simulator has changed since.
    """
    found = []
    for name, told in record.outputs.items():
        path = run.folder(record.name) / _PLACES.get(name, name)
        if is_store(path):
            if whole:
                _check_simulator(run, record.name)
            if not _is_that_store(run, path, told, record, whole):
                found.append(name)
        elif _digest(run, path) != told:
            found.append(name)
    return found


def _is_that_store(run: Run, path: Path, told: str, record: StageRecord, whole: bool) -> bool:
    """Records of sbitools 0.1.0 have the hash of all files, and the store's digest in a note."""
    key = path, whole
    seen = _signature(path)
    if run.digests.get(key, ("", ""))[0] != seen:
        run.digests[key] = seen, digest_store(path, verify=whole)
    now = run.digests[key][1]
    return now in (told, record.notes.get("digest")) or digest_path(path, plain=True) == told


def _digest(run: Run, path: Path) -> str:
    key, seen = (path, True), _signature(path)
    if run.digests.get(key, ("", ""))[0] != seen:
        try:
            run.digests[key] = seen, digest_path(path)
        except OSError as error:
            return f"unreadable: {error.strerror}"
    return run.digests[key][1]


def _signature(path: Path) -> str:
    """What changes with any file at or below `path`, so that one command hashes it once."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    rows = []
    for file in files:
        try:
            s = file.stat()
        except OSError:
            continue
        rows.append((str(file), s.st_size, s.st_mtime_ns, s.st_ino))
    return repr(rows)


def _check_simulator(run: Run, name: str) -> None:
    from sbitools.campaign.match import check_identity
    from sbitools.identity import identity
    from sbitools.store.manifest import Manifest

    manifest = Manifest.read(run.folder(name))
    # else it was imported, or is what a command made, which only `--command` names again
    if "class" in manifest.identity and "command" not in manifest.identity:
        check_identity(run.folder(name), manifest, identity(store_simulator(run, name)))
