"""What comes into a store is checked here: shapes, dtypes, units, finite values."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from sbitools.errors import ShapeError, StoreError
from sbitools.simulator import FieldSpec

from .manifest import DesignTable
from .parts import DONE, FAILED, Layout, PartData

__all__ = ["as_native", "checked_rows", "nonfinite_rows"]


def as_native(values: Any) -> np.ndarray:
    """Values as an array in native byte order, copied (memory maps and user arrays stay as is)."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")


def nonfinite_rows(array: np.ndarray) -> np.ndarray:
    """Number of NaN or Inf in each row, int64, (n,)."""
    if array.dtype.kind not in "fc":
        return np.zeros(len(array), np.int64)
    flat = array.reshape(len(array), -1)
    return np.array([row.size - np.count_nonzero(np.isfinite(row)) for row in flat], np.int64)


def checked_rows(
    layout: Layout,
    table: DesignTable,
    start: int,
    x: Any,
    source: Any,
    unit: str | None,
    nonfinite: str,
) -> PartData:
    """Simulations `start`, `start` + 1, ... as a part, checked.

    Raises:
        ShapeError: for a wrong shape, dtype or unit.
        StoreError: for values that are not finite (unless `nonfinite` is ``"fail"``), an index
            outside the design, or a source that is missing or not expected.
    """
    fields = _fields(layout, x, source)
    if unit is not None:
        layout.output.check_unit(unit)
    count = len(fields["x"])
    stop = start + count
    if start < 0 or stop > len(table.seeds) or not count:
        raise StoreError(
            f"simulations {start} to {stop - 1}", expected=f"indices 0 to {len(table.seeds) - 1}",
            got="an index outside the design", fix="use the indices of the exported design",
        )  # fmt: skip
    state, errors = np.full(count, DONE, np.uint8), [""] * count
    for name, array in fields.items():
        layout.fields[name].check(array, count, name)
        bad = nonfinite_rows(array)
        if bad.any() and nonfinite != "fail":
            raise _nonfinite(layout.fields[name], name, start, bad)
        for i in np.flatnonzero(bad):
            state[i], errors[i] = FAILED, f"{bad[i]} values of {name} are NaN or infinite"
    return PartData(
        start, table.theta[start:stop], table.seeds[start:stop], state, errors, **fields
    )


def _fields(layout: Layout, x: Any, source: Any) -> dict[str, np.ndarray]:
    if (source is None) != (layout.source is None):
        raise StoreError(
            "source", expected="a source field" if layout.source else "no source field",
            got="none" if source is None else "one",
            fix="pass source= exactly if the store has a source specification",
        )  # fmt: skip
    fields = {"x": as_native(x)} | ({} if source is None else {"source": as_native(source)})
    for name, array in fields.items():
        if array.ndim == 0:
            raise ShapeError(
                name, expected="a batch axis", got="a scalar", fix="put the batch axis first"
            )
    return fields


def _nonfinite(spec: FieldSpec, name: str, start: int, bad: np.ndarray) -> StoreError:
    row = int(np.flatnonzero(bad)[0])
    return StoreError(
        f"{name} ({spec.name}) of simulation {start + row}", expected="finite values",
        got=f"{bad[row]} NaN or infinite values ({np.count_nonzero(bad)} such simulations in "
        f"rows {start} to {start + len(bad) - 1})",
        fix='repair or remove these rows, or record them as failed with nonfinite="fail"',
    )  # fmt: skip
