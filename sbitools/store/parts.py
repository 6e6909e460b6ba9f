"""Part files: immutable HDF5 with some simulations of one campaign, in index order.

A part is called ``part-<start>-<stop>-<sha256 of the file, 16 digits>.h5``. It is built in memory,
written aside, fsynced and renamed, so that data and hash become visible together: a reader sees a
whole part or none. Equal simulations give equal bytes (no times, no host names). The arrays have
dimension scales, so that ``xarray.open_dataset(part, engine="h5netcdf")`` opens a part on its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sbitools.disk.files import (
    check_regular,
    hash_file,
    is_refused,
    out_of_reach,
    typed,
    write_atomic,
)  # fmt: skip
from sbitools.errors import StoreError
from sbitools.formats.heaps import check_heaps

from .layout import COLUMNS, Layout

__all__ = [
    "DONE", "FAILED", "PENDING", "REJECTED", "STATES", "Part", "PartData",
    "PartMeta", "RejectedSimulation", "plain_column", "row_digests", "write_part",
]  # fmt: skip

PENDING, DONE, FAILED, REJECTED = 0, 1, 2, 3
STATES = ("pending", "done", "failed", "rejected")
_SCHEMA = 1
_NAME = re.compile(r"part-(\d{8,})-(\d{8,})-([0-9a-f]{16})\.h5")
_MESSAGE_BYTES = 4000  # of a traceback; its last lines say what happened
_UNREADABLE = (
    OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, MemoryError,
)  # fmt: skip


class RejectedSimulation(Exception):
    """Raise in a simulator to reject a draw on physical grounds: the prior is then truncated."""


@dataclass
class PartData:
    """Simulations `start` to `start + len(state)`, rows in index order.

    Args:
        start: index of the first.
        theta: float64, (n, P).
        seeds: int64, (n,).
        state: uint8, (n,), codes of `STATES`; never pending.
        errors: n messages, empty for done simulations.
        x: (n, *output.shape); rows that are not done are overwritten with NaN or zeros.
        source: (n, *source.shape), or None.
    """

    start: int
    theta: np.ndarray
    seeds: np.ndarray
    state: np.ndarray
    errors: list[str]
    x: np.ndarray
    source: np.ndarray | None = None

    @property
    def stop(self) -> int:
        """One past the last index."""
        return self.start + len(self.state)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """``x`` and, if there is one, ``source``."""
        return {"x": self.x} | ({} if self.source is None else {"source": self.source})


@dataclass(frozen=True)
class PartMeta:
    """The small columns of a part: everything but the fields."""

    start: int
    stop: int
    theta: np.ndarray
    seeds: np.ndarray
    state: np.ndarray
    errors: list[str]
    digests: np.ndarray


def row_digests(data: PartData) -> np.ndarray:
    """sha256 of what each simulation gave, uint8, shape (n, 32).

    That is the bytes of x and source of a done simulation, or state and message of another.
    """
    out = np.zeros((len(data.state), 32), np.uint8)
    for i, state in enumerate(data.state):
        h = hashlib.sha256(bytes([state]))
        if state == DONE:
            for array in data.arrays.values():
                h.update(np.ascontiguousarray(array[i]).view(np.uint8).data)
        else:
            h.update(_encode(data.errors[i]))
        out[i] = np.frombuffer(h.digest(), np.uint8)
    return out


def _encode(message: str) -> bytes:
    return message.encode("utf-8", "replace")[-_MESSAGE_BYTES:].rstrip(b"\0")


def plain_column(file: Any, name: str) -> np.ndarray:
    """A dataset that lies in `file` as it is, so that it is no larger than the file.

    Raises:
        ValueError: for links, packed or virtual datasets, and dtypes that are no plain values.
        KeyError: if there is none.
    """
    column = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(column, h5py.Dataset) or column.dtype.kind not in "fiuS":
        raise ValueError(f"{name!r} is no plain column")
    if column.chunks or column.is_virtual or column.external is not None:
        raise ValueError(f"{name!r} is packed, or lies in another file")
    if column.nbytes > column.id.get_storage_size():
        raise ValueError(f"{name!r} is larger than the file")
    return column[()]


def _meta_digest(columns: Mapping[str, np.ndarray]) -> str:
    h = hashlib.sha256()
    for name in COLUMNS:
        h.update(np.ascontiguousarray(columns[name]).tobytes())
    return h.hexdigest()


def write_part(
    folder: Path, layout: Layout, data: PartData, digests: np.ndarray | None = None
) -> Path:
    """Write one part and return its path; an equal part that is there already is left alone.

    Args:
        folder: the store's ``parts`` directory.
        layout: specifications.
        data: simulations, already checked.
        digests: their `row_digests`, if they are known.

    Raises:
        StoreError: if the disk is full or `folder` cannot be written; nothing is left behind.
    """
    for array in data.arrays.values():
        if (data.state != DONE).any():
            array[data.state != DONE] = np.nan if array.dtype.kind in "fc" else 0
    image = _build(layout, data, row_digests(data) if digests is None else digests)
    digest = hashlib.sha256(image).hexdigest()[:16]
    path = folder / f"part-{data.start:08d}-{data.stop:08d}-{digest}.h5"
    with typed(folder):
        known = path.exists()
    if not known:
        write_atomic(path, image)
    return path


def _build(layout: Layout, data: PartData, digests: np.ndarray) -> memoryview:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=("earliest", "v110")) as file:
        _write_columns(file, layout, data, digests)
        for name, array in data.arrays.items():
            spec = layout.fields[name]
            fld = file.create_dataset(layout.variables[name], data=array, dtype=spec.dtype)
            fld.attrs["units"], fld.attrs["long_name"] = spec.unit, spec.name
            _attach(file, fld, ("simulation", *layout.axes[name]))
        file.attrs.update(layout.digests)
        if layout.origin:
            file.attrs["simulator_sha256"] = layout.origin
        file.attrs["kind"], file.attrs["schema"] = "sbitools-part", _SCHEMA
        columns = {name: plain_column(file, name) for name in COLUMNS}
        file.attrs["metadata_sha256"] = _meta_digest(columns)
    return buffer.getbuffer()


def _write_columns(file: Any, layout: Layout, data: PartData, digests: np.ndarray) -> None:
    errors = np.array([_encode(e) for e in data.errors] or [b""])
    columns = {
        "simulation": np.arange(data.start, data.stop, dtype=np.int64),
        "theta": np.asarray(data.theta, np.float64),
        "seed": np.asarray(data.seeds, np.int64),
        "state": np.asarray(data.state, np.uint8),
        "error": errors if errors.dtype.itemsize else errors.astype("S1"),
        "sha256": digests,
    }
    for name, values in columns.items():
        file.create_dataset(name, data=values)
    file["simulation"].make_scale("simulation")
    file["state"].attrs["flag_values"] = np.array([DONE, FAILED, REJECTED], np.uint8)
    file["state"].attrs["flag_meanings"] = "done failed rejected"
    names = json.dumps(layout.parameters.names)
    if len(names) < 60_000:  # HDF5 keeps attributes of up to 64 kB
        file["theta"].attrs["names"] = names
    for name in ("seed", "state", "error"):
        _attach(file, file[name], ("simulation",))
    _attach(file, file["theta"], ("simulation", "parameter"))
    _attach(file, file["sha256"], ("simulation", "byte"))


def _attach(file: Any, dataset: Any, dims: Sequence[str]) -> None:
    for axis, (name, size) in enumerate(zip(dims, dataset.shape, strict=True)):
        if name not in file:  # an axis without coordinates, in the netCDF-4 convention
            scale = file.create_dataset(name, shape=(size,), dtype=">f4")
            scale.make_scale(f"This is a netCDF dimension but not a netCDF variable. {size:>9}")
        dataset.dims[axis].attach_scale(file[name])


class Part:
    """One part file, opened for reading.

    Args:
        path: of the file.
        layout: what the store expects.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise _foreign(path, f"a file called {path.name!r}")
        self.path, self.layout = path, layout
        self.start, self.stop, self.sha16 = int(match[1]), int(match[2]), match[3]

    def meta(self) -> PartMeta:
        """Read the small columns and check them against their own hash and the layout.

        Raises:
            StoreError: for a truncated, damaged or foreign file.
        """
        with self._reading() as file:
            return self._meta(file)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Any]:
        """The file, open; whatever a damaged one makes its reader raise is a `StoreError`."""
        try:
            check_regular(self.path)  # a pipe would keep us waiting, and a heap without an end
            check_heaps(self.path, self._small)
            with h5py.File(self.path, "r") as file:
                yield file
        except _UNREADABLE as error:
            if isinstance(error, OSError) and is_refused(error):
                raise out_of_reach(self.path, error) from error
            raise self._damaged(f"a file that HDF5 cannot read ({error})") from error

    @property
    def _small(self) -> int:
        """Bytes of a part before its fields, or more."""
        return (1 << 18) + (self.stop - self.start) * 8 * (8 + len(self.layout.parameters))

    def _meta(self, file: Any) -> PartMeta:
        if file.attrs.get("kind") != "sbitools-part" or file.attrs.get("schema") != _SCHEMA:
            raise _foreign(self.path, "an HDF5 file of another kind or schema")
        for name, expected in self.layout.digests.items():
            if file.attrs[name] != expected:
                raise _foreign(self.path, f"a part with another {name.removesuffix('_sha256')}")
        if file.attrs.get("simulator_sha256", "") != self.layout.origin:
            raise _foreign(self.path, "a part of another simulator")
        column = {name: self._column(file, name) for name in COLUMNS}
        if file.attrs["metadata_sha256"] != _meta_digest(column):
            raise self._damaged("columns that do not match their sha256")
        if not np.array_equal(column["simulation"], np.arange(self.start, self.stop)):
            raise self._damaged("other simulations than its name says")
        if not np.isin(column["state"], (DONE, FAILED, REJECTED)).all():
            raise self._damaged("states that do not exist")
        errors = [e.decode("utf-8", "replace") for e in column["error"]]
        return PartMeta(
            self.start, self.stop, column["theta"], column["seed"], column["state"], errors,
            column["sha256"],
        )  # fmt: skip

    def offset(self, what: str) -> int:
        """Where in the file the first row of `what` begins, in bytes.

        Fields are one contiguous block each, so rows are read without HDF5, at disk speed.
        """
        with self._reading() as file:
            fld, spec = self._field(file, what), self.layout.fields[what]
            offset = fld.id.get_offset()
            size = offset + (self.stop - self.start) * spec.nbytes if offset else -1
            if not 0 < size <= self.path.stat().st_size:
                raise self._damaged(f"no complete field {what!r}")
            return offset

    def _field(self, file: Any, what: str) -> Any:
        """The dataset of x or source, which is to lie in this file as it was written."""
        name, spec = self.layout.variables[what], self.layout.fields[what]
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            raise self._damaged(f"no field {what!r} in it")
        fld, shape = file[name], (self.stop - self.start, *spec.shape)
        elsewhere = fld.is_virtual or fld.external is not None
        if elsewhere or fld.shape != shape or fld.dtype != np.dtype(spec.dtype):
            raise self._damaged(f"another field {what!r}: shape {fld.shape}, {fld.dtype}")
        return fld

    def _column(self, file: Any, name: str) -> np.ndarray:
        """One of the small columns, if it is of the shape and kind that a part has."""
        n, column = self.stop - self.start, plain_column(file, name)
        shape = {"theta": (n, len(self.layout.parameters)), "sha256": (n, 32)}.get(name, (n,))
        kind = {"theta": "f", "error": "S", "state": "u", "sha256": "u"}.get(name, "i")
        fits = column.shape == shape and column.dtype.itemsize <= _MESSAGE_BYTES
        if not fits or column.dtype.kind != kind:
            raise self._damaged(f"column {name}: {column.dtype}, shape {column.shape}")
        return column

    def verify(self) -> None:
        """Read the whole file and compare its sha256 with its name.

        Raises:
            StoreError: if one bit differs or the file is gone.
        """
        try:
            got = hash_file(self.path)[:16]
        except OSError as error:
            if is_refused(error):
                raise out_of_reach(self.path, error) from error
            raise self._damaged(f"an unreadable file ({error})") from error
        if got != self.sha16:
            raise self._damaged(f"sha256 {got}...")

    def verify_rows(self) -> None:
        """Compare each simulation with the sha256 that the part has of it.

        Raises:
            StoreError: if one differs: the file was made by another program.
        """
        meta = self.meta()
        with self._reading() as file:
            fields = {what: self._field(file, what)[()] for what in self.layout.fields}
        data = PartData(meta.start, meta.theta, meta.seeds, meta.state, meta.errors, **fields)
        done = meta.state == DONE
        if (row_digests(data)[done] != meta.digests[done]).any():
            raise self._damaged("fields that do not match the sha256 of their simulations")

    def _damaged(self, got: str) -> StoreError:
        return StoreError(
            f"part {self.path.name}", expected=f"a whole file with sha256 {self.sha16}...",
            got=got, fix=f"delete {self.path} and run the campaign again: only its simulations "
            "are repeated; or restore it from a copy",
        )  # fmt: skip


def _foreign(path: Path, got: str) -> StoreError:
    return StoreError(
        f"part {path.name}", expected="a part file of this store", got=got,
        fix=f"move {path} out of the store",
    )  # fmt: skip
