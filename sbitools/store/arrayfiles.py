"""Arrays in .npy, .npz and HDF5 files, opened without loading more than is asked for."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sbitools.errors import StoreError

__all__ = ["HDF5", "SUFFIXES", "UNREADABLE", "bad_file", "hdf5_members", "open_array", "open_npz"]

HDF5 = (".h5", ".hdf5", ".hdf")
SUFFIXES = (".npy", ".npz", *HDF5)
UNREADABLE = (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile)


def bad_file(path: Path, expected: str, got: str, fix: str = "") -> StoreError:
    """The error for a file that is not what it should be."""
    return StoreError(
        str(path), expected=expected, got=got, fix=fix or "check that it was copied completely"
    )


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
    path = Path(path)
    with contextlib.ExitStack() as stack:
        try:
            array = _open(path, dataset, prefer, stack)
        except StoreError:
            raise
        except UNREADABLE as error:
            text = str(error) or type(error).__name__
            raise bad_file(path, "a whole array file", text) from error
        if array.dtype.kind not in "fiuc":
            raise bad_file(
                path, "an array of numbers", f"dtype {array.dtype}", "write plain numbers"
            )
        yield array


def _open(path: Path, dataset: str | None, prefer: str, stack: contextlib.ExitStack) -> Any:
    if path.suffix == ".npy":
        return _NpyRows(path)
    if path.suffix == ".npz":
        archive = open_npz(path, stack)
        return archive[_choose(path, list(archive.files), dataset, prefer)]
    if path.suffix in HDF5:
        file = stack.enter_context(h5py.File(path, "r"))
        members = hdf5_members(path, file)
        return members[_choose(path, list(members), dataset, prefer)]
    raise bad_file(path, f"one of {SUFFIXES}", f"suffix {path.suffix!r}", "convert the file")


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
        raise bad_file(path, wanted, f"the file has {sorted(names)[:20]}", "give dataset=")
    return name


def hdf5_members(path: Path, file: Any) -> dict[str, Any]:
    """All datasets of an open HDF5 file, by path.

    Raises:
        StoreError: if one of them lies in another file.
    """
    members: dict[str, Any] = {}

    def walk(group: Any, prefix: str, depth: int) -> None:
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise bad_file(
                    path, "data inside the file", f"the link {prefix}{name}", "copy the data in"
                )
            item = group[name]
            if isinstance(item, h5py.Dataset):
                if item.is_virtual or item.external is not None:
                    raise bad_file(
                        path, "data inside the file", f"{prefix}{name} stored in another file",
                        "copy the data in",
                    )  # fmt: skip
                members[prefix + name] = item
            elif isinstance(item, h5py.Group) and depth < 16:  # hard links may form a ring
                walk(item, f"{prefix}{name}/", depth + 1)

    walk(file, "", 0)
    return members
