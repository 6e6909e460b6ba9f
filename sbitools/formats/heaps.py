"""Heaps in HDF5 files: damaged ones make the library walk in a circle, and no reader comes back.

A global heap keeps texts of attributes: objects with their sizes, which the library walks to the
end of the heap. Free space of size 0 has no next object (HDF5 up to 2.0 does not look).
"""

from __future__ import annotations

import errno
import mmap
from pathlib import Path

__all__ = ["check_heaps"]

_HEAP = b"GCOL\x01\0\0\0"  # signature, version and what must be zero
_OBJECT = 16  # bytes of a header: number, references, 4 unused ones, size
_TAIL = 1 << 16  # texts that did not fit into the first heap come last


def check_heaps(path: Path, head: int = 1 << 18) -> None:
    """Raise `OSError` if a heap of the HDF5 file at `path` has no end.

    Args:
        path: of the file.
        head: bytes from its beginning in which heaps lie.
    """
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        if not size:
            return
        # Mapped: nothing of a large head is copied.
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _check(data, 0, min(head, size), path)
            if size > head:
                _check(data, max(head, size - _TAIL), size, path)


def _check(data: mmap.mmap, start: int, stop: int, path: Path) -> None:
    at = data.find(_HEAP, start, stop)
    while at >= 0:
        place, end = at + 16, at + int.from_bytes(data[at + 8 : at + 16], "little")
        while place + _OBJECT <= min(end, stop):
            size = int.from_bytes(data[place + 8 : place + 16], "little")
            free = data[place : place + 2] == b"\0\0"
            step = size if free else _OBJECT + (size + 7) // 8 * 8
            if step < 1:
                raise OSError(errno.EINVAL, "a heap of HDF5 that has no end", str(path))
            place += step
        at = data.find(_HEAP, at + 8, stop)
