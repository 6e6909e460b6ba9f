"""Rows of a table for files with numbers in their names, found by a column of these numbers."""

from __future__ import annotations

import numpy as np

from sbitools.errors import ParameterError

from .tables import Table

__all__ = ["rows_for"]


def rows_for(table: Table, indices: np.ndarray, column: str = "index") -> np.ndarray:
    """Number of the row of each simulation, int64, (n,).

    Args:
        table: with one row per simulation, in any order.
        indices: of the simulations, as ``Fields.indices``.
        column: that has these numbers.

    Raises:
        ParameterError: if there is no such column of whole numbers, if a number is there twice,
            or if table and files do not have the same numbers.
    """
    numbers = table.columns.get(column)
    if numbers is None or not np.isfinite(numbers).all() or (numbers % 1 != 0).any():
        raise _unfit(
            table, f"whole numbers in column {column!r}",
            "no such column" if column not in table.names else table.other.get(column, "others"),
            "name the column that has the numbers of the files",
        )  # fmt: skip
    order = np.argsort(numbers, kind="stable")
    known = numbers[order]
    twice = known[1:][np.diff(known) == 0]
    if len(twice):
        raise _unfit(table, f"each number once in column {column!r}", f"{twice[0]:.0f} twice",
                     "remove the rows that are there twice")  # fmt: skip
    without = np.setdiff1d(indices, known)
    more = np.setdiff1d(known, indices)
    if len(without) or len(more):
        got = f"no row for {without[:5].tolist()}"
        if not len(without):
            got = f"rows without a file: {more[:5].astype(np.int64).tolist()}, {len(more)} in all"
        fix = "complete the set, or leave out the rows and files that have no partner"
        raise _unfit(table, "one row for each file", got, fix)
    return order[np.searchsorted(known, indices)].astype(np.int64)


def _unfit(table: Table, expected: str, got: str, fix: str) -> ParameterError:
    return ParameterError(f"rows of {table.path}", expected=expected, got=got, fix=fix)
