"""Tables as text: what pandas, numpy, spreadsheets and simulation suites write."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from sbitools.disk.files import utf8

from .reading import bad_file

__all__ = ["COUNTERS", "TEXT_DIVIDERS", "cells_of", "has_numbers", "read_text",
           "read_units"]  # fmt: skip


TEXT_DIVIDERS = ("\t", ",", ";")
COUNTERS = ("", "index", "Unnamed: 0")  # columns that number the rows
_WORDS = ""  # cells between blanks
_COMMENT = "#"
# "h [km/s]"; round brackets after a blank only: log10(L) has no unit.
_UNIT = re.compile(r"(?:\[([^\[\]]*)\]|\s\(([^()]*)\))\s*$")
_NAME = re.compile(
    r"(?![\d.+-])[^\s()\[\],;]+\s*([\[(][^\[\]()]*[\])])?"
)  # not words of a sentence
_ECSV = re.compile(r"name:\s*(?P<name>[^,}]+?)\s*,\s*unit:\s*(?P<unit>[^,}]+?)\s*,\s*datatype:")


def read_text(path: Path, names: list[str]) -> tuple[list[str], list[list[str]]]:
    """Names of the columns, and the cells of every row.

    The names are in the first line that is no comment, or in the first comment that holds all of
    `names`. Without `names`, lines of numbers alone have their names in the comment above, if it
    has as many words. Cells are divided by tabs, commas, semicolons or blanks, and may be quoted;
    a byte-order mark, blank lines, comments and the ``sep=`` line of spreadsheets are skipped.

    Args:
        path: text in UTF-8.
        names: that are looked for; none for whatever there is.

    Returns:
        The names, [] if no line has them (which is only looked for without `names`), and the rows.

    Raises:
        StoreError: for a file that cannot be read, or is no text.
    """
    lines = _lines(path)
    if not lines:
        return [], []
    try:
        if not names:
            return _unasked(lines)
        head = _head(lines, names)
        divider = _divider(_titles(lines[head]), names)
        return _titles_and_rows(lines, head, divider)
    except csv.Error as error:
        raise bad_file(path, "a table of text", str(error)) from error


def read_units(path: Path, names: list[str]) -> dict[str, str]:
    """Units of columns: of ECSV, of a comment ``units: ...``, or of names such as ``h [km/s]``."""
    units = {
        n: (m[1] or m[2] or "").strip() for n in names if (m := _UNIT.search(n)) and m.start()
    }
    for line in filter(_is_comment, _lines(path)):
        text = _titles(line).strip()
        for found in _ECSV.finditer(text):
            units[found["name"].strip("\"'")] = found["unit"].strip("\"'")
        word, colon, rest = text.partition(":")
        if colon and word.strip().lower() in ("unit", "units"):
            cells = cells_of(rest, next((d for d in TEXT_DIVIDERS if d in rest), None))
            if len(cells) == len(names):
                units |= {n: c.strip("[]") for n, c in zip(names, cells, strict=True) if c}
    return {n: u for n, u in units.items() if n in names}


def cells_of(line: str, divider: str | None) -> list[str]:
    """The cells of one line; between blanks if `divider` is None."""
    words = line.split() if divider is None else line.strip("\r\n").split(divider)
    return [word.strip().strip("\"'") for word in words]


def has_numbers(line: str) -> bool:
    """Whether every cell of a line is a number, or empty but not the first."""
    divider = next((d for d in TEXT_DIVIDERS if d in line), None)
    first, *others = cells_of(line, divider) or [""]
    return _is_number(first) and all(not c or _is_number(c) for c in others)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _lines(path: Path) -> list[str]:
    try:
        text = utf8(path.read_bytes())
    except OSError as error:
        raise bad_file(path, "a readable text table in UTF-8", str(error)) from error
    except ValueError as error:
        raise bad_file(path, "a text table in UTF-8", str(error), "save it as UTF-8") from error
    # Line ends as `open` reads them: of any system.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = [line for line in io.StringIO(text, newline="") if line.strip()]
    return [line for line in lines if not line.startswith("sep=")]


def _titles_and_rows(
    lines: list[str], head: int, divider: str
) -> tuple[list[str], list[list[str]]]:
    header = next(_cells([_titles(lines[head])], divider), [])
    body = [line for line in lines[head + 1 :] if not _is_comment(line)]
    rows = list(_cells(body, _divider_of_rows(body, divider)))
    if divider == _WORDS and rows and len(header) != len(rows[0]):
        header = _with_units(header)
    return header, rows


def _unasked(lines: list[str]) -> tuple[list[str], list[list[str]]]:
    """As `read_text`, without knowing any name."""
    first = next((i for i, line in enumerate(lines) if not _is_comment(line)), len(lines))
    if first < len(lines) and not has_numbers(lines[first]):
        return _titles_and_rows(lines, first, _divider(lines[first], []))
    body = [line for line in lines[first:] if not _is_comment(line)]
    rows = list(_cells(body, _divider_of_rows(body, "")))
    for line in reversed(lines[:first]):
        title = _titles(line)
        for divider in (*(d for d in TEXT_DIVIDERS if d in title), _WORDS):
            header = next(_cells([title], divider), [])
            for names in (header, _with_units(header)):
                if rows and len(names) == len(rows[0]) and all(map(_NAME.fullmatch, names)):
                    return names, rows
    return [], rows


def _with_units(words: list[str]) -> list[str]:
    """Words between blanks, with a unit in brackets joined to the name before it."""
    out: list[str] = []
    for word in words:
        if out and word.startswith(("[", "(")):
            out[-1] += f" {word}"
        else:
            out.append(word)
    return out


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
    there = [d for d in TEXT_DIVIDERS if d in line]
    fitting = [d for d in (*there, _WORDS) if _has_all(line, d, names)]
    return (fitting + there + [_WORDS])[0]


def _divider_of_rows(body: list[str], divider: str) -> str:
    """numpy.savetxt divides its header as its user likes, and the rows in another way."""
    if divider and any(divider in line for line in body):
        return divider
    return next((d for d in TEXT_DIVIDERS if body and all(d in line for line in body)), _WORDS)


def _words(line: str) -> list[str]:
    """Cells between blanks; quoted ones may have blanks, as in ECSV."""
    if '"' in line:
        return next(csv.reader([line.strip()], delimiter=" ", skipinitialspace=True))
    return re.split(r"\s+", line.strip())


def _cells(lines: list[str], divider: str) -> Iterator[list[str]]:
    if divider == _WORDS:
        rows: Iterator[list[str]] = (_words(line) for line in lines)
    else:
        rows = csv.reader(io.StringIO("".join(lines), newline=""), delimiter=divider,
                          skipinitialspace=divider != "\t")  # fmt: skip
    for row in rows:
        yield [cell.strip().strip("\"'") for cell in row]
