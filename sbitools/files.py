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

__all__ = [
    "TEMP_SUFFIX", "hash_file", "is_limit", "is_refused", "move_directory", "out_of_reach",
    "temporary_name", "typed", "write_atomic",
]  # fmt: skip

TEMP_SUFFIX = ".tmp"
_BLOCK = 1 << 22
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MANY = (errno.EMFILE, errno.ENFILE)
_REFUSED = (errno.EACCES, errno.EPERM, errno.ENOMEM)


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
        raise out_of_reach(path, error, nbytes) from error


def out_of_reach(path: Path, error: OSError, nbytes: int = 0) -> StoreError:
    """A `StoreError` about a path that the system refuses; arguments as for `typed`."""
    full, many = error.errno in _FULL, error.errno in _MANY
    fix = "correct the path or its permissions"
    if full:
        fix = "free some space"
    elif many:
        fix = "close stores and files that are not used, or raise the limit (ulimit -n),"
    return StoreError(
        str(path),
        expected=f"room for {nbytes / 1e6:.1f} MB" if full else "a path that can be used",
        got=error.strerror or str(error),
        fix=f"{fix} and run the same command again; what was finished is kept",
    )


def is_refused(error: BaseException | None) -> bool:
    """Whether the system refused a file to this process, which says nothing about the file."""
    return isinstance(error, OSError) and error.errno in (*_MANY, *_REFUSED)


def is_limit(error: BaseException | None) -> bool:
    """Whether too many files are open."""
    return isinstance(error, OSError) and error.errno in _MANY


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
