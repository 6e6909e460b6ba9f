"""Labels of rows: two tables that are used together must have them in one order."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sbitools.errors import SbitoolsError

from .kinds import few, is_labelled_array, is_pandas

__all__ = ["require_same_rows"]


def require_same_rows(
    arrays: Mapping[Any, Any], error: type[SbitoolsError], axes: Collection[str] = ()
) -> None:
    """Refuse tables whose rows are labelled in different orders.

    Args:
        arrays: name -> table, series, labelled array, or anything else. Only those with labels of
            rows are compared: rows without labels belong together as they stand.
        error: class to raise.
        axes: names of axes of fields, which are not rows.

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
        elif len(labels) == len(first[1]) and not labels.equals(first[1]):
            raise error(
                f"rows of {name}", expected=f"the labels of {first[0]}: {few(first[1])}",
                got=few(labels),
                fix=f"put both in one order ({name}.loc[{first[0]}.index]), or, if rows belong "
                "together as they stand, drop the labels: .reset_index(drop=True)",
            )  # fmt: skip


def _row_labels(values: Any, axes: Collection[str]) -> Any:
    """A pandas index of the rows, or None."""
    if is_pandas(values):
        return values.index
    if isinstance(values, dict):
        return next((v.index for v in values.values() if is_pandas(v)), None)
    if not is_labelled_array(values) and not hasattr(values, "data_vars"):
        return None
    # Text labels an axis of parameters, not of rows, if there is another.
    found = {d: i for d, i in getattr(values, "indexes", {}).items() if d not in axes}
    numbers = [index for index in found.values() if index.dtype.kind not in "OUT"]
    return (numbers or [*found.values(), None])[0]
