"""What the columns of a table are: ranges, gaps, and columns that are no parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .tables import Table

__all__ = ["Column", "describe_table"]

_CATEGORIES = 10  # most distinct whole values of a category


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    Args:
        name: of it.
        unit: as the file states it, or None.
        minimum, maximum: of finite values; NaN if there are none.
        constant: all rows have one value.
        missing: number of rows that are NaN or infinite.
        whole: all values are whole numbers.
        categories: the distinct values of a column of few whole numbers, or None.
        index: it numbers the rows: 0 to n - 1, or 1 to n, in this order.
    """

    name: str
    unit: str | None
    minimum: float
    maximum: float
    constant: bool
    missing: int
    whole: bool
    categories: tuple[int, ...] | None
    index: bool


def describe_table(table: Table) -> dict[str, Column]:
    """What each column of numbers is, by name; columns of other kinds are in ``table.other``."""
    return {name: _column(table, name) for name in table.names if name in table.columns}


def _column(table: Table, name: str) -> Column:
    values = table.columns[name]
    good = values[np.isfinite(values)]
    least, most = (float(good.min()), float(good.max())) if good.size else (math.nan, math.nan)
    whole = bool(good.size) and bool((good % 1 == 0).all())
    distinct = np.unique(good) if whole else good
    few = whole and 1 < len(distinct) <= min(_CATEGORIES, len(good) // 2)
    ranks = np.arange(len(values))
    counts = whole and len(values) > 1 and any(np.array_equal(values, ranks + b) for b in (0, 1))
    return Column(
        name, table.units.get(name), least, most, bool(good.size) and least == most,
        len(values) - good.size, whole,
        tuple(int(v) for v in distinct) if few and not counts else None, counts,
    )  # fmt: skip
