"""What comes into a store is checked here: shapes, dtypes, units, finite values."""

from __future__ import annotations

from typing import Any

import numpy as np

from sbitools.errors import ShapeError, StoreError
from sbitools.gate.arrays import as_native
from sbitools.labels import is_missing
from sbitools.parameters import ParameterSpace
from sbitools.simulator import FieldSpec

from .layout import Layout
from .manifest import DesignTable
from .parts import DONE, FAILED, PartData

__all__ = ["as_native", "checked_rows", "checked_theta", "mark_nonfinite"]


def checked_theta(parameters: ParameterSpace, theta: Any) -> np.ndarray:
    """Theta as a new float64 array, (n, P).

    Raises:
        ShapeError: for rows of different lengths.
        ParameterError: for what is no table of real numbers, or outside the priors.
    """
    return parameters.check(as_native(parameters.columns(theta), "theta")).numpy()


def _missing_rows(array: np.ndarray) -> np.ndarray:
    """Number of NaN, Inf or UNSEEN in each row, int64, (n,)."""
    if array.dtype.kind not in "fc":
        return np.zeros(len(array), np.int64)
    flat = array.reshape(len(array), -1)
    return np.array([np.count_nonzero(is_missing(row)) for row in flat], np.int64)


def _kinds_of(row: np.ndarray) -> str:
    """What the missing values of a row are."""
    unseen = is_missing(row) & np.isfinite(row)
    return "NaN, infinite or healpy.UNSEEN" if unseen.any() else "NaN or infinite"


def mark_nonfinite(fields: dict[str, np.ndarray]) -> tuple[np.ndarray, list[str]]:
    """States, uint8, (n,), and messages of n simulations: those with missing values failed.

    However a result came in, its message is the same, and with it the digest of the store.
    """
    count = len(next(iter(fields.values())))
    state, errors = np.full(count, DONE, np.uint8), [""] * count
    for name, array in fields.items():
        bad = _missing_rows(array)
        for i in np.flatnonzero(bad):
            state[i] = FAILED
            kinds = _kinds_of(array[i])
            errors[i] = f"{bad[i]} of {array[i].size} values of {name} are {kinds}"
    return state, errors


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
    for name, array in fields.items():
        layout.fields[name].check(array, count, name)
        bad = _missing_rows(array)
        if bad.any() and nonfinite != "fail":
            raise _nonfinite(layout.fields[name], name, start, bad, array)
    state, errors = mark_nonfinite(fields)
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
    given = {"x": x} | ({} if source is None else {"source": source})
    fields = {k: as_native(values, k, layout.fields[k]) for k, values in given.items()}
    for name, array in fields.items():
        if array.ndim == 0:
            raise ShapeError(
                name, expected="a batch axis", got="a scalar", fix="put the batch axis first"
            )
    return fields


def _nonfinite(
    spec: FieldSpec, name: str, start: int, bad: np.ndarray, array: np.ndarray
) -> StoreError:
    row = int(np.flatnonzero(bad)[0])
    kinds = _kinds_of(array[row])
    return StoreError(
        f"{name} ({spec.name}) of simulation {start + row}", expected="finite values",
        got=f"{bad[row]} {kinds} values ({np.count_nonzero(bad)} such simulations in "
        f"rows {start} to {start + len(bad) - 1})",
        fix=("set the pixels that nobody sees to 0, in all maps, with a mask step of the "
             "observation model; or " if "UNSEEN" in kinds else "")
        + 'repair or remove these rows, or record them as failed with nonfinite="fail"',
    )  # fmt: skip
