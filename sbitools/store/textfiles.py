"""Tables as text: what pandas, numpy, spreadsheets and simulation suites write."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from sbitools.files import utf8

from .arrayfiles import bad_file

__all__ = ["read_text"]

_DELIMITERS = ("\t", ",", ";")
_WORDS = ""  # cells between blanks
_COMMENT = "#"


def read_text(path: Path, names: list[str]) -> tuple[list[str], list[list[str]]]:
    """Names of the columns, and the cells of every row.

    The names are in the first line that is no comment, or in the first comment that holds all of
    `names`. Cells are divided by tabs, commas, semicolons or blanks, and may be quoted; a
    byte-order mark, blank lines, comments and the ``sep=`` line of spreadsheets are skipped.

    Args:
        path: text in UTF-8.
        names: that are looked for.

    Raises:
        StoreError: for a file that cannot be read, or is no text.
    """
    try:
        text = utf8(path.read_bytes())
    except OSError as error:
        raise bad_file(path, "a readable text table in UTF-8", str(error)) from error
    except ValueError as error:
        raise bad_file(path, "a text table in UTF-8", str(error), "save it as UTF-8") from error
    # Line ends as `open` reads them: of any system.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = [line for line in io.StringIO(text, newline="") if line.strip()]
    lines = [line for line in lines if not line.startswith("sep=")]
    if not lines:
        return [], []
    try:
        head = _head(lines, names)
        divider = _divider(_titles(lines[head]), names)
        header = next(_cells([_titles(lines[head])], divider), [])
        body = [line for line in lines[head + 1 :] if not _is_comment(line)]
        return header, list(_cells(body, _divider_of_rows(body, divider)))
    except csv.Error as error:
        raise bad_file(path, "a table of text", str(error)) from error


def _is_comment(line: str) -> bool:
    return line.lstrip(" ").startswith(_COMMENT)


def _titles(line: str) -> str:
    return line.lstrip(" ").removeprefix(_COMMENT) if _is_comment(line) else line


def _head(lines: list[str], names: list[str]) -> int:
    """Which line has the names: the first that is no comment, or else a comment before it."""
    first = next((i for i, line in enumerate(lines) if not _is_comment(line)), len(lines))
    for i in (first, *range(first)):
        if i < len(lines):
            line = _titles(lines[i])
            if _has_all(line, _divider(line, names), names):
                return i
    return min(first, len(lines) - 1)


def _has_all(line: str, divider: str, names: list[str]) -> bool:
    header = next(_cells([line], divider), [])
    return all(name in header for name in names)


def _divider(line: str, names: list[str]) -> str:
    """What divides the names: the first that gives all of `names`, or the first there is."""
    there = [d for d in _DELIMITERS if d in line]
    fitting = [d for d in (*there, _WORDS) if _has_all(line, d, names)]
    return (fitting + there + [_WORDS])[0]


def _divider_of_rows(body: list[str], divider: str) -> str:
    """numpy.savetxt divides its header as its user likes, and the rows in another way."""
    if divider and any(divider in line for line in body):
        return divider
    return next((d for d in _DELIMITERS if body and all(d in line for line in body)), _WORDS)


def _cells(lines: list[str], divider: str) -> Iterator[list[str]]:
    if divider == _WORDS:
        rows: Iterator[list[str]] = (re.split(r"\s+", line.strip()) for line in lines)
    else:
        rows = csv.reader(io.StringIO("".join(lines), newline=""), delimiter=divider,
                          skipinitialspace=divider != "\t")  # fmt: skip
    for row in rows:
        yield [cell.strip().strip("\"'") for cell in row]
