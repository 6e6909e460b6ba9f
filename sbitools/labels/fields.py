"""Fields: named axes are put in the order of the specification, units into its unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sbitools.axes import HEALPIX
from sbitools.errors import SbitoolsError

from .kinds import (
    Subject,
    axis_names,
    column,
    data_of,
    entries,
    few,
    heading,
    is_hdu,
    is_labelled_array,
    is_pandas,
    is_plain,
    is_series,
    is_table,
    nested,
    require_ascending,
    unnamed,
)
from .missing import without_mask
from .rows import labels_of_each
from .units import check_stated, stated_unit, without_units

__all__ = ["FieldLabels", "field_values", "scale_names", "unlabelled"]


class FieldLabels(Protocol):
    """What a `FieldSpec` says of a field."""

    @property
    def name(self) -> str:
        """Of the field."""
        ...

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of its axes."""
        ...

    @property
    def unit(self) -> str:
        """Of its values."""
        ...


def field_values(
    values: Any, spec: FieldLabels, what: str, error: type[SbitoolsError], *, batch: bool = True
) -> Any:
    """A field whose axes are those of `spec`, in its unit.

    - Axes with names (xarray, named tensors, HDF5 dimension scales) must be those of `spec`, in
      any order; one more is the batch axis, which is put first.
    - Labels along an axis of the field (columns of a table, coordinates) must be numbers or dates
      in ascending order, because `spec` names no cells: text, or another order, is refused.
    - Of a mapping (dictionary, dataset, record array) the entry of the field's name is taken.
    - Quantities (astropy, unyt, pint) are converted to the unit; a unit stated otherwise
      (attribute ``units``, ``unit`` or ``BUNIT``) must be that unit.
    - Masked arrays may have no masked value.

    Args:
        values: fields, with the batch axis first where axes have no names.
        spec: what they are.
        what: name for the message.
        error: class to raise.
        batch: whether there is a batch axis.

    Returns:
        Something that numpy takes as it is, and that can be sliced.

    Raises:
        SbitoolsError: of class `error`.
    """
    if is_plain(values):
        return values
    return _axes(values, spec, Subject(f"{what} ({spec.name})", error), batch)


def unlabelled(values: Any, what: str, error: type[SbitoolsError], *, batch: bool = True) -> Any:
    """Values of which nothing is known: labels that say nothing are dropped, others refused.

    Args:
        values: anything that `numpy.asarray` takes.
        what: name for the message.
        error: class to raise.
        batch: whether the first axis is that of a batch, whose labels do not matter here.

    Raises:
        SbitoolsError: of class `error`, for named columns or axes, units, and masked values.
    """
    return values if is_plain(values) else _axes(values, None, Subject(what, error), batch)


def _axes(values: Any, spec: FieldLabels | None, subject: Subject, batch: bool) -> Any:
    unit = "" if spec is None else spec.unit
    if is_plain(values):
        return values
    if is_hdu(values):
        check_stated(stated_unit(values.header), unit, subject)
        return _axes(data_of(values, subject), spec, subject, batch)
    if (names := entries(values)) is not None:
        if spec is None or names.count(spec.name) != 1:
            raise subject.refuse(
                "an array" if spec is None else f"an entry {spec.name!r}",
                f"entries {few(names)}", "pass the array itself",
            )  # fmt: skip
        return _axes(values[spec.name], spec, subject, batch)
    if isinstance(values, list | tuple):
        if not batch:
            require_ascending(labels_of_each(values) or (), "rows", subject)
        return nested(values, lambda v: _axes(v, spec, subject, False), subject)
    if isinstance(values, Tensor):
        return _tensor(values, spec, subject, batch)
    if is_labelled_array(values):
        return _labelled_array(values, spec, subject, batch)
    if is_table(values) or is_series(values):
        check_stated(stated_unit(getattr(values, "attrs", {})), unit, subject)
        if not batch and is_pandas(values):
            require_ascending(values.index, "rows", subject)
        if is_table(values):
            return _table(values, unit, subject)
        array = values.to_numpy()
        if array.dtype.kind == "O":  # one field in each row
            return nested(array.tolist(), lambda v: _axes(v, spec, subject, False), subject)
        return array
    if hasattr(values, "attrs"):
        return _stored(values, spec, subject, batch)
    return without_units(values, unit, subject)


def _table(table: Any, unit: str, subject: Subject) -> np.ndarray:
    labels = heading(table)
    require_ascending(labels, "columns", subject)
    columns = [
        np.asarray(without_units(column(table, i), unit, subject)) for i in range(len(labels))
    ]
    return np.stack(columns, axis=1) if columns else np.empty((len(table), 0))


def _order(
    dims: Sequence[Any], spec: FieldLabels | None, subject: Subject, batch: bool
) -> list[int] | None:
    """Which of the axes goes where; None for axes without names."""
    if unnamed(dims) or (spec is None and len(dims) < 2):
        return None
    if spec is None:
        raise subject.refuse("axes without names", f"axes {few(dims)}", "pass the plain array")
    # `to_xarray` names an axis so if a field, or an axis of another length, has its name already.
    known = {n: d for d in spec.dims for n in (f"source_{d}", f"{d}_axis")} | {
        d: d for d in spec.dims
    }
    for pixels in (d for d in spec.dims if d in HEALPIX and HEALPIX[d] is None):
        known.setdefault("pixel_ring", pixels)  # an order that is not stated is RING
    named = [known.get(str(d)) for d in dims]
    if any(named.count(d) != 1 for d in spec.dims) or named.count(None) > int(batch):
        raise subject.refuse(
            f"axes {few(spec.dims)}" + (" and one for the batch" if batch else ""),
            f"axes {few(dims)}",
            "rename the axes, or pass the plain array (.values) with its axes in this order",
        )  # fmt: skip
    return [i for i, n in enumerate(named) if n is None] + [named.index(d) for d in spec.dims]


def _labelled_array(values: Any, spec: FieldLabels | None, subject: Subject, batch: bool) -> Any:
    """A DataArray as a Variable, which is sliced before it is loaded."""
    dims, coords = list(values.dims), getattr(values, "coords", {})
    check_stated(stated_unit(values.attrs), None if spec is None else spec.unit, subject)
    order = _order(dims, spec, subject, batch)
    if order is not None:
        dims = [dims[i] for i in order]
    for dim in dims[len(dims) - len(spec.dims) if spec is not None else int(batch) :]:
        if dim in coords:
            require_ascending(np.asarray(coords[dim]), f"coordinates of {dim}", subject)
    return getattr(values, "variable", values).transpose(*dims)


def _tensor(values: Tensor, spec: FieldLabels | None, subject: Subject, batch: bool) -> Any:
    plain = without_mask(values, subject)
    plain = plain if plain.layout == torch.strided else plain.to_dense()
    if not (names := axis_names(plain)):
        return plain
    order = _order(names, spec, subject, batch)
    plain = plain.rename(None)
    return plain if order is None else plain.permute(order)


def _stored(values: Any, spec: FieldLabels | None, subject: Subject, batch: bool) -> Any:
    """A dataset in a file, which is not read here: its attributes and dimension scales."""
    check_stated(stated_unit(values.attrs), None if spec is None else spec.unit, subject)
    packed = [name for name in ("scale_factor", "add_offset") if name in values.attrs]
    if packed:
        raise subject.refuse(
            "values as they are", f"packed values ({', '.join(packed)})",
            "unpack them, for example with xarray.open_dataset",
        )  # fmt: skip
    for dim, labels in getattr(values, "coords", {}).items():
        if spec is not None and dim in spec.dims:
            require_ascending(labels, f"coordinates of {dim}", subject)
    _check_pixels(values.attrs.get("ORDERING"), spec, subject)
    dims = scale_names(values)
    order = _order(dims, spec, subject, batch) if dims and all(dims) and spec else None
    if order is not None and order != sorted(order):
        raise subject.refuse(
            "the batch axis first, then those of the field in their order", f"axes {few(dims)}",
            "transpose the array in the file",
        )  # fmt: skip
    return values


def _check_pixels(stated: Any, spec: FieldLabels | None, subject: Subject) -> None:
    """The order of HEALPix pixels; an axis whose name tells none is in the order RING."""
    named = HEALPIX.get(spec.dims[-1], "none") if spec is not None and spec.dims else "none"
    if stated is not None and named != "none" and str(stated).strip().lower() != (named or "ring"):
        raise Subject(f"order of pixels of {subject.what}", subject.error).refuse(
            (named or "ring").upper(), str(stated).upper(),
            "reorder the map with healpy.reorder, or name the axis pixel_ring or pixel_nested",
        )  # fmt: skip


def scale_names(dataset: Any) -> list[str]:
    """Names of the axes of a dataset in a file, of HDF5 by its dimension scales; "" for none."""
    if hasattr(dataset, "axis_names"):
        return list(dataset.axis_names)
    out = []
    for axis in getattr(dataset, "dims", ()):
        names = [axis.label, *(str(scale.name).rpartition("/")[2] for scale in axis.values())]
        out.append(next(filter(None, names), ""))
    return out
