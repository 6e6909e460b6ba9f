"""Columns as a file has them, and what is wrong with their names whatever the format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sbitools.errors import ParameterError

__all__ = ["Columns", "numbered", "require_columns", "side_by_side"]


@dataclass
class Columns:
    """What was read.

    Args:
        values: arrays by name; not yet checked.
        units: as stated.
        other: columns that are no numbers, and why.
        order: names in the order of the file.
        n: number of rows, where no column tells.
        named: whether the file names the columns.
    """

    values: dict[str, Any]
    units: dict[str, str] = field(default_factory=dict)
    other: dict[str, str] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    n: int = 0
    named: bool = True


def require_columns(path: Path, header: Sequence[str], wanted: list[str] | None) -> None:
    """Refuse names that are missing, or there twice.

    Raises:
        ParameterError: if one of `wanted` (of all, if None) is not there exactly once.
    """
    header = list(header)
    if wanted is None:
        twice = sorted({name for name in header if header.count(name) > 1})
        if not twice:
            return
        raise ParameterError(
            f"columns of {path}", expected="one column of each name", got=f"{twice[:20]} twice",
            fix="rename or remove one of them",
        )  # fmt: skip
    missing = [n for n in wanted if header.count(n) != 1]
    if missing:
        raise ParameterError(
            f"columns of {path}", expected=f"one column for each of {wanted}",
            got=f"columns {header[:20]}, so not one {missing}",
            fix="name the columns in the first line as in the parameter space",
        )  # fmt: skip


def numbered(width: int) -> list[str]:
    """Names of columns that have none."""
    return [f"column_{i}" for i in range(width)]


def side_by_side(
    path: Path, table: Any, header: list[str] | None, wanted: list[str] | None
) -> Columns:
    """Columns of a matrix; without names they stand in the order of `wanted`.

    Raises:
        ParameterError: if it is no matrix, or has another number of columns than names.
    """
    names = header if header is not None else wanted
    width = len(names) if names is not None else None
    if table.ndim != 2 or width not in (None, table.shape[1]):
        raise ParameterError(
            f"table {path}",
            expected=f"shape (n, {'columns' if width is None else width})"
            + (f", columns {names}" if names else ""),
            got=f"shape {table.shape}", fix="one row per simulation, one column per parameter",
        )  # fmt: skip
    if header is not None:
        require_columns(path, header, wanted)
        keep = [i for i, name in enumerate(header) if wanted is None or name in wanted]
        values = {header[i]: table[:, i] for i in keep}
    else:
        values = dict(zip(names or numbered(table.shape[1]), table.T, strict=True))
    return Columns(values, order=tuple(values), n=len(table), named=header is not None)
