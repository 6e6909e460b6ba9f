"""Whatever a stranger's file makes its reader raise becomes one typed error."""

from __future__ import annotations

import contextlib
import errno
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from sbitools.disk.files import check_regular
from sbitools.errors import SbitoolsError, StoreError

__all__ = ["bad_file", "choose", "foreign", "reading", "refuse_name", "require_file"]

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


def refuse_name(path: Path, dataset: str | None, has: str) -> None:
    """Raise `StoreError` if an array is named in a file of a kind that has no names."""
    if dataset:
        raise bad_file(
            path, f"a file with an array {dataset!r}", has,
            "leave the name out, or give the other file",
        )  # fmt: skip


@contextlib.contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turn whatever a damaged file makes its reader raise into a `StoreError`."""
    try:
        yield
    except _UNREADABLE as error:
        raise _unreadable(Path(path), error) from error


@contextlib.contextmanager
def foreign(path: str | Path) -> Iterator[None]:
    """As `reading`, around libraries that raise anything when a file is damaged."""
    try:
        yield
    except SbitoolsError:
        raise
    except Exception as error:
        raise _unreadable(Path(path), error) from error


def _unreadable(path: Path, error: Exception) -> StoreError:
    text = str(error) or type(error).__name__
    # numpy's advice to unpickle what it does not know is not ours
    if "pickle" in text or "Python objects" in text:
        return bad_file(
            path, "an array of numbers", "something else",
            "write plain numbers, for example with numpy.save",
        )  # fmt: skip
    return bad_file(path, "a whole array file", text)


def choose(path: Path, names: list[str], dataset: str | None, prefer: str = "") -> str:
    """One of the names of arrays in a file: `dataset`, or `prefer`, or the only one.

    Raises:
        StoreError: if it is not there, or none is named and there are several.
    """
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
