"""A fingerprint of files that may be huge: a changed file is noticed without reading all of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from sbitools.disk.files import check_regular, typed
from sbitools.gate.plain import as_path

from .patterns import find_files
from .reading import bad_file

__all__ = ["fingerprint"]

_BLOCK = 1 << 16
_MOST = 66 * _BLOCK  # bytes of one file: 64 blocks, head and tail
_ALL = 64 * _MOST  # bytes of all files together, if they are many
_SMALL = 1 << 14  # bytes of each that are read at least, in blocks of a quarter of it


def fingerprint(path: str | Path) -> str:
    """sha256 over the sizes of files and blocks from all over them, in natural order.

    Files of up to 4 MB are read whole, of others head, tail and 64 blocks of 64 kB between them;
    of very many files fewer each. Names and times do not count.

    Args:
        path: a file, a folder or a pattern, as for `open_fields`.

    Raises:
        StoreError: if there is no such file, or one cannot be read.
    """
    path = as_path(path)
    found = find_files(path)
    if found is not None:
        files = list(found.paths)
    elif path.is_dir():  # of Zarr: many files that belong together
        files = sorted(p for p in path.rglob("*") if p.is_file())
    else:
        files = [path]
    h = hashlib.sha256()
    most = max(_SMALL, min(_MOST, _ALL // max(1, len(files))))
    for file in files:
        with typed(file):
            if not file.exists():
                raise bad_file(file, "a file", "no such file", "correct the path")
            check_regular(file)
            _add(h, file, most)
    return h.hexdigest()


def _add(h: hashlib._Hash, file: Path, most: int) -> None:
    with file.open("rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        h.update(size.to_bytes(8, "little"))
        if size <= most:
            while data := stream.read(_BLOCK):
                h.update(data)
            return
        block = _BLOCK if most >= 4 * _BLOCK else _SMALL // 4
        count = max(2, most // block)
        for start in np.linspace(0, size - block, count).astype(np.int64).tolist():
            stream.seek(start)
            h.update(stream.read(block))
