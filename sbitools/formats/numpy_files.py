"""Arrays in .npy and .npz files, read as they are sliced; nothing is unpickled."""

from __future__ import annotations

import contextlib
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from .fields import Fields
from .reading import bad_file

__all__ = ["NpyFields", "NpzFields", "map_npy", "npz_members"]

_MAGIC = b"\x93NUMPY"


def map_npy(path: Path) -> np.ndarray:
    """The array of an .npy file, mapped.

    Raises:
        StoreError: for any other file, of which numpy would unpickle what it can.
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise bad_file(path, "an array of numbers", "something else",
                           "write plain numbers, for example with numpy.save")  # fmt: skip
    return np.load(path, mmap_mode="r", allow_pickle=False)


class NpyFields(Fields):
    """An .npy file; it is mapped for each slice only, so memory does not grow."""

    def __init__(self, path: Path) -> None:
        self.path = path
        array = self._map()
        super().__init__(path, array.shape, array.dtype)

    def _map(self) -> np.ndarray:
        return map_npy(self.path)

    def _read(self, rows: Any) -> np.ndarray:
        return np.array(self._map()[rows])


class NpzFields(Fields):
    """One array of an .npz file, unpacked from where the last slice ended."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, member: str) -> None:
        self._archive, self._member = archive, member
        self._kept: np.ndarray | None = None
        with archive.open(member) as stream:
            shape, self._columns_first, self._stored = _header(stream)
            self._begin = stream.tell()
        self._stream: Any = None
        super().__init__(path, shape, self._stored)

    def _read(self, rows: Any) -> np.ndarray:
        if self._stored.hasobject:
            raise ValueError("Python objects")
        if self._columns_first and len(self.shape) > 1:  # a row is spread over all of it
            if self._kept is None:
                self._kept = self._block(0, self.shape[::-1]).T
            return self._kept[rows]
        if rows is ...:
            return self._block(0, self.shape)
        return self._block(rows.start, (rows.stop - rows.start, *self.shape[1:]))

    def _block(self, start: int, shape: tuple[int, ...]) -> np.ndarray:
        row = math.prod(self.shape[1:]) * self._stored.itemsize
        if self._stream is None:
            self._stream = self._archive.open(self._member)
        self._stream.seek(self._begin + start * row)
        values = np.empty(shape, self._stored)
        data = values.reshape(-1).view(np.uint8).data if values.size else memoryview(b"")
        while data:
            n = self._stream.readinto(data)
            if not n:
                raise EOFError(f"{self._member} ends early")
            data = data[n:]
        return values


def npz_members(path: Path, stack: contextlib.ExitStack) -> dict[str, NpzFields]:
    """All arrays of an archive, of which only headers are read; closed with `stack`."""
    archive = stack.enter_context(zipfile.ZipFile(stack.enter_context(path.open("rb"))))
    names = [n for n in archive.namelist() if n.endswith(".npy")]
    return {n.removesuffix(".npy"): NpzFields(path, archive, n) for n in names}


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"version {version} of the .npy format, of tables with names")
