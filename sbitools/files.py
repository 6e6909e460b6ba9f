"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from pathlib import Path

from .errors import StoreError

__all__ = ["TEMP_SUFFIX", "hash_file", "write_atomic"]

TEMP_SUFFIX = ".tmp"
_BLOCK = 1 << 22


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Write `data` aside, fsync, rename to `path` and fsync the directory.

    Raises:
        StoreError: if the disk is full or a quota or a file-size limit is reached; the temporary
            file is removed.
    """
    temp = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMP_SUFFIX}")
    try:
        _write(temp, memoryview(data).cast("B"))
        temp.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreError(
                str(path.parent), expected=f"room for {memoryview(data).nbytes / 1e6:.1f} MB",
                got=os.strerror(error.errno),
                fix="free some space and run the same command again; what was finished is kept",
            ) from error  # fmt: skip
        raise
    finally:
        with contextlib.suppress(OSError):
            temp.unlink()


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
