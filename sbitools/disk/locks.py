"""Locks with an owner: what is written in place is written by one process at a time.

A lock is a small file beside or in what it guards, held by `flock`: the kernel drops it when the
process ends, however it ends, so a stale file blocks nobody. Its text says who holds it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Taken", "flock", "held"]

# File systems that know no locks (some mounts of Lustre and NFS): work goes on without.
_UNKNOWN = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
_MARK = b"sbitools: "
_LINE = 200  # bytes of the owner's line that are read
_PAUSE = 0.005


class Taken(Exception):
    """Somebody else holds the lock.

    Args:
        owner: who, for a message.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        super().__init__(owner)


@contextlib.contextmanager
def held(
    path: Path, *, exclusive: bool = True, seconds: float = 0.0, keep: bool = False
) -> Iterator[None]:
    """Hold the lock file `path` for the block.

    Threads of one process exclude each other, too. It cannot be taken twice.

    Args:
        path: of the lock file, made if absent; its folder must be there.
        exclusive: alone, or together with others that do not ask to be alone.
        seconds: how long to wait for it.
        keep: leave the file there; files that are shared must be kept.

    Raises:
        Taken: if somebody else holds it all this time.
        OSError: if the file cannot be made.
    """
    fd = _take(path, exclusive, seconds)
    mine = os.fstat(fd).st_size == 0 or os.pread(fd, len(_MARK), 0) == _MARK
    try:
        if exclusive and mine:  # a user's file of this name may be locked, but is not touched
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)
                os.pwrite(fd, _MARK + f"{_me()}\n".encode("utf-8", "replace"), 0)
        yield
    finally:
        with contextlib.suppress(OSError):
            if not keep and exclusive and mine:
                path.unlink()  # while it is still held
            elif exclusive and mine:
                os.ftruncate(fd, 0)
        os.close(fd)


def _take(path: Path, exclusive: bool, seconds: float) -> int:
    """A descriptor of the file at `path`, locked."""
    end = time.monotonic() + seconds
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            if not flock(fd, exclusive, end - time.monotonic()):
                raise Taken(_owner(fd))
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), path.stat()):
                    return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # its owner removed the file as we got it: there may be another by now


def flock(fd: int, exclusive: bool, seconds: float = 0.0) -> bool:
    """Lock an open file within so many seconds; whether it could be."""
    kind, end = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH, time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno in _UNKNOWN:
                return True
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EINTR):
                raise
        if time.monotonic() > end:
            return False
        time.sleep(_PAUSE)


def _me() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _owner(fd: int) -> str:
    line = os.pread(fd, _LINE, 0).split(b"\n")[0]
    text = line.removeprefix(_MARK).decode("utf-8", "replace")
    named = line.startswith(_MARK) and text.startswith("process ")
    return text if named else "another process"
