"""The text of a command with its placeholders: checked once, filled for each simulation.

``program --omega {Omega_m} {theta_file} {seed} {output_file}.npz`` is split as a shell would split
it, and never given to one. A brace that is meant is written twice.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sbitools.errors import CampaignError
from sbitools.gate.plain import text

from .result import NAMED, RESULTS

__all__ = ["Template"]

_SLOT = re.compile(r"\{\{|\}\}|\{([^{}]*)\}(\.\w+)?|[{}]")
_PLAIN = re.compile(r"[\w@%+=:,./{}-]+", re.ASCII)  # needs no quotes where commands are typed
_SEED32 = (1 << 31) - 1  # seeds of many programs are positive and fit 32 bits with a sign
_RESERVED = ("theta_file", "output_file", "folder", "seed", "seed32")


def _csv(names: list[str], row: list[float]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([names, [repr(v) for v in row]])
    return out.getvalue().encode()


def _json(names: list[str], row: list[float]) -> bytes:
    return (json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) + "\n").encode()


def _txt(names: list[str], row: list[float]) -> bytes:
    return f"# {' '.join(names)}\n{' '.join(map(repr, row))}\n".encode()


def _npz(names: list[str], row: list[float]) -> bytes:
    out = io.BytesIO()
    np.savez(out, **dict(zip(names, map(np.float64, row), strict=True)))  # pyright: ignore
    return out.getvalue()


def _npy(names: list[str], row: list[float]) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array(row, dtype=np.float64))
    return out.getvalue()


_THETA: dict[str, Callable[[list[str], list[float]], bytes]] = {
    ".csv": _csv, ".json": _json, ".txt": _txt, ".npz": _npz, ".npy": _npy,
}  # fmt: skip


class Template:
    """A command and what its placeholders stand for.

    Args:
        command: one text, or a list of words that are not split.
        names: of the parameters, each of which may be a placeholder.
        pair: whether the result holds a source field beside x.

    Attributes:
        words: of the command, with their placeholders.
        text: the command as it can be typed.
        theta_suffix: what the file of parameters is, None if there is no such file.
        output_suffix: what the file of the result is.

    Raises:
        CampaignError: for a command that cannot be split, an unknown placeholder, one that may
            mean two things, no result, or a parameter that the program is not told.
    """

    def __init__(self, command: str | Sequence[str], names: list[str], pair: bool) -> None:
        self.words = _split(command)
        self.text = " ".join(w if _PLAIN.fullmatch(w) else shlex.quote(w) for w in self.words)
        self._names = names
        used: dict[str, set[str]] = {}
        for word in self.words:
            for name, suffix in self._slots(word):
                used.setdefault(name, set()).add(suffix)
        self._check(used)
        results = NAMED[1:] if pair else RESULTS  # of two arrays, or of one
        self.output_suffix = self._suffix(used, "output_file", results, results[0])
        self.theta_suffix = None
        if "theta_file" in used:
            self.theta_suffix = self._suffix(used, "theta_file", tuple(_THETA), ".csv")

    def _slots(self, word: str) -> list[tuple[str, str]]:
        """Placeholders of a word, and the suffixes behind them."""
        known = [*_RESERVED, *(n for n in self._names if n not in _RESERVED)]
        found = []
        for match in _SLOT.finditer(word):
            if match[0] in ("{{", "}}"):
                continue
            if match[1] not in known:
                raise self._error(
                    f"placeholders out of {', '.join('{' + n + '}' for n in known)}",
                    f"{match[0]} in {word!r}",
                    "correct it; a brace that is meant is written twice: {{",
                )  # fmt: skip
            found.append((match[1], match[2] or ""))
        return found

    def _check(self, used: Mapping[str, Any]) -> None:
        double = [n for n in used if n in _RESERVED and n in self._names]
        if double:
            raise self._error(
                f"{{{double[0]}}} to mean one thing", f"also a parameter {double[0]!r}",
                "rename the parameter, or read it from {theta_file}" if double[0] != "theta_file"
                else "rename the parameter",
            )  # fmt: skip
        if "output_file" not in used:
            raise self._error(
                "{output_file}, where the program writes its result", self.text,
                "add {output_file} (.npy), or {output_file}.npz, .h5, .txt; a program that writes "
                "to stdout: sh -c 'program ... > \"{output_file}.txt\"'",
            )  # fmt: skip
        untold = [n for n in self._names if n not in used]
        if untold and "theta_file" not in used:
            raise self._error(
                "every parameter to reach the program", f"nothing that tells it {untold[0]}",
                f"add {{theta_file}}, or {{{untold[0]}}}",
            )  # fmt: skip

    def _suffix(
        self, used: Mapping[str, set[str]], name: str, known: tuple[str, ...], default: str
    ) -> str:
        found = {s or default for s in used[name]}
        if len(found) > 1 or next(iter(found)).lower() not in known:
            raise self._error(
                f"{{{name}}} with one suffix out of {', '.join(known)}",
                ", ".join(sorted(found)), f"write {{{name}}}{known[0]}, say",
            )  # fmt: skip
        return found.pop()

    def _error(self, expected: str, got: str, fix: str) -> CampaignError:
        return CampaignError("command", expected=expected, got=got, fix=fix)

    def fill(self, folder: Path, row: list[float], seed: int) -> tuple[list[str], Path]:
        """Words of one simulation and its result's path; the file of its parameters is written.

        Args:
            folder: of this simulation alone.
            row: its parameters.
            seed: its seed.

        Raises:
            OSError: if the file cannot be written.
        """
        output = folder / f"output{self.output_suffix}"
        values = dict(zip(self._names, map(repr, row), strict=True)) | {
            "folder": str(folder), "seed": str(seed), "seed32": str(1 + seed % _SEED32),
            "output_file": str(output),
        }  # fmt: skip
        if self.theta_suffix is not None:
            file = folder / f"theta{self.theta_suffix}"
            file.write_bytes(_THETA[self.theta_suffix.lower()](self._names, row))
            values["theta_file"] = str(file)
        return [_SLOT.sub(lambda m: _filled(m, values), word) for word in self.words], output


def _filled(match: re.Match[str], values: Mapping[str, str]) -> str:
    if match[0] in ("{{", "}}"):
        return match[0][0]
    ours = match[1] in ("theta_file", "output_file")  # the suffix is in the file's name
    return values[match[1]] + ("" if ours else match[2] or "")


def _split(command: Any) -> list[str]:
    """The words of a command; raises `CampaignError`."""
    if isinstance(command, str):
        try:
            words = shlex.split(text(command, "command", error=CampaignError))
        except ValueError as error:
            raise CampaignError(
                "command", expected="words, quoted as for a shell", got=f"{command!r} ({error})",
                fix="close the quotes",
            ) from error  # fmt: skip
    elif isinstance(command, list | tuple):
        words = [text(word, "word of the command", error=CampaignError) for word in command]
    else:
        words = []
    if not words or not words[0]:
        raise CampaignError(
            "command", expected="a program and its arguments", got=repr(command),
            fix="for example 'python simulate.py {theta_file} {seed} {output_file}'",
        )  # fmt: skip
    return words
