"""One file per simulation: which files a pattern or a folder means, in the order of a number."""

from __future__ import annotations

import glob
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sbitools.disk.files import typed

from .reading import bad_file, reading
from .suffixes import ARRAYS, ZARR, suffix_of

__all__ = ["Files", "find_files", "is_pattern"]

_FIELD = re.compile(r"\{index(?::0?(\d*)d?)?\}")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Files:
    """Files of simulations, in ascending order of the number in their names.

    Args:
        paths: of the files.
        indices: that number, int64, (n,).
    """

    paths: tuple[Path, ...]
    indices: np.ndarray


def is_pattern(path: Path) -> bool:
    """Whether a path stands for several files; one that is there stands for itself."""
    return not path.exists() and bool(set("*?[") & set(str(path)) or _FIELD.search(str(path)))


def find_files(path: Path) -> Files | None:
    """The files that a pattern or a folder stands for; None if it is one file.

    Raises:
        StoreError: if there are none; if their names do not differ in exactly one number; if two
            have the same number, or a number is missing; a folder with files of several kinds.
    """
    with reading(path):
        if path.is_dir() and suffix_of(path) not in ZARR:
            return _numbered(path, _in_folder(path))
        if not is_pattern(path):
            return None
        if _FIELD.search(str(path)):
            return _with_field(path)
        return _numbered(path, [Path(p) for p in _matches(str(path))])


def _in_folder(folder: Path) -> list[Path]:
    with typed(folder):
        found = [p for p in folder.iterdir() if not p.name.startswith(".")]
    files = [p for p in found if suffix_of(p) in ARRAYS]
    kinds = sorted({suffix_of(p) for p in files})
    if len(kinds) > 1:
        raise bad_file(
            folder, "files of one kind", f"files that end in {', '.join(kinds)}",
            f"say which: {folder}/*{kinds[0]}",
        )  # fmt: skip
    return files


def _matches(pattern: str) -> list[str]:
    """Names that fit, relative as the pattern is, without hidden ones."""
    return glob.glob(pattern, recursive=True)  # noqa: PTH207


def _with_field(path: Path) -> Files:
    """Files of a pattern with ``{index}``, which may be there more than once."""
    text, expression, wild = str(path), "", ""
    at, named = 0, False
    for found in _FIELD.finditer(text):
        plain = text[at : found.start()]
        width = int(found[1] or 1)
        number = "(?P=index)" if named else rf"(?P<index>\d{{{width},}})"
        expression += _translated(plain) + number
        wild += plain + "*"
        at, named = found.end(), True
    expression += _translated(text[at:])
    wild += text[at:]
    indices: dict[Path, int] = {}
    for name in _matches(wild):
        if match := re.fullmatch(expression, name):
            indices[Path(name)] = int(match["index"])
    return _in_order(path, indices)


def _translated(plain: str) -> str:
    parts = re.split(r"(\*|\?)", plain)
    return "".join({"*": "[^/]*", "?": "[^/]"}.get(part, re.escape(part)) for part in parts)


def _numbered(path: Path, files: list[Path]) -> Files:
    """Files whose names differ in exactly one number."""
    words = {file: tuple(_NUMBER.split(str(file))) for file in files}
    usual = max(counts := Counter(words.values()), key=lambda w: counts[w], default=None)
    odd = [file for file in files if words[file] != usual]
    if odd:
        raise bad_file(
            path, "names that differ in one number alone",
            f"{odd[0].name} beside {next(f for f in files if words[f] == usual).name}",
            "use a pattern that fits the simulations alone, for example sims/run_{index}.npy",
        )  # fmt: skip
    numbers = {file: [int(n) for n in _NUMBER.findall(str(file))] for file in files}
    columns = list(zip(*numbers.values(), strict=True))
    varying = [i for i, column in enumerate(columns)
               if len(set(column)) > 1 and column not in columns[:i]]  # fmt: skip
    inside = len(_NUMBER.findall(str(_fixed(path))))  # numbers that the folder's name has
    if not varying and len(columns) > inside:
        varying = [len(columns) - 1]  # a single file, or one number written in several ways
    if files and len(varying) != 1:
        got = f"{len(varying)} numbers that differ" if varying else "no number"
        raise bad_file(
            path, "names that differ in one number alone", f"{got}, as in {files[0].name}",
            "say which number counts the simulations, for example sims/run_{index}_*.npy",
        )  # fmt: skip
    return _in_order(path, {file: numbers[file][varying[0]] for file in files})


def _fixed(path: Path) -> Path:
    """The part of a path without wildcards."""
    if path.is_dir():
        return path
    parts = list(path.parts)
    wild = next((i for i, part in enumerate(parts) if set("*?[") & set(part)), len(parts))
    return Path(*parts[:wild])


def _in_order(path: Path, indices: dict[Path, int]) -> Files:
    if not indices:
        raise bad_file(path, "files of simulations", "none", "correct the folder or the pattern")
    files = sorted(indices, key=lambda file: (indices[file], str(file)))
    numbers = np.array([indices[file] for file in files], np.int64)
    steps = np.diff(numbers)
    if (steps == 0).any():
        i = int(np.argmax(steps == 0))
        raise bad_file(
            path, "one file per simulation", f"{files[i]} and {files[i + 1]}, both number "
            f"{numbers[i]}", "remove one of them",
        )  # fmt: skip
    if (steps > 1).any():
        i = int(np.argmax(steps > 1))
        missing = int((steps - 1).sum())
        raise bad_file(
            path, f"a file for every number from {numbers[0]} to {numbers[-1]}",
            f"{missing} missing, the first number {numbers[i] + 1}, after {files[i]}",
            "make them again, or move the others to a folder of their own and number them anew, "
            "as the rows of the table",
        )  # fmt: skip
    return Files(tuple(files), numbers)
