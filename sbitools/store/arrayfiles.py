"""Arrays in .npy, .npz and HDF5 files, opened without loading more than is asked for."""

from __future__ import annotations

import contextlib
import errno
import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sbitools.errors import StoreError
from sbitools.files import check_regular, memory
from sbitools.plain import as_path

from .heaps import check_heaps

__all__ = ["HDF5", "SUFFIXES", "bad_file", "hdf5_members", "open_array", "open_hdf5", "open_npz",
           "reading", "require_file"]  # fmt: skip

HDF5 = (".h5", ".hdf5", ".hdf")
_FILLS = ("_FillValue", "missing_value")  # what netCDF writes where nothing was measured
SUFFIXES = (".npy", ".npz", *HDF5)
_HEAPS = 1 << 22  # bytes of a file in which texts of attributes usually lie
_MEMBERS = 100_000  # arrays and groups of one HDF5 file
_UNREADABLE = (
    OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError, OverflowError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def bad_file(path: Path, expected: str, got: str, fix: str = "") -> StoreError:
    """The error for a file that is not what it should be."""
    return StoreError(
        str(path), expected=expected, got=got, fix=fix or "check that it was copied completely"
    )


def require_file(path: Path, expected: str) -> None:
    """Raise `StoreError` unless there is a file at `path`: a fifo may never come to an end."""
    try:
        check_regular(path)
    except OSError as error:
        there = error.errno not in (errno.ENOENT, errno.ENOTDIR)
        got = (error.strerror or str(error)) if there else "no such file"
        raise bad_file(path, expected, got, "correct the path") from error


@contextlib.contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turn whatever a damaged file makes its reader raise into a `StoreError`."""
    try:
        yield
    except _UNREADABLE as error:
        text = str(error) or type(error).__name__
        # numpy's advice to unpickle what it does not know is not ours
        if "pickle" in text or "Python objects" in text:
            raise bad_file(
                Path(path), "an array of numbers", "something else",
                "write plain numbers, for example with numpy.save",
            ) from error  # fmt: skip
        raise bad_file(Path(path), "a whole array file", text) from error


class _Hdf5Rows:
    """Rows of an HDF5 dataset; damage may show only when a slice is read."""

    def __init__(self, path: Path, dataset: Any) -> None:
        self._path, self._dataset = path, dataset
        self.shape, self.dtype, self.attrs = dataset.shape, dataset.dtype, dataset.attrs
        self.dims = dataset.dims

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        with reading(self._path):
            n = len(range(*rows.indices(len(self)))) if isinstance(rows, slice) else 1
            shape = self.shape if rows is ... or isinstance(rows, tuple) else (n, *self.shape[1:])
            if math.prod(shape) * self.dtype.itemsize > memory():  # a small file claims any size
                raise ValueError(f"shape {shape}, more than the memory holds")
            values = self._dataset[rows]
            fills = [self.attrs[name] for name in _FILLS if name in self.attrs]
            masked = [np.asarray(values == np.ravel(fill)[0]) for fill in fills]
        if any(m.any() for m in masked):
            return np.ma.masked_array(values, np.any(masked, axis=0))
        return values


class _NpyRows:
    """Rows of an .npy file; the file is mapped for each slice only, so memory does not grow."""

    def __init__(self, path: Path) -> None:
        self._path = path
        array = self._map()
        self.shape, self.dtype = array.shape, array.dtype

    def _map(self) -> np.ndarray:
        array = np.load(self._path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            array.close()
            raise ValueError("an archive, not an array")
        return array

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        with reading(self._path):
            return np.array(self._map()[rows])


@contextlib.contextmanager
def open_array(path: str | Path, dataset: str | None = None, prefer: str = "") -> Iterator[Any]:
    """An array with shape, dtype, length and slices: .npy and HDF5 are read as they are sliced.

    Args:
        path: .npy, .npz, .h5, .hdf5 or .hdf file.
        dataset: name in an .npz or HDF5 file; None for the only one there.
        prefer: name to take when `dataset` is None and there are several.

    Raises:
        StoreError: for a damaged, truncated or foreign file, a missing name, dtypes that are not
            numbers (they would need pickle), and HDF5 links out of the file.
    """
    path = as_path(path)
    require_file(path, "an array file")
    with contextlib.ExitStack() as stack:
        with reading(path):
            array = _open(path, dataset, prefer, stack)
        if array.dtype.kind not in "fiuc":
            raise bad_file(
                path, "an array of numbers", f"dtype {array.dtype}", "write plain numbers"
            )
        yield array


def _open(path: Path, dataset: str | None, prefer: str, stack: contextlib.ExitStack) -> Any:
    if path.suffix.lower() == ".npy":
        if dataset:
            raise bad_file(
                path, f"an .npz or HDF5 file with an array {dataset!r}", "an .npy file, which has "
                "one array and no names", "leave the name out, or give the other file",
            )  # fmt: skip
        return _NpyRows(path)
    if path.suffix.lower() == ".npz":
        archive = open_npz(path, stack)
        return archive[_choose(path, list(archive.files), dataset, prefer)]
    if path.suffix.lower() in HDF5:
        file = open_hdf5(path, stack)
        members = hdf5_members(path, file)
        return _Hdf5Rows(path, members[_choose(path, list(members), dataset, prefer)])
    raise bad_file(path, f"one of {SUFFIXES}", f"suffix {path.suffix!r}", "convert the file")


def open_hdf5(path: Path, stack: contextlib.ExitStack) -> h5py.File:
    """The HDF5 file at `path`, closed with `stack`."""
    check_heaps(path, _HEAPS)
    return stack.enter_context(h5py.File(path, "r"))


def open_npz(path: Path, stack: contextlib.ExitStack) -> Any:
    """The archive at `path`, closed with `stack` (also if it is damaged)."""
    archive = np.load(stack.enter_context(path.open("rb")), allow_pickle=False)
    if isinstance(archive, np.ndarray):
        raise ValueError("a single array, not an archive")
    return stack.enter_context(archive)


def _choose(path: Path, names: list[str], dataset: str | None, prefer: str) -> str:
    if dataset is None and prefer in names:
        return prefer
    if dataset is None and len(names) == 1:
        return names[0]
    name = dataset.strip("/") if dataset else None
    if name is None or name not in names:
        wanted = "the name of one array" if name is None else f"an array called {name!r}"
        raise bad_file(path, wanted, f"the file has {sorted(names)[:20]}",
                       "name it: dataset=..., or --dataset on the command line")  # fmt: skip
    return name


def hdf5_members(path: Path, file: Any) -> dict[str, Any]:
    """All datasets of an open HDF5 file, by path; a group with several names has the first.

    Raises:
        StoreError: if one of them lies in another file, or there are far too many.
    """
    members: dict[str, Any] = {}
    todo, seen = [("", file)], set()
    while todo:
        prefix, group = todo.pop()
        address = h5py.h5o.get_info(group.id).addr  # pyright: ignore[reportAttributeAccessIssue]
        if address in seen:  # hard links may form a ring
            continue
        seen.add(address)
        if len(seen) + len(members) + len(group) > _MEMBERS:
            raise bad_file(path, f"at most {_MEMBERS} arrays", "more", "write a file of its own")
        for name in group:
            item = _member(path, group, prefix, name)
            if isinstance(item, h5py.Dataset):
                members[prefix + name] = item
            elif isinstance(item, h5py.Group):
                todo.append((f"{prefix}{name}/", item))
    return members


def _member(path: Path, group: Any, prefix: str, name: str) -> Any:
    """What lies in the file under a name."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise bad_file(
            path, "data inside the file", f"the link {prefix}{name}", "copy the data in"
        )
    item = group[name]
    if isinstance(item, h5py.Dataset) and (item.is_virtual or item.external is not None):
        raise bad_file(
            path, "data inside the file", f"{prefix}{name} stored in another file",
            "copy the data in",
        )  # fmt: skip
    return item
