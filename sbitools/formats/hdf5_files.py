"""Arrays in HDF5 files, read as they are sliced; links out of the file are refused."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sbitools.labels import scale_names

from .fields import Fields
from .heaps import check_heaps
from .reading import bad_file

__all__ = ["Hdf5Fields", "hdf5_members", "open_hdf5"]

_FILLS = ("_FillValue", "missing_value")  # what netCDF writes where nothing was measured
_HEAPS = 1 << 22  # bytes of a file in which texts of attributes usually lie
_MEMBERS = 100_000  # arrays and groups of one HDF5 file


class Hdf5Fields(Fields):
    """An HDF5 dataset; damage may show only when a slice is read."""

    def __init__(self, path: Path, dataset: Any) -> None:
        self._dataset = dataset
        names = scale_names(dataset)
        super().__init__(
            path, dataset.shape or (), dataset.dtype, attrs=dataset.attrs,
            axis_names=names if any(names) else (),
        )  # fmt: skip

    def _read(self, rows: Any) -> np.ndarray:
        values = self._dataset[rows]
        fills = [self.attrs[name] for name in _FILLS if name in self.attrs]
        masked = [np.asarray(values == np.ravel(fill)[0]) for fill in fills]
        if any(m.any() for m in masked):
            return np.ma.masked_array(values, np.any(masked, axis=0))
        return np.asarray(values)


def open_hdf5(path: Path, stack: contextlib.ExitStack) -> h5py.File:
    """The HDF5 file at `path`, closed with `stack`."""
    check_heaps(path, _HEAPS)
    return stack.enter_context(h5py.File(path, "r"))


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
