"""The files that a command names: a program that is corrected is another simulator.

The program itself and every argument that is a file count by their content, as the functions of
a user count by their code. What the system or this Python brings counts by its name, as libraries
do, so that its upgrade changes nothing; so does what a program reads without being told.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from sbitools.disk.files import hash_file
from sbitools.errors import CampaignError

__all__ = ["CodeFiles", "find_program"]

_SYSTEM = ("/bin", "/sbin", "/lib", "/usr")
_OWN = "/usr/local"  # where users install what they compiled
_PYTHON = re.compile(r"(python|pypy)[\d.]*")

_Signature = tuple[int, int, int]


def find_program(name: str, cwd: Path) -> str:
    """The path of a program, found as a shell finds it.

    Args:
        name: first word of a command.
        cwd: from where a relative path counts.

    Raises:
        CampaignError: if there is none, or it cannot be executed.
    """
    path = cwd / Path(name).expanduser() if "/" in name else None
    found = shutil.which(name if path is None else str(path))
    if found is not None:
        return str(cwd / found)
    file = path if path is not None else cwd / name
    got, fix = "no such program", "correct the name, or give its whole path"
    if file.is_dir():
        got = "a folder"
    elif file.exists() and path is not None:
        got, fix = "a file that may not be executed", f"chmod +x {name}, or name what runs it: "
        fix += f"python {name} ..., sh {name} ..."
    elif file.exists():
        got, fix = f"a file of the current folder, which is not on PATH: {name}", f"./{name}"
    raise CampaignError(f"program {name!r} of the command", expected="one that can be executed",
                        got=got, fix=fix)  # fmt: skip


class CodeFiles:
    """The files of a command, as they are when asked.

    Args:
        program: path of the program.
        words: of the command.
        cwd: from where relative paths count.
    """

    def __init__(self, program: str, words: Sequence[str], cwd: Path) -> None:
        self._paths: dict[str, Path] = {}
        if not _is_library(Path(program)):
            self._paths[f"program {words[0]}"] = Path(program)
        for word in words[1:]:
            for part in _parts(word):
                if (file := _file(cwd, part)) is not None:
                    self._paths[f"file {part}"] = file
        for file in _module(words, cwd):
            self._paths[f"file {file.relative_to(cwd)}"] = file
        self._seen: dict[str, tuple[_Signature, str]] = {}

    def digests(self) -> dict[str, str]:
        """sha256 of each file that can be read, by a name for messages; they are remembered."""
        self._seen = {name: row for name, path in self._paths.items()
                      if (row := _look(path)) is not None}  # fmt: skip
        return {name: digest for name, (_, digest) in self._seen.items()}

    def changed(self) -> list[str]:
        """Names of the files that are not what `digests` last saw."""
        found = []
        for name, (signature, digest) in self._seen.items():
            if _signature(self._paths[name]) == signature:
                continue
            now = _look(self._paths[name])
            if now is None or now[1] != digest:
                found.append(name)
            else:
                self._seen[name] = now
        return found


def _is_library(path: Path) -> bool:
    """Whether a program counts by its name."""
    path = path.resolve()
    home = Path(sys.executable).resolve().parent
    if _PYTHON.fullmatch(path.name) or path.is_relative_to(home):
        return True
    return any(map(path.is_relative_to, _SYSTEM)) and not path.is_relative_to(_OWN)


def _parts(word: str) -> list[str]:
    """What of an argument may be a file: itself, a value, words of a script for a shell."""
    parts = [word, word.partition("=")[2]]
    if any(c.isspace() for c in word):
        try:
            parts += shlex.split(word)
        except ValueError:  # quotes of another language
            parts += word.split()
    return [part for part in parts if part]


def _file(cwd: Path, part: str) -> Path | None:
    try:
        path = cwd / Path(part).expanduser()
        return path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # too long for a name, a home of nobody
        return None


def _module(words: Sequence[str], cwd: Path) -> list[Path]:
    """Files of ``python -m name``, if it lies in the current folder."""
    if "-m" not in words[1:-1]:
        return []
    name = words[words.index("-m", 1) + 1].replace(".", "/")
    file, package = _file(cwd, f"{name}.py"), _file(cwd, f"{name}/__main__.py")
    return [file] if file else sorted(package.parent.rglob("*.py")) if package else []


def _look(path: Path) -> tuple[_Signature, str] | None:
    try:
        before, digest = _signature(path), hash_file(path)
    except OSError:  # it may be executed and not read
        return None
    return (before, digest) if before is not None else None


def _signature(path: Path) -> _Signature | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino
