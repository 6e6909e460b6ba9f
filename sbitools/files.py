"""Files that appear whole or not at all, and errors of the file system that say what to do."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from .errors import StoreError

__all__ = ["TEMP_SUFFIX", "hash_file", "move_directory", "temporary_name", "typed", "write_atomic"]

TEMP_SUFFIX = ".tmp"
_BLOCK = 1 << 22
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def typed(path: Path, nbytes: int = 0) -> Iterator[None]:
    """Turn any `OSError` of the block into a `StoreError` about `path`.

    Args:
        path: file or directory the block works on.
        nbytes: that it writes, for the message about a full disk.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in _FULL
        raise StoreError(
            str(path),
            expected=f"room for {nbytes / 1e6:.1f} MB" if full else "a path that can be used",
            got=error.strerror or str(error),
            fix=("free some space" if full else "correct the path or its permissions")
            + " and run the same command again; what was finished is kept",
        ) from error


def temporary_name(path: Path) -> Path:
    """A hidden name beside `path` that nobody else takes."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMP_SUFFIX}")


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Write `data` aside, fsync, rename to `path` and fsync the directory.

    Raises:
        StoreError: if the directory is missing or read-only, the disk is full, or a quota or a
            file-size limit is reached; the temporary file is removed.
    """
    temp, view = temporary_name(path), memoryview(data).cast("B")
    try:
        with typed(path.parent, view.nbytes):
            _write(temp, view)
            temp.replace(path)
            _sync_directory(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temp.unlink()


def move_directory(temp: Path, path: Path) -> None:
    """Rename the directory `temp` to `path`, which is new or an empty directory, for good.

    Raises:
        StoreError: if `path` is taken or cannot be written.
    """
    with typed(path):
        temp.rename(path)
        _sync_directory(path.parent)


def _write(path: Path, data: memoryview) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        while data:
            data = data[os.write(fd, data) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_directory(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def hash_file(path: Path) -> str:
    """sha256 of a file, read in blocks."""
    h, block = hashlib.sha256(), bytearray(_BLOCK)
    with path.open("rb", buffering=0) as file:
        while n := file.readinto(block):
            h.update(memoryview(block)[:n])
    return h.hexdigest()
