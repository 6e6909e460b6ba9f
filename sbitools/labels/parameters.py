"""Tables of parameters: columns are found by name, whatever they are columns of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbitools.errors import SbitoolsError

from .kinds import (
    Subject,
    axis_names,
    column,
    data_of,
    entries,
    entry,
    few,
    heading,
    is_hdu,
    is_labelled_array,
    is_plain,
    is_sequence,
    is_series,
    is_table,
    nested,
    require_ascending,
    unnamed,
)
from .missing import without_mask
from .rows import require_same_rows
from .units import check_stated, stated_unit, without_units

__all__ = ["table_values"]


def table_values(
    values: Any, names: Sequence[str], units: Sequence[str], what: str, error: type[SbitoolsError]
) -> Any:
    """Theta as an array or tensor (..., P), with columns in the order of `names`.

    Named columns (tables of pandas, astropy or polars, dictionaries, record arrays, datasets, an
    xarray axis whose coordinate is the names, an indexed row) are looked up by name, in any order;
    others are ignored, as in a file. As many columns without text names are taken as they stand.
    Quantities are converted to the unit of their parameter.

    Args:
        values: theta.
        names: of the parameters.
        units: of the parameters.
        what: name for the message.
        error: class to raise.

    Raises:
        SbitoolsError: of class `error`, for missing or double columns, axes whose names say
            nothing, units that do not convert, and masked values.
    """
    if is_plain(values):
        return values
    return _columns(values, list(names), list(units), Subject(what, error))


def _columns(values: Any, names: list[str], units: list[str], subject: Subject) -> Any:
    if is_plain(values):
        return values
    if isinstance(values, Tensor):
        return _tensor(values, subject)
    if is_sequence(values):
        if columns := _columns_in_list(values, names):
            return _picked(columns, list(columns), names, units, subject)
        return nested(values, lambda v: _columns(v, names, units, subject), subject)
    if is_hdu(values):
        for unit in set(units) if entries(values.data) is None else ():
            check_stated(stated_unit(values.header), unit, subject)
        return _columns(data_of(values, subject), names, units, subject)
    if is_labelled_array(values):
        return _parameter_axis(values, names, units, subject)
    if (labels := entries(values)) is not None:
        if "theta" in labels and (set(names) - set(labels) or _is_table_of(values, names)):
            table = values["theta"]
            if "names" in labels and getattr(table, "ndim", 1) == 2:  # as our own files have them
                labels = [str(name) for name in np.ravel(values["names"])]
                table = dict(zip(labels, np.asarray(table).T, strict=False))
                return _picked(table, labels, names, units, subject)
            return _columns(table, names, units, subject)
        return _picked(values, labels, names, units, subject)
    if is_table(values) or is_series(values):
        labels = heading(values) if is_table(values) else list(values.index)
        if any(isinstance(label, str) for label in labels) or len(labels) != len(names):
            return _picked(values, labels, names, units, subject)
        require_ascending(labels, "columns", subject)
        rows = {str(label) for label in getattr(values, "index", ())}
        if is_table(values) and names and set(names) <= rows:
            raise subject.refuse(
                "one row per simulation", f"rows {few(sorted(rows))}", "transpose the table: .T"
            )
        if is_series(values):
            return values.to_numpy()
        return _side_by_side([column(values, i) for i in range(len(labels))], units, subject)
    if hasattr(values, "attrs"):
        for unit in set(units):
            check_stated(stated_unit(values.attrs), unit, subject)
    return _in_units(values, units, subject)


def _columns_in_list(values: Sequence[Any], names: list[str]) -> dict[Any, Any]:
    """Columns of a table in a list, by their names; {} if it is a list of rows."""
    if not values or not all(is_series(v) for v in values):
        return {}
    by_name = {v.name: v for v in values}
    rows = set(names) <= set(values[0].index)
    return by_name if set(names) <= set(by_name) and not rows else {}


def _is_table_of(values: Any, names: list[str]) -> bool:
    """Whether the entry "theta" is the whole table, and not the parameter of that name."""
    return "theta" not in names or getattr(values["theta"], "ndim", 1) > 1


def _tensor(values: Tensor, subject: Subject) -> Tensor:
    plain = without_mask(values, subject)
    if names := axis_names(plain):
        raise subject.refuse(
            "a tensor without names", f"axes {few(names)}",
            "pass .rename(None), its columns in the order of the parameters",
        )  # fmt: skip
    return plain if plain.layout == torch.strided else plain.to_dense()


def _picked(
    values: Any, labels: list[Any], names: list[str], units: list[str], subject: Subject
) -> Any:
    """The columns that are called `names`, side by side."""
    unclear = [name for name in names if labels.count(name) != 1]
    if unclear:
        missing = [name for name in unclear if name not in labels]
        raise subject.refuse(
            f"one column for each of {names}",
            f"columns {few(labels)}, " + (f"without {missing}" if missing else f"twice {unclear}"),
            "name the columns as the parameters, or pass plain numbers in this order",
        )  # fmt: skip
    columns = {name: entry(values, name) for name in names}
    require_same_rows(columns, subject.error)
    _check_heading_units(values, dict(zip(names, units, strict=True)), subject)
    return _side_by_side(list(columns.values()), units, subject)


def _check_heading_units(values: Any, units: dict[str, str], subject: Subject) -> None:
    """Units that a table keeps apart from its columns, as FITS and `DataFrame.attrs` do."""
    heading = getattr(values, "columns", None)
    stated = dict(zip(getattr(heading, "names", None) or [], getattr(heading, "units", []) or [],
                      strict=False))  # fmt: skip
    noted = getattr(values, "attrs", {})
    found = noted.get("units") if isinstance(noted, Mapping) else None
    if found:
        stated |= found if isinstance(found, Mapping) else dict.fromkeys(units, found)
    for name, unit in units.items():
        if stated.get(name):
            check_stated(str(stated[name]), unit, subject)


def _side_by_side(columns: list[Any], units: list[str], subject: Subject) -> np.ndarray:
    plain = []
    for values, unit in zip(columns, units, strict=True):
        if hasattr(values, "attrs"):  # of xarray, h5py or pandas
            check_stated(stated_unit(values.attrs), unit, subject)
        if is_labelled_array(values):
            values = values.values
        array = np.asarray(without_units(values, unit, subject))
        if array.dtype.kind not in "fiu":
            raise subject.refuse(
                "real numbers", f"dtype {array.dtype}", "convert it: .astype('float64')"
            )
        plain.append(array.astype(np.float64))
    shapes = [p.shape for p in plain]
    if len(set(shapes)) > 1:
        raise subject.refuse(
            "columns of equal length", f"shapes {few(shapes)}", "give one entry per simulation"
        )
    return np.stack(plain, axis=-1) if plain else np.empty((0, 0))


def _parameter_axis(values: Any, names: list[str], units: list[str], subject: Subject) -> Any:
    """A DataArray: the axis whose coordinate is the names is put last, in their order."""
    for unit in set(units):
        check_stated(stated_unit(values.attrs), unit, subject)
    coords = getattr(values, "coords", {})
    for dim in values.dims:
        labels = [str(v) for v in np.asarray(coords[dim])] if dim in coords else []
        if labels and all(labels.count(name) == 1 for name in names):
            chosen = values.isel({dim: [labels.index(name) for name in names]})
            return np.asarray(chosen.transpose(..., dim).values)
    if unnamed(values.dims):
        return np.asarray(values.values)
    raise subject.refuse(
        f"an axis whose coordinate is {names}", f"axes {few(values.dims)} without it",
        "give the axis of the parameters their names as coordinate, or pass .values",
    )  # fmt: skip


def _in_units(values: Any, units: list[str], subject: Subject) -> Any:
    """An array; a quantity is converted column by column if the units differ."""
    shape = getattr(values, "shape", ())
    if len(set(units)) < 2 or not shape or shape[-1] != len(units):
        return without_units(values, units[0] if units else "", subject)
    columns = [without_units(values[..., i], unit, subject) for i, unit in enumerate(units)]
    return np.stack(columns, axis=-1)
