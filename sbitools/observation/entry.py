"""Observed fields as users give them: one or several, of any real dtype, labelled or not."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbitools.errors import ObservationError
from sbitools.gate.arrays import real_tensor
from sbitools.simulator import FieldSpec

__all__ = ["in_dtype", "is_one_field", "one_field", "packed", "several_fields"]


def is_one_field(x: Any, spec: FieldSpec) -> bool:
    """Whether x is a single field like `spec`, without a batch axis.

    Args:
        x: anything that a posterior takes: arrays, nested sequences, and what has labels.
        spec: of the observed field.
    """
    if _separate(x, spec):
        return all(map(is_one_field, _of_each(x, spec), spec.parts or ()))
    if isinstance(x, dict) or hasattr(x, "data_vars"):
        return spec.name in x and is_one_field(x[spec.name], spec)
    dims = getattr(x, "dims", None)
    if isinstance(dims, tuple) and dims and not isinstance(x, Tensor):  # xarray, in any order
        named = {str(d) for d in dims}
        return named == set(spec.dims) or _shape(x) == spec.shape
    return _shape(x) == spec.shape


def _shape(x: Any) -> tuple[int, ...] | None:
    """The shape of an array, or of numbers in nested lists; None for rows of something else."""
    if isinstance(x, list | tuple):
        inner = _shape(x[0]) if len(x) else None
        return (0,) if not len(x) else None if inner is None else (len(x), *inner)
    if isinstance(x, int | float | np.generic) and not isinstance(x, np.void):
        return ()
    kind = getattr(x, "dtype", None)
    if str(kind) == "object" or getattr(kind, "names", None) is not None:  # one field in each row
        return None
    shape = getattr(x, "shape", None)
    return None if shape is None else tuple(shape)


def one_field(x: Any, spec: FieldSpec, what: str = "observation") -> Tensor:
    """A single field with a batch axis, (1, *shape)."""
    if _separate(x, spec):
        return packed(x, spec, what)
    return real_tensor(x, what, ObservationError, spec, batch=False)[None]


def several_fields(x: Any, spec: FieldSpec, what: str = "observation") -> Tensor:
    """Fields (B, *spec.shape) in the dtype of `spec`; a single field is a batch of one.

    Args:
        x: one field or several; see `sbitools.labels.field_values` for labels.
        spec: of the field.
        what: name for the message.

    Raises:
        ObservationError: for another shape, labels that do not fit, or values that `spec.dtype`
            cannot hold.
    """
    x = packed(x, spec, what)
    if is_one_field(x, spec):
        x = one_field(x, spec, what)
    x = real_tensor(x, what, ObservationError, spec)
    if x.ndim == 0 or tuple(x.shape[1:]) != spec.shape:
        inside = ", ".join(map(str, spec.shape))
        raise ObservationError(
            f"{what} ({spec.name})", expected=f"shape ({inside}) or (B, {inside})",
            got=f"{tuple(x.shape)}",
            fix="observe simulated fields with posterior.observe first, or cut the field",
        )  # fmt: skip
    return in_dtype(x, spec, what)


def _separate(x: Any, spec: FieldSpec) -> bool:
    """Whether x holds the parts of `spec` by name or in order, and not side by side."""
    if getattr(spec, "parts", None) is None:
        return False
    return hasattr(x, "keys") or isinstance(x, tuple)


def packed(x: Any, spec: FieldSpec, what: str = "observation") -> Any:
    """Data products by name or in order put side by side, (B, N); anything else as it is.

    Raises:
        ObservationError: for a product that is missing, strange, or of another number of rows.
    """
    if not _separate(x, spec):
        return x
    parts = spec.parts or ()
    values = [several_fields(v, p, what) for v, p in zip(_of_each(x, spec), parts, strict=True)]
    rows = {p.name: len(v) for v, p in zip(values, parts, strict=True)}
    if len(set(rows.values())) > 1:
        raise ObservationError(
            f"{what} ({spec.name})", expected="one row of each product for each observation",
            got=f"{rows}", fix="give all products of the same observations",
        )  # fmt: skip
    return spec.pack(values)


def _of_each(x: Any, spec: FieldSpec) -> list[Any]:
    names = [p.name for p in spec.parts or ()]
    got = list(x.keys()) if hasattr(x, "keys") else [f"{len(x)} products"]
    fits = set(got) == set(names) if hasattr(x, "keys") else len(x) == len(names)
    if not fits:
        raise ObservationError(
            f"observation ({spec.name})", expected=f"the products {names}, by name or in this "
            "order", got=f"{got}", fix="give all of them, and no other",
        )  # fmt: skip
    return [x[name] for name in names] if hasattr(x, "keys") else list(x)


def in_dtype(x: Tensor, spec: FieldSpec, what: str = "observation") -> Tensor:
    """Fields in the dtype of `spec`: float64 is rounded to float32, as simulations were.

    Raises:
        ObservationError: for finite values that would overflow, and fractions for whole numbers.
    """
    if x.dtype == spec.torch_dtype:
        return x
    y = x.to(spec.torch_dtype)
    whole = not y.is_floating_point()
    lost = y.to(x.dtype) != x if whole else torch.isfinite(x) & ~torch.isfinite(y)
    if bool(lost.any()):
        raise ObservationError(
            f"{what} ({spec.name})", expected=f"values that {spec.dtype} can hold",
            got=f"{float(x[lost][0]):g} of dtype {str(x.dtype).removeprefix('torch.')}",
            fix="check the unit",
        )  # fmt: skip
    return y
