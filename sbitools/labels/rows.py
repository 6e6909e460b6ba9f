"""Labels of rows: two tables that are used together must have them in one order."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sbitools.errors import SbitoolsError

from .kinds import few, is_labelled_array, is_pandas, is_series

__all__ = ["labels_of_each", "require_same_rows"]


def require_same_rows(
    arrays: Mapping[Any, Any], error: type[SbitoolsError], axes: Collection[str] = ()
) -> None:
    """Refuse tables whose rows are labelled in different orders.

    Args:
        arrays: name -> table, series, labelled array, or anything else. Only those with labels of
            rows are compared: rows without labels belong together as they stand.
        error: class to raise.
        axes: names of axes of fields and of parameters, which are not rows.

    Raises:
        SbitoolsError: of class `error`.
    """
    first: tuple[Any, Any] | None = None
    for name, values in arrays.items():
        labels = _row_labels(values, axes)
        if labels is None:
            continue
        if first is None:
            first = name, labels
        elif len(labels) == len(first[1]) and not _equal(labels, first[1]):
            raise error(
                f"rows of {name}", expected=f"the labels of {first[0]}: {few(first[1])}",
                got=few(labels),
                fix=f"put both in one order ({name}.loc[{first[0]}.index]), or, if rows belong "
                "together as they stand, drop the labels: .reset_index(drop=True), or .to_numpy() "
                "of each row in a list",
            )  # fmt: skip


def _row_labels(values: Any, axes: Collection[str]) -> Any:
    """A pandas index of the rows, or a list, or None."""
    if is_pandas(values):
        return values.index
    if isinstance(values, dict):
        return next((v.index for v in values.values() if is_pandas(v)), None)
    if isinstance(values, list | tuple):
        labels = labels_of_each(values)
        columns = labels is not None and all(label in axes for label in labels)
        return values[0].index if columns and is_pandas(values[0]) else labels
    if not is_labelled_array(values) and not hasattr(values, "data_vars"):
        return None
    # Text labels an axis of parameters, not of rows, if there is another.
    found = {d: i for d, i in getattr(values, "indexes", {}).items() if d not in axes}
    numbers = [index for index in found.values() if index.dtype.kind not in "OUT"]
    return (numbers or [*found.values(), None])[0]


def labels_of_each(rows: Sequence[Any]) -> list[Any] | None:
    """Labels of rows in a list, which each of them carries; None if they say nothing."""
    if not rows or isinstance(rows[0], int | float | str):
        return None
    if all(is_series(row) for row in rows):  # rows of a pandas table are named by its index
        labels = [row.name for row in rows]
    elif all(isinstance(row, tuple) and hasattr(row, "Index") for row in rows):  # itertuples()
        labels = [row.Index for row in rows]
    elif all(is_labelled_array(row) for row in rows):
        labels = _coordinates_of_each(rows)
    else:
        return None
    try:
        return labels if len(set(labels)) == len(rows) > 1 else None
    except TypeError:  # unhashable: nobody's label
        return None


def _coordinates_of_each(rows: Sequence[Any]) -> list[Any]:
    """Coordinates that arrays out of one xarray have kept of the axis they were taken from."""
    names = [k for k, v in getattr(rows[0], "coords", {}).items() if v.ndim == 0]
    each = ([row.coords[k].item() if k in row.coords else None for row in rows] for k in names)
    return next((labels for labels in each if len(set(labels)) == len(rows)), [])


def _equal(labels: Any, other: Any) -> bool:
    if hasattr(labels, "equals") and hasattr(other, "equals"):
        return bool(labels.equals(other))
    return list(labels) == list(other)
