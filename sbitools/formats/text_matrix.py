"""Matrices of numbers as text, one simulation per line; lines are parsed as they are asked for."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from sbitools.disk.files import check_regular

from .fields import Fields
from .reading import bad_file
from .textfiles import COUNTERS, TEXT_DIVIDERS, cells_of, has_numbers

__all__ = ["TextFields", "open_text"]


class TextFields(Fields):
    """Lines of numbers, divided by commas, semicolons, tabs or blanks.

    A first line of names is left out, and so is a column that numbers the rows, as pandas writes
    it; comments and empty lines are skipped.
    """

    def __init__(self, path: Path, file: Any) -> None:
        self._file = file
        head, self._lines = _find_lines(path, file)
        first = self._line(0)
        self._divider = next((d for d in TEXT_DIVIDERS if d in first), None)
        cells = cells_of(first, self._divider)
        names = cells_of(head, self._divider) if head else []
        self._width = len(cells)
        counted = bool(names) and len(names) == len(cells) and names[0] in COUNTERS
        self._skip = int(counted)
        attrs = {"columns": tuple(names[self._skip :])} if names else {}
        super().__init__(
            path, (len(self._lines), len(cells) - self._skip), np.float64, attrs=attrs
        )

    def _line(self, row: int) -> str:
        self._file.seek(self._lines[row])
        return self._file.readline().decode("utf-8-sig")

    def _read(self, rows: Any) -> np.ndarray:
        chosen = range(len(self)) if rows is ... else range(rows.start, rows.stop)
        out = np.empty((len(chosen), self.shape[1]))
        for i, row in enumerate(chosen):
            cells = cells_of(self._line(row), self._divider)
            if len(cells) != self._width:
                raise ValueError(f"row {row} has {len(cells)} numbers, row 0 has {self._width}")
            try:
                numbers = [float(cell or "nan") for cell in cells]
            except ValueError as error:
                raise ValueError(f"row {row}: {error}") from error
            if self._skip and numbers[0] != row and numbers[0] != row + 1:
                raise ValueError(f"row {row} is numbered {cells[0]}: the rows are in disorder")
            out[i] = numbers[self._skip :]
        return out

    def whole(self) -> np.ndarray:
        """The matrix; of a single row or column, its numbers."""
        values = self[...]
        return values.reshape(-1) if 1 in values.shape else values


def open_text(path: Path, stack: contextlib.ExitStack) -> TextFields:
    """A matrix of numbers.

    Raises:
        StoreError: for what is no text in UTF-8, or has no line of numbers.
    """
    check_regular(path)
    return TextFields(path, stack.enter_context(path.open("rb")))


def _find_lines(path: Path, file: Any) -> tuple[str, np.ndarray]:
    """The line of names ("" without), and where each line of numbers begins."""
    head, begins, at, first = "", [], 0, True
    for line in file:
        begin, at = at, at + len(line)
        if line.strip() and not line.lstrip().startswith((b"#", b"sep=")):
            if first:
                text = _decoded(path, line)
                first = False
                if not has_numbers(text) or _counts(text):
                    head = text
                    continue
            begins.append(begin)
    if not begins:
        raise bad_file(path, "a matrix of numbers, one simulation per line", "no line of numbers",
                       "write the numbers, for example with numpy.savetxt")  # fmt: skip
    return head, np.array(begins, np.int64)


def _decoded(path: Path, line: bytes) -> str:
    try:
        if b"\0" in line:
            raise ValueError("bytes that are no text")
        return line.decode("utf-8-sig")
    except ValueError as error:
        raise bad_file(path, "a readable text table in UTF-8", str(error),
                       "save it as UTF-8") from error  # fmt: skip


def _counts(line: str) -> bool:
    """Whether it is 0,1,2,...: what pandas writes above columns without names."""
    divider = next((d for d in TEXT_DIVIDERS if d in line), None)
    cells = cells_of(line, divider)
    return len(cells) > 2 and cells == [str(i) for i in range(len(cells))]
