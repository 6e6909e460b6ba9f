"""Small folders of known files, that are replaced whole and read whole.

The new folder is written aside and takes the place of the old one by two renames, under a lock
with an owner. A reader opens the folder once and takes all files from it: what it gets is the old
or the new content, never some of each, and it never writes. Only folders that hold nothing but
the known files are ever removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from .files import TEMP_SUFFIX, read_file, sync_directory, temporary_name, write_new
from .locks import Taken, held

__all__ = ["discard_folder", "read_folder", "replace_folder"]

_TRIES = 50  # of a reader that meets a replacement in its midst


def replace_folder(
    place: Path, files: Mapping[str, bytes], check: Callable[[], None], seconds: float
) -> None:
    """Put a folder with `files` at `place`.

    Args:
        place: its path, links resolved.
        files: content by name.
        check: raises unless what is at `place` may be replaced.
        seconds: to wait for another process that replaces it.

    Raises:
        Taken: if the other process is not done by then.
        OSError: if the disk refuses; what was there is kept.
    """
    check()
    place.parent.mkdir(parents=True, exist_ok=True)
    with held(_lock(place), seconds=seconds):
        check()
        for left in _left_behind(place):
            _remove(left, set(files))
        aside = temporary_name(place)
        try:
            aside.mkdir()
            for name, data in files.items():
                write_new(aside / name, data)
            sync_directory(aside)
            if place.exists():
                _remove(_old(place), set(files))
                place.rename(_old(place))
            aside.rename(place)
            sync_directory(place.parent)
            _remove(_old(place), set(files))
        finally:
            _remove(aside, set(files))


def read_folder(place: Path, limits: Mapping[str, int | None]) -> list[bytes]:
    """Files of the folder at `place`, all of the old or all of the new content.

    While it is replaced it may be absent for a moment, or go as it is read; then we look again. A
    replacement that was killed between its renames left the old folder aside.

    Args:
        place: its path.
        limits: the most bytes that each file may have; None for the machine's memory.

    Raises:
        OSError: if one is absent, is no file, or is too large.
    """
    place, problem = Path(os.path.realpath(place)), None
    for attempt in range(_TRIES):
        for folder in (place, _old(place)):
            try:
                return _read(folder, limits)
            except FileNotFoundError as error:
                problem = problem if folder != place and problem else error
        if attempt and not (_lock(place).exists() or place.exists()):
            break
        time.sleep(1e-3)
    raise problem or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(place))


def _read(folder: Path, limits: Mapping[str, int | None]) -> list[bytes]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:  # by this descriptor all are files of one folder, whatever is renamed meanwhile
        return [read_file(name, most=most, dir_fd=fd) for name, most in limits.items()]
    finally:
        os.close(fd)


def _remove(folder: Path, known: set[str]) -> None:
    """Remove a folder, if it has nothing but known files."""
    with contextlib.suppress(OSError):
        if {entry.name for entry in folder.iterdir()} <= known:
            for name in sorted(known):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()


def discard_folder(place: Path, known: set[str]) -> None:
    """Remove it as above, with the lock that a killed replacement left beside it."""
    with contextlib.suppress(OSError, Taken), held(_lock(place)):
        _remove(place, known)


def _lock(place: Path) -> Path:
    return place.with_name(f".{place.name}.lock")


def _old(place: Path) -> Path:
    """Where the older folder waits while the new one takes its place."""
    return place.with_name(f".{place.name}.old")


def _left_behind(place: Path) -> list[Path]:
    """Folders that killed writers of this one left."""
    name = re.compile(rf"\.{re.escape(place.name)}\.(\d+|[0-9a-f]{{8}}){re.escape(TEMP_SUFFIX)}")
    return [p for p in place.parent.iterdir() if name.fullmatch(p.name)]
