"""A folder for the files of one simulation, which is always removed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sbitools.disk.files import out_of_reach

from .guard import FOLDER
from .program import CannotRun

__all__ = ["no_folder", "scratch_folder"]


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder, removed at the end; of a worker that is killed, its guard removes it.

    Raises:
        CannotRun: if it cannot be made.
    """
    try:
        base = os.environ.get(FOLDER) or None
        if base is not None:
            Path(base).mkdir(mode=0o700, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="sbitools-", dir=base)).resolve()
    except OSError as error:
        raise no_folder(Path(error.filename or "folder of a simulation"), error) from error
    try:
        yield folder
    finally:
        _remove(folder)


def no_folder(path: Path, error: OSError) -> CannotRun:
    """The error for a folder that the system refuses: a full disk, say."""
    told = out_of_reach(path, error)
    return CannotRun(told.subject, expected=told.expected, got=told.got, fix=told.fix)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():  # a program may take away its own rights
        folder.chmod(0o700)
        for place, inner, _ in os.walk(folder):
            for path in (Path(place, name) for name in inner):
                with contextlib.suppress(OSError):
                    path.chmod(0o700) if not path.is_symlink() else None
        shutil.rmtree(folder, ignore_errors=True)
