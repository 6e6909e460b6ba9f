"""Reads rows of fields out of part files, straight from the disk into the result."""

from __future__ import annotations

import os
import resource
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TypeVar

import numpy as np

from sbitools.disk.files import is_limit, typed
from sbitools.errors import StoreError

from .catalog import Catalog
from .parts import Part

__all__ = ["Reader", "with_files"]

_OPEN_FILES = 64  # of one reader, where the system is not stingy
_SHARE = 16  # one reader takes this part of what the process may open
_READERS: weakref.WeakSet[Reader] = weakref.WeakSet()

T = TypeVar("T")


def with_files(call: Callable[[], T]) -> T:
    """What `call` returns; files that readers keep open for speed make room for it if needed."""
    try:
        return call()
    except StoreError as error:
        if not is_limit(error.__cause__):
            raise
    for reader in list(_READERS):
        reader.make_room()
    return call()


def _most_files() -> int:
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _OPEN_FILES if allowed < 0 else min(_OPEN_FILES, max(allowed // _SHARE, 1))


class Reader:
    """Random access to x and source.

    Each part is hashed when it is first read, so that a flipped bit is an error and not a field.
    Memory: the result, and one run of rows where their order is scattered.

    Args:
        catalog: where simulations are.
        verify: whether parts are hashed.
    """

    def __init__(self, catalog: Catalog, verify: bool) -> None:
        self.catalog, self.verify = catalog, verify
        self._verified: set[str] = set()
        self._open: OrderedDict[tuple[str, str], tuple[int, int]] = OrderedDict()
        self._lock = threading.RLock()
        self._most = _most_files()
        _READERS.add(self)

    def read(self, what: str, indices: np.ndarray, out: np.ndarray) -> None:
        """Fill `out` (len(indices), *shape) with the simulations `indices`, in this order."""
        order = np.argsort(indices, kind="stable")
        for first, last in self._runs(indices[order]):
            place, index = order[first:last], int(indices[order[first]])
            part = self.catalog.parts[self.catalog.place[index]]
            with self._lock:
                if place[-1] - place[0] == len(place) - 1 and (np.diff(place) == 1).all():
                    self._fill(part, what, index, out[place[0] : place[-1] + 1])
                else:
                    scratch = np.empty((len(place), *out.shape[1:]), out.dtype)
                    self._fill(part, what, index, scratch)
                    out[place] = scratch

    def _runs(self, ascending: np.ndarray) -> Iterator[tuple[int, int]]:
        """Stretches of consecutive simulations of one part."""
        place = self.catalog.place[ascending]
        breaks = np.flatnonzero((np.diff(ascending) != 1) | (np.diff(place) != 0)) + 1
        edges = [0, *breaks.tolist(), len(ascending)]
        if len(ascending):
            yield from pairwise(edges)

    def _fill(self, part: Part, what: str, index: int, out: np.ndarray) -> None:
        fd, begin = self._file(part, what)
        spec = self.catalog.layout.fields[what]
        view = out.reshape(-1).view(np.uint8).data
        offset = begin + (index - part.start) * spec.nbytes
        while view:
            with typed(part.path):
                got = os.preadv(fd, [view[: 1 << 30]], offset)
            if not got:
                raise StoreError(
                    f"part {part.path.name}", expected="a whole file", got="an early end",
                    fix=f"delete {part.path} and run the campaign again",
                )  # fmt: skip
            view, offset = view[got:], offset + got

    def _file(self, part: Part, what: str) -> tuple[int, int]:
        key = (part.path.name, what)
        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key]
        self._open[key] = with_files(lambda: self._opened(part, what))
        if len(self._open) > self._most:
            os.close(self._open.popitem(last=False)[1][0])
        return self._open[key]

    def _opened(self, part: Part, what: str) -> tuple[int, int]:
        if self.verify and part.path.name not in self._verified:
            part.verify()
            self._verified.add(part.path.name)
        offset = part.offset(what)
        with typed(part.path):
            return os.open(part.path, os.O_RDONLY), offset

    def make_room(self) -> None:
        """Close all files, unless another thread reads them."""
        if self._lock.acquire(blocking=False):
            try:
                self.close()
            finally:
                self._lock.release()

    def close(self) -> None:
        """Close all files; they are opened again when needed."""
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1][0])

    def __del__(self) -> None:
        self.close()
