"""Columns of tables of text: cells become numbers, or the first that is none is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sbitools.errors import ParameterError

from .columns import Columns, numbered, require_columns
from .textfiles import COUNTERS, read_text, read_units

__all__ = ["from_text"]


def from_text(path: Path, wanted: list[str] | None) -> Columns:
    """Columns of a text table; see `textfiles.read_text`.

    Raises:
        ParameterError: for columns that are missing or there twice, and rows of another length.
        StoreError: for what is no text.
    """
    header, body = read_text(path, wanted or [])
    named = bool(header) or wanted is not None or not body
    names = header if named else numbered(len(body[0]))
    require_columns(path, names, wanted)
    for i, row in enumerate(body):
        if len(row) != len(names):
            raise ParameterError(
                f"row {i} of {path}", expected=f"{len(names)} entries",
                got=f"{len(row)} entries", fix="correct the row",
            )  # fmt: skip
    keep = [i for i, name in enumerate(names) if wanted is None or name in (*wanted, *COUNTERS)]
    found = Columns({}, order=tuple(names[i] for i in keep), n=len(body), named=named)
    for i in keep:
        name = names[i]
        try:
            found.values[name] = _numbers([row[i] for row in body])
        except ValueError as error:
            found.other[name] = str(error)
    found.units = read_units(path, names)
    return found


def _numbers(cells: list[str]) -> np.ndarray:
    out = np.empty(len(cells))
    for row, cell in enumerate(cells):
        try:
            out[row] = float(cell) if cell else np.nan
        except ValueError as error:
            raise ValueError(f"row {row} has {cell[:40]!r}") from error
    if len(cells) and not any(cells):
        raise ValueError("all cells are empty")
    return out
