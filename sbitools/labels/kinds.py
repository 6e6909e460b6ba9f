"""Kinds of labelled objects, known by what they have, and how their errors are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbitools.errors import SbitoolsError

__all__ = [
    "Subject", "axis_names", "column", "data_of", "entries", "entry", "few", "heading", "is_hdu",
    "is_labelled_array", "is_pandas", "is_plain", "is_sequence", "is_series", "is_table", "nested",
    "require_ascending", "unnamed",
]  # fmt: skip

_HEADINGS = ("colnames", "column_names", "columns")  # astropy, pyarrow, pandas and polars
_SCALARS = (int, float, complex, str, bool, np.generic, type(None))


@dataclass(frozen=True)
class Subject:
    """What is looked at, and the class of its errors."""

    what: str
    error: type[SbitoolsError]

    def refuse(self, expected: str, got: str, fix: str) -> SbitoolsError:
        """The error to raise."""
        return self.error(self.what, expected=expected, got=got, fix=fix)


def is_plain(values: Any) -> bool:
    """Whether it is an array or tensor that says nothing of itself."""
    if type(values) is np.ndarray:
        return values.dtype.names is None
    strided = type(values) is Tensor and values.layout == torch.strided
    return strided and not axis_names(values)


def axis_names(values: Tensor) -> tuple[str | None, ...]:
    """Names of a tensor's axes, which torch has up to 2.12; () without."""
    names = getattr(values, "names", ())
    return tuple(names) if any(names) else ()


def is_hdu(values: Any) -> bool:
    """Whether it is an image or a table of a FITS file: its values are its ``data``."""
    return all(hasattr(values, name) for name in ("header", "data", "fileinfo"))


def data_of(hdu: Any, subject: Subject) -> Any:
    """What is in an HDU."""
    if hdu.data is None:
        raise subject.refuse("values", "a FITS HDU without data", "pass another HDU of the file")
    return hdu.data


def is_labelled_array(values: Any) -> bool:
    """Whether it is xarray's DataArray or Variable."""
    owned = ("dims", "attrs", "transpose", "values")
    return not isinstance(values, Mapping) and all(hasattr(values, name) for name in owned)


def is_table(values: Any) -> bool:
    """Whether it has columns: a table of pandas, polars, pyarrow or astropy."""
    return _heading(values) is not None


def is_pandas(values: Any) -> bool:
    """Whether it is a table or series of pandas, whose rows have labels."""
    return hasattr(values, "iloc") and hasattr(values, "reindex")


def is_series(values: Any) -> bool:
    """Whether it is a row or column of a pandas table."""
    return is_pandas(values) and not is_table(values)


def entries(values: Any) -> list[Any] | None:
    """Names in a mapping, dataset, open archive or record array; None for anything else."""
    if isinstance(values, Mapping):
        return list(values)
    if isinstance(named := getattr(values, "_fields", None), tuple):  # a named tuple
        return list(named)
    if hasattr(values, "field") and hasattr(values, "row"):  # a row of a FITS table
        values = values.array
    names = getattr(getattr(values, "dtype", None), "names", None)
    return None if names is None else list(names)


def heading(table: Any) -> list[Any]:
    """Labels of the columns of a table."""
    return list(_heading(table))


def _heading(values: Any) -> Any:
    found = (getattr(values, name, None) for name in _HEADINGS)
    return next((names for names in found if names is not None and not callable(names)), None)


def entry(values: Any, name: str) -> Any:
    """One of `entries`."""
    return getattr(values, name) if hasattr(values, "_fields") else values[name]


def is_sequence(values: Any) -> bool:
    """Whether it is a list or tuple whose items have no names."""
    return isinstance(values, list | tuple) and entries(values) is None


def column(table: Any, position: int) -> Any:
    """A column by its number."""
    if is_pandas(table):
        return table.iloc[:, position]
    return table[heading(table)[position]]


def unnamed(dims: Iterable[Any]) -> bool:
    """Whether axes have the names that xarray gives those without."""
    return all(str(dim) == f"dim_{i}" for i, dim in enumerate(dims))


def nested(values: Sequence[Any], each: Callable[[Any], Any], subject: Subject) -> Any:
    """A nested sequence, each array in it without labels: numpy would drop them."""
    if all(isinstance(v, _SCALARS) for v in values):
        return values
    try:
        parts = [v if isinstance(v, _SCALARS) else each(v) for v in values]
    except RecursionError as problem:
        raise subject.refuse("an array", "lists in lists", "make a numpy array of it") from problem
    return [p.numpy(force=True) if isinstance(p, Tensor) else p for p in parts]


def require_ascending(labels: Iterable[Any], where: str, subject: Subject) -> None:
    """Refuse labels of cells other than numbers or dates in ascending order."""
    listed = list(labels)
    if len(listed) < 2:
        return
    array = np.asarray(listed)
    ordered = array.ndim == 1 and array.dtype.kind in "iufmM"
    if not ordered or not bool((array[1:] > array[:-1]).all()):
        raise subject.refuse(
            f"{where} labelled by numbers in ascending order, or not at all",
            f"{where} {few(listed)}",
            "put the values in the order of the specification and pass them without labels: "
            ".to_numpy()",
        )  # fmt: skip


def few(labels: Iterable[Any]) -> str:
    """The first of many labels, for messages."""
    shown = [str(label) for label in labels]
    return f"[{', '.join(shown[:8])}{', ...' if len(shown) > 8 else ''}]"
