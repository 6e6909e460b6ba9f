"""Parameter tables: the columns that are named as the parameters, checked, become theta."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sbitools.errors import ParameterError
from sbitools.parameters import ParameterSpace
from sbitools.plain import as_path

from .tables import Table, read_table
from .textfiles import COUNTERS

__all__ = ["read_theta"]


def read_theta(
    path: str | Path, parameters: ParameterSpace, dataset: str | None = None
) -> np.ndarray:
    """Theta, float64, (n, P), with columns in the order of `parameters`.

    Args:
        path: a table, see `read_table`: other columns are ignored, whatever is in them; a plain
            .npy array of P columns, without names, is taken as it stands.
        parameters: whose names are looked up.
        dataset: name of the table in the file.

    Raises:
        ParameterError: for missing columns, numbers that are none, or theta outside the priors.
        StoreError: for a damaged or foreign file.
    """
    path = as_path(path, "parameter table")
    table = read_table(path, dataset, parameters.names)
    for name in parameters.names:
        if name in table.other:
            raise ParameterError(
                f"column {name!r} of {path}", expected="real numbers", got=table.other[name],
                fix="correct it, or write the parameters as float64",
            )  # fmt: skip
    _check_order(table, parameters.names)
    columns = [table.columns[name] for name in parameters.names]
    theta = np.stack(columns, axis=1) if columns else np.empty((table.n, 0))
    return parameters.check(theta, f"theta of {path.name}").numpy()


def _check_order(table: Table, names: list[str]) -> None:
    """Refuse rows whose numbers, in our own designs or those of pandas, are in disorder."""
    for name in COUNTERS:
        numbers = table.columns.get(name)
        if numbers is None or name in names or (numbers % 1 != 0).any():
            continue
        if (np.diff(numbers) <= 0).any():
            raise ParameterError(
                f"rows of {table.path}", expected=f"ascending numbers in column {name!r}",
                got=f"{', '.join(f'{n:.0f}' for n in numbers[:5])}, ...",
                fix="sort the rows by it, as the fields are, or leave the column out",
            )  # fmt: skip
