"""Files that appear whole or not at all, and errors of the file system that say what to do."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import secrets
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sbitools.errors import StoreError

__all__ = [
    "TEMP_SUFFIX", "check_regular", "hash_file", "is_limit", "is_refused", "memory",
    "move_directory", "out_of_reach", "parse_json", "read_file", "read_json", "sync_directory",
    "temporary_name", "typed", "utf8", "write_atomic", "write_new", "write_result",
    "write_table",
]  # fmt: skip

TEMP_SUFFIX = ".tmp"
_BLOCK = 1 << 22
_LONGEST_LINE = 1 << 20
_DEEPEST = 100  # of the JSON that sbitools writes; it nests fewer than ten
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MANY = (errno.EMFILE, errno.ENFILE)
_REFUSED = (errno.EACCES, errno.EPERM, errno.ENOMEM)


@contextlib.contextmanager
def typed(path: Path, nbytes: int = 0) -> Iterator[None]:
    """Turn any `OSError` of the block into a `StoreError` about `path`.

    Args:
        path: file or directory the block works on.
        nbytes: that it writes, for the message about a full disk.
    """
    try:
        yield
    except OSError as error:
        raise out_of_reach(path, error, nbytes) from error


def out_of_reach(path: Path, error: OSError, nbytes: int = 0) -> StoreError:
    """A `StoreError` about a path that the system refuses; arguments as for `typed`."""
    full, many = error.errno in _FULL, error.errno in _MANY
    fix = "correct the path or its permissions"
    if full:
        fix = "free some space"
    elif many:
        fix = "close stores and files that are not used, or raise the limit (ulimit -n),"
    return StoreError(
        str(path),
        expected=_room(nbytes) if full else "a path that can be used",
        got=error.strerror or str(error),
        fix=f"{fix} and run the same command again; what was finished is kept",
    )


def _room(nbytes: int) -> str:
    if not nbytes:
        return "room for it on the disk"
    kilobytes = -(-nbytes // 1000)
    return f"room for {f'{nbytes / 1e6:.1f} MB' if kilobytes >= 1000 else f'{kilobytes} kB'}"


def is_refused(error: BaseException | None) -> bool:
    """Whether the system refused a file to this process, which says nothing about the file."""
    return isinstance(error, OSError) and error.errno in (*_MANY, *_REFUSED)


def is_limit(error: BaseException | None) -> bool:
    """Whether too many files are open."""
    return isinstance(error, OSError) and error.errno in _MANY


def temporary_name(path: Path) -> Path:
    """A hidden name beside `path` that nobody else takes."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMP_SUFFIX}")


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Write `data` aside, fsync, rename to `path` and fsync the directory.

    A link at `path` stays: what it points to is replaced.

    Raises:
        StoreError: if the directory is missing or read-only, the disk is full, a quota or a
            file-size limit is reached, or `path` is a folder, a fifo or a device; the temporary
            file is removed.
    """
    with typed(path):
        path = Path(os.path.realpath(path))
        with contextlib.suppress(FileNotFoundError):
            check_regular(path)
    temp, view = temporary_name(path), memoryview(data).cast("B")
    try:
        with typed(path.parent, view.nbytes):
            write_new(temp, view)
            temp.replace(path)
            sync_directory(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temp.unlink()


def move_directory(temp: Path, path: Path) -> None:
    """Rename the directory `temp` to `path`, which is new or an empty directory, for good.

    Raises:
        StoreError: if `path` is taken or cannot be written.
    """
    with typed(path):
        temp.rename(path)
        sync_directory(path.parent)


def write_new(path: Path, data: bytes | memoryview) -> None:
    """Write and fsync a file that is not there yet.

    Raises:
        OSError: if it is there, or cannot be written whole.
    """
    data = memoryview(data)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        while data:
            data = data[os.write(fd, data) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_directory(folder: Path) -> None:
    """Make renames in `folder` last."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def check_regular(path: Path) -> None:
    """Raise `OSError` unless `path` is a file: a fifo or a device may never come to an end."""
    _check_mode(path.stat().st_mode, path)


def _check_mode(mode: int, path: str | Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "a folder, not a file", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "a fifo, a socket or a device, not a file", str(path))


def _open_regular(path: str | Path, dir_fd: int | None = None) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK, dir_fd=dir_fd)
    try:
        _check_mode(os.fstat(fd).st_mode, path)
    except OSError:
        os.close(fd)
        raise
    return fd


def write_result(path: Path, data: bytes, mark: bytes) -> None:
    """`write_atomic`, over nothing but a result of the same kind.

    Args:
        path: of the file.
        data: to write.
        mark: what results of this kind have in their first 1,000 bytes.

    Raises:
        StoreError: if another file is there, which is left as it is, or the disk refuses.
    """
    head = mark
    with typed(path):
        if path.is_file() and path.stat().st_size > 0:
            with path.open("rb") as stream:
                head = stream.read(1000)
    if mark not in head:
        raise _another(path)
    write_atomic(path, data)


def write_table(path: Path, data: bytes | memoryview) -> None:
    """`write_atomic`, over nothing but a table of the same columns.

    Args:
        path: of the file.
        data: CSV whose first line names the columns, or an .npz archive with ``names``.

    Raises:
        StoreError: if another file is there, which is left as it is, or the disk refuses.
    """
    with typed(path):
        there = path.is_file() and path.stat().st_size > 0
        other = there and _columns_of(path) != _columns_of(io.BytesIO(data))
    if other:
        raise _another(path)
    write_atomic(path, data)


def _columns_of(file: Path | io.BytesIO) -> object:
    """What tells tables of some columns from all other files."""
    try:
        with zipfile.ZipFile(file) as archive:
            return {m.filename: m.CRC if m.filename == "names.npy" else 0
                    for m in archive.infolist()}  # fmt: skip
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        pass
    with file.open("rb") if isinstance(file, Path) else contextlib.nullcontext(file) as stream:
        stream.seek(0)
        return stream.readline(_LONGEST_LINE)


def _another(path: Path) -> StoreError:
    return StoreError(
        str(path), expected="a new file, or an earlier result of this kind to replace",
        got="another file", fix="choose another path; nothing there was changed",
    )  # fmt: skip


def read_file(path: str | Path, *, most: int | None = None, dir_fd: int | None = None) -> bytes:
    """All bytes of a file.

    Args:
        path: of the file.
        most: bytes it may have; the memory of the machine if None.
        dir_fd: open folder that `path` is relative to.

    Raises:
        OSError: if it cannot be read, is no file (a fifo would wait for ever), or is larger.
    """
    with os.fdopen(_open_regular(path, dir_fd), "rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        limit = memory() if most is None else most
        if size > limit:
            raise OSError(errno.EINVAL, f"{size} bytes, more than {limit}", str(path))
        return stream.read()


def memory() -> int:
    """Bytes of memory that the machine has: nothing larger is read at once."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def utf8(data: bytes) -> str:
    """Text in UTF-8, with or without a byte-order mark.

    Raises:
        ValueError: naming the encoding that it seems to be in.
    """
    names = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16",
             b"\xfe\xff": "UTF-16"}  # fmt: skip
    name = next((names[mark] for mark in names if data.startswith(mark)), "")
    if not name and b"\0" in data[:1000]:
        name = "UTF-16 or UTF-32"
    if not name:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            name = f"another encoding, such as Latin-1 ({error})"
    raise ValueError(f"text in {name}")


def read_json(path: Path) -> Any:
    """What an earlier step wrote as JSON.

    Raises:
        StoreError: if it cannot be read.
    """
    try:
        return parse_json(read_file(path))
    except (OSError, ValueError) as error:
        raise StoreError(
            str(path), expected="JSON written by an earlier stage", got=str(error),
            fix="run the stage that writes it again",
        ) from error  # fmt: skip


def parse_json(data: str | bytes, deepest: int = _DEEPEST) -> Any:
    """Plain values of JSON text in UTF-8, with or without a byte-order mark.

    Args:
        data: the text.
        deepest: nesting that is accepted.

    Raises:
        ValueError: for anything else, also for values so deep that Python could not walk them.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        values = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"values nested deeper than {deepest}") from error
    level = [values]
    for _ in range(deepest):
        level = [v for row in level for v in _members(row) if isinstance(v, list | dict)]
        if not level:
            return values
    raise ValueError(f"values nested deeper than {deepest}")


def _members(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def hash_file(path: Path) -> str:
    """sha256 of a file, read in blocks.

    Raises:
        OSError: if it cannot be read, or is no file.
    """
    h, block = hashlib.sha256(), bytearray(_BLOCK)
    with os.fdopen(_open_regular(path), "rb", buffering=0) as file:
        while n := file.readinto(block):
            h.update(memoryview(block)[:n])
    return h.hexdigest()
