"""What a store says about itself: ``store.json``, the design it plans, and its lock.

``store.json`` names the design file by its hash, so that both change in one atomic rename when a
campaign is extended.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sbitools.disk.files import (
    TEMP_SUFFIX,
    is_refused,
    out_of_reach,
    parse_json,
    read_file,
    typed,
    write_atomic,
)  # fmt: skip
from sbitools.disk.locks import Taken, flock, held
from sbitools.errors import SbitoolsError, StoreError
from sbitools.parameters import ParameterSpace
from sbitools.simulator import FieldSpec

from .layout import Layout
from .parts import plain_column

__all__ = [
    "DesignTable", "Manifest", "adding", "check_folder", "is_live", "lock", "prepare_folder",
    "stamp",
]  # fmt: skip

SCHEMA = 2
_SCHEMAS = (1, SCHEMA)  # the first one has neither identity nor hash
_FILE = "store.json"
_LARGEST = 64 << 20  # bytes; a thousand parameters need a few hundred thousand
_LOCK = ".lock"
_LOCK_SECONDS = 2.0
_ADDING = ".adding"  # held while one part is checked and written
_ADDING_SECONDS = 300.0  # many jobs of a cluster may add at once, a second each
_DESIGN = re.compile(r"design-[0-9a-f]{16}\.h5")
_TEMP = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")  # see `files.temporary_name`
_OURS = re.compile(rf"{_DESIGN.pattern}|\.lock|\.adding|{_TEMP.pattern}")
_MARKER = re.compile(r"\d+-\d+")  # of a running task


@dataclass(frozen=True)
class DesignTable:
    """What is planned, row by row.

    Args:
        theta: float64, (n, P).
        seeds: int64, (n,).
        groups: int64, (n,); members of one group never part.
    """

    theta: np.ndarray
    seeds: np.ndarray
    groups: np.ndarray

    def image(self) -> memoryview:
        """The table as the bytes of an HDF5 file."""
        buffer = io.BytesIO()
        with h5py.File(buffer, "w", libver=("earliest", "v110")) as file:
            for name in ("theta", "seeds", "groups"):
                file.create_dataset(name, data=getattr(self, name))
        return buffer.getbuffer()

    @classmethod
    def read(cls, path: Path, sha256: str) -> DesignTable:
        """Read and verify.

        Raises:
            StoreError: if the file is gone or its hash differs.
        """
        try:
            image = read_file(path)
        except OSError as error:
            if is_refused(error):
                raise out_of_reach(path, error) from error
            raise _damaged(path, f"no readable file ({error.strerror})") from error
        if (got := hashlib.sha256(image).hexdigest()) != sha256:
            raise _damaged(path, f"sha256 {got[:16]}..., not {sha256[:16]}...")
        try:
            with h5py.File(io.BytesIO(image), "r") as file:
                return cls(**{k: plain_column(file, k) for k in ("theta", "seeds", "groups")})
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            raise _damaged(path, f"a table that cannot be read ({error})") from error


@dataclass(frozen=True)
class Manifest:
    """The contents of ``store.json``.

    Args:
        layout: parameters, output and source.
        seed: of the campaign, None for imported sets.
        design: ``"random"``, ``"sobol"``, ``"latin_hypercube"`` or ``"imported"``.
        segments: how many simulations each call of `simulate` added.
        task_size: simulations in one part.
        group_size: simulations that are made together.
        simulator: its class name or label.
        code_version: of the simulator and of sbitools.
        design_sha256: hash of the design file.
        identity: what the simulator is, see `sbitools.identity`; empty if nobody says.
    """

    layout: Layout
    seed: int | None
    design: str
    segments: tuple[int, ...]
    task_size: int
    group_size: int
    simulator: str = ""
    code_version: str = ""
    design_sha256: str = ""
    identity: Mapping[str, str] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of planned simulations."""
        return sum(self.segments)

    @property
    def design_file(self) -> str:
        """Name of the design file."""
        return f"design-{self.design_sha256[:16]}.h5"

    def tasks(self) -> list[tuple[int, int]]:
        """Ranges (start, stop) of all parts; they depend on nothing but this manifest."""
        out, begin = [], 0
        for size in self.segments:
            cuts = range(begin, begin + size, self.task_size)
            out += [(a, min(a + self.task_size, begin + size)) for a in cuts]
            begin += size
        return out

    def write(self, path: Path, table: DesignTable) -> Manifest:
        """Write design and manifest; return the manifest with the design's hash."""
        image = table.image()
        done = replace(self, design_sha256=hashlib.sha256(image).hexdigest())
        write_atomic(path / done.design_file, image)
        done.write_texts(path)
        for old in path.glob("design-*.h5"):
            if _DESIGN.fullmatch(old.name) and old.name != done.design_file:
                with contextlib.suppress(OSError):
                    old.unlink()
        return done

    def write_texts(self, path: Path) -> None:
        """Write ``store.json`` alone."""
        values = self.to_dict()
        values["sha256"] = _own_digest(values)
        write_atomic(path / _FILE, json.dumps(values, indent=1, sort_keys=True).encode())

    def begin(self, path: Path, table: DesignTable) -> Manifest:
        """As `write`, for a new store; of several processes at once, one begins it.

        Raises:
            StoreError: if another process did, or does.
        """
        with lock(path, exclusive=True):
            if stamp(path) is not None:
                raise _existing(path)
            return self.write(path, table)

    def table(self, path: Path) -> DesignTable:
        """The design of the store at `path`.

        Raises:
            StoreError: if it is damaged, or has another length than this manifest says.
        """
        table = DesignTable.read(path / self.design_file, self.design_sha256)
        lengths = {len(table.theta), len(table.seeds), len(table.groups)}
        if lengths != {self.n}:
            raise _damaged(path / _FILE, f"{self.n} simulations, but a design of {lengths} rows")
        return table

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = {k: v for k, v in self.__dict__.items() if k != "layout"}
        source = self.layout.source
        return values | {
            "kind": "sbitools-store", "schema": SCHEMA, "segments": list(self.segments),
            "parameters": self.layout.parameters.to_dict(),
            "output": self.layout.output.to_dict(),
            "source": source.to_dict() if source else None, "identity": dict(self.identity),
            "origin": self.layout.origin, "stamps": self.layout.digests,
        }  # fmt: skip

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read ``store.json`` of the store at `path`.

        Raises:
            StoreError: if there is none, it is not JSON, or its schema is unknown.
        """
        file = path / _FILE
        try:
            values = parse_json(read_file(file, most=_LARGEST))
        except OSError as error:
            if is_refused(error):
                raise out_of_reach(file, error) from error
            raise StoreError(
                str(path), expected="a simulation store (a directory with store.json)",
                got=f"no readable store.json ({error.strerror})",
                fix="correct the path, or make a store with simulate or import",
            ) from error  # fmt: skip
        except (ValueError, RecursionError) as error:
            raise _damaged(file, f"text that is not JSON ({error})") from error
        if not isinstance(values, dict) or values.get("kind") != "sbitools-store":
            raise _damaged(file, "a file of another kind")
        if (schema := values.get("schema")) not in _SCHEMAS or isinstance(schema, bool):
            raise StoreError(
                str(file), expected=f"schema {SCHEMA}", got=f"schema {schema!r}",
                fix="open it with the version of sbitools that wrote it, or upgrade sbitools",
            )  # fmt: skip
        told = values.pop("sha256", None)
        if (schema != 1 or told is not None) and told != _own_digest(values):
            raise _damaged(file, "text that does not match its own sha256")
        del values["kind"], values["schema"]
        try:
            return cls._from_dict(values)
        except (AttributeError, KeyError, TypeError, ValueError, SbitoolsError) as error:
            raise _damaged(file, f"fields that do not fit ({error})") from error

    @classmethod
    def _from_dict(cls, values: dict[str, Any]) -> Manifest:
        source = values.pop("source")
        layout = Layout(
            ParameterSpace.from_dict(values.pop("parameters")),
            FieldSpec.from_dict(values.pop("output")),
            FieldSpec.from_dict(source) if source else None,
            values.pop("origin", ""), values.pop("stamps", None),
        )  # fmt: skip
        values["segments"] = tuple(values["segments"])
        if min(values["task_size"], values["group_size"], *values["segments"]) < 1:
            raise ValueError("sizes below 1")
        return cls(layout=layout, **values)


def _own_digest(values: Mapping[str, Any]) -> str:
    """sha256 of the content of a ``store.json``."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _damaged(path: Path, got: str) -> StoreError:
    return StoreError(
        str(path), expected="the file that sbitools wrote", got=got,
        fix="restore it from a copy, or make the store again",
    )  # fmt: skip


def stamp(path: Path) -> tuple[int, int] | None:
    """What changes when ``store.json`` is replaced."""
    try:
        status = (path / _FILE).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def prepare_folder(path: Path) -> None:
    """Make an empty store directory; what a killed `create` left behind is accepted.

    Raises:
        StoreError: if there is a store, or something else, at `path`, or it cannot be written.
    """
    with typed(path):
        check_folder(path, accepted=_left_behind)
        (path / "parts").mkdir(parents=True, exist_ok=True)


def _left_behind(entry: Path) -> bool:
    if entry.name == "parts" and entry.is_dir():
        return not any(entry.iterdir())
    return entry.is_file() and _OURS.fullmatch(entry.name) is not None


def check_folder(
    path: Path, here: Path | None = None, accepted: Callable[[Path], bool] = lambda entry: False
) -> None:
    """Raise `StoreError` unless a store can be made at `path`.

    Args:
        path: of the future store.
        here: the current directory if `path` is to be replaced: it cannot be that.
        accepted: says which entries it may have.
    """
    with typed(path):
        taken = path == here or (path.exists() and not path.is_dir())
        entries = sorted(path.iterdir()) if path.is_dir() else []
        foreign = [entry.name for entry in entries if not accepted(entry)]
    if _FILE in foreign:
        raise _existing(path)
    if foreign or taken:
        other = "the current one" if path == here else "a file"
        raise StoreError(
            str(path), expected="a new or empty directory", got=f"{foreign[:3] or other}",
            fix="choose another path",
        )  # fmt: skip


def _existing(path: Path) -> StoreError:
    return StoreError(
        str(path), expected="a path without a store", got="an existing store",
        fix="open it with SimulationStore.open, or choose another path",
    )  # fmt: skip


@contextlib.contextmanager
def lock(path: Path, *, exclusive: bool) -> Iterator[None]:
    """Hold the store's lock: exclusive for a campaign, shared for those who add results.

    The kernel drops it when the process ends, however it ends.

    Raises:
        StoreError: if a campaign (or, for a campaign, anyone) holds it, or `path` cannot be
            written.
    """
    with _holding(path, _LOCK, exclusive, _LOCK_SECONDS):
        if exclusive:
            _clean(path)
        try:
            yield
        finally:
            if exclusive:  # a worker may have been killed while it wrote
                with contextlib.suppress(StoreError):
                    _clean(path)


@contextlib.contextmanager
def adding(path: Path) -> Iterator[None]:
    """Hold the right to add a part: beside other readers of the lock, one process at a time.

    What is there is looked at and added to within the block, so that two processes that add the
    same simulation do so one after the other.

    Raises:
        StoreError: if a campaign holds the store's lock, others add for minutes, or `path` cannot
            be written.
    """
    with (
        lock(path, exclusive=False),
        _holding(path, _ADDING, True, _ADDING_SECONDS, keep=False),
    ):
        yield


@contextlib.contextmanager
def _holding(
    path: Path, name: str, exclusive: bool, seconds: float, keep: bool = True
) -> Iterator[None]:  # fmt: skip
    with contextlib.ExitStack() as stack:
        try:
            with typed(path):
                stack.enter_context(
                    held(path / name, exclusive=exclusive, seconds=seconds, keep=keep)
                )
        except Taken as taken:
            what = "a campaign or import at work" if exclusive else "a running campaign"
            raise StoreError(
                str(path), expected="no other process writing to this store",
                got=f"{what} ({taken.owner})", fix="wait for it or stop it, then run again",
            ) from taken  # fmt: skip
        yield


def _clean(path: Path) -> None:
    """Remove what a killed writer left: nobody else writes while we hold the lock."""
    with typed(path):
        left = [f for f in path.glob(f".*{TEMP_SUFFIX}") if _TEMP.fullmatch(f.name)]
        left += (path / "parts").glob(f".*{TEMP_SUFFIX}")
        left += [f for f in (path / "running").glob("*") if _MARKER.fullmatch(f.name)]
        for file in left:
            file.unlink(missing_ok=True)


def is_live(path: Path) -> bool:
    """True while a campaign holds the lock of the store at `path`."""
    try:
        fd = os.open(path / _LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not flock(fd, exclusive=False)
    finally:
        os.close(fd)
