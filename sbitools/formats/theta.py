"""Parameter tables: the columns that are named as the parameters, checked, become theta."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sbitools.errors import ParameterError
from sbitools.gate.plain import as_path
from sbitools.parameters import ParameterSpace

from .joining import rows_for
from .tables import Table, read_table
from .textfiles import COUNTERS

__all__ = ["read_theta"]


def read_theta(
    path: str | Path, parameters: ParameterSpace, dataset: str | None = None, *,
    columns: Mapping[str, str] | None = None, numbered: tuple[str, np.ndarray] | None = None,
) -> np.ndarray:  # fmt: skip
    """Theta, float64, (n, P), with columns in the order of `parameters`.

    Args:
        path: a table, see `read_table`: other columns are ignored, whatever is in them; a plain
            .npy array of P columns, without names, is taken as it stands.
        parameters: whose names are looked up.
        dataset: name of the table in the file.
        columns: headings of parameters that are called otherwise in the table.
        numbered: the column that has numbers of simulations, and these numbers in the order that
            is wanted, (n,): rows are put in this order.

    Raises:
        ParameterError: for missing columns, numbers that are none, or theta outside the priors.
        StoreError: for a damaged or foreign file.
    """
    path = as_path(path, "parameter table")
    headings = [(columns or {}).get(name, name) for name in parameters.names]
    counter = [] if numbered is None else [numbered[0]]
    table = read_table(path, dataset, [*headings, *counter])
    for name in headings:
        if name in table.other:
            raise ParameterError(
                f"column {name!r} of {path}", expected="real numbers", got=table.other[name],
                fix="correct it, or write the parameters as float64",
            )  # fmt: skip
    values = [table.columns[name] for name in headings]
    theta = np.stack(values, axis=1) if values else np.empty((table.n, 0))
    if numbered is None:
        _check_order(table, headings)
    else:
        theta = theta[rows_for(table, numbered[1], numbered[0])]
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
