"""A user's own field: read it, check it, and draw from its posterior."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sbitools.errors import ObservationError

if TYPE_CHECKING:
    from sbitools.simulator import FieldSpec

__all__ = ["check_field", "posterior_draws", "read_field", "summarise", "write_draws"]

_QUANTILES = (0.025, 0.16, 0.84, 0.975)


def read_field(
    file: Path, dataset: str | None = None, spec: FieldSpec | None = None
) -> tuple[np.ndarray, str | None]:
    """The array in a file, and its unit if the file says one (attribute ``units`` or ``unit``).

    Args:
        file: of any format, see `sbitools.formats.open_array`.
        dataset: name of the array in the file; None for ``x`` or the only one.
        spec: what it must be; names of axes in the file, its unit and fill values are compared.

    Raises:
        StoreError: if the file, or the array in it, cannot be read.
        ObservationError: if it says that it is something else than `spec`.
    """
    from sbitools.formats.opening import open_array
    from sbitools.gate.arrays import as_native
    from sbitools.labels import field_values

    with open_array(file, dataset, prefer="x") as array:
        unit = array.unit
        if spec is not None:
            field_values(array, spec, f"the observation in {file}", ObservationError)
        what = f"the observation in {file}"
        return as_native(array.whole(), what, error=ObservationError), unit


def check_field(
    array: np.ndarray, spec: FieldSpec, unit: str | None = None, raw: FieldSpec | None = None
) -> np.ndarray:
    """The field with a batch axis, shape (1, *spec.shape), in the dtype of `spec`.

    Args:
        array: one field, with or without a batch axis of length 1.
        spec: what it must be.
        unit: its unit if known.
        raw: what a simulated field is, which the message for a wrong shape recognises.

    Raises:
        ObservationError: for another shape, a dtype that does not convert safely, another unit, or
            values that are not finite.
    """
    from sbitools.gate.arrays import as_native
    from sbitools.labels import is_missing, same_unit

    alone = getattr(array, "shape", None) == spec.shape
    array = as_native(array, "observation", spec, batch=not alone, error=ObservationError)
    batch = array[None] if array.shape == spec.shape else array
    if batch.shape != (1, *spec.shape):
        fix = "cut, pad or regrid the field"
        if raw is not None and array.shape in (raw.shape, (1, *raw.shape)):
            fix = (
                "add --simulated for a simulated field, or apply the deterministic steps of "
                "[[observe]] to the data"
            )
        raise _unfit("shape", str(spec.shape), str(array.shape), fix)
    if not np.can_cast(array.dtype, spec.dtype, casting="same_kind"):
        raise _unfit("dtype", spec.dtype, str(array.dtype), f"convert it to {spec.dtype}")
    if unit is not None and not same_unit(unit, spec.unit):
        raise _unfit("unit", repr(spec.unit), repr(unit), "convert the values")
    bad = is_missing(batch)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0][1:])
        raise _unfit(
            "values", "finite numbers",
            f"{int(bad.sum())} NaN or Inf (or healpy.UNSEEN), the first at {where}",
            "fill or mask them, with the mask that the posterior was trained with",
        )  # fmt: skip
    return batch.astype(spec.dtype)


def _unfit(what: str, expected: str, got: str, fix: str) -> ObservationError:
    return ObservationError(f"{what} of the observation", expected=expected, got=got, fix=fix)


def posterior_draws(
    posterior: Any, array: np.ndarray, n: int, seed: int, simulated: bool, unit: str | None = None
) -> np.ndarray:
    """Draws (n, n_inferred) from the posterior of one field.

    Args:
        posterior: a `sbitools.Posterior`.
        array: one field.
        n: draws.
        seed: of the draws, and of the noise of a simulated field.
        simulated: the field is raw: the observation model is applied to it first.
        unit: of the field, checked if given.

    Raises:
        ObservationError: if the field does not fit the posterior.
    """
    import torch

    from sbitools.seeds import derive

    spec = posterior.output if simulated else posterior.observed
    x = torch.from_numpy(check_field(array, spec, unit, posterior.output))
    if simulated:
        x = posterior.observe(x, torch.tensor([derive(seed, 1)]))
    return posterior.sample(x, n, seed=derive(seed, 2))[0].numpy()


def summarise(draws: np.ndarray) -> np.ndarray:
    """Mean, sd, 95 % low, 68 % low, 68 % high, 95 % high of each column, shape (P, 6)."""
    quantiles = np.quantile(draws, _QUANTILES, axis=0)
    return np.column_stack([draws.mean(0), draws.std(0, ddof=1 if len(draws) > 1 else 0),
                            *quantiles])  # fmt: skip


def write_draws(out: Path, names: list[str], draws: np.ndarray) -> None:
    """Write draws as CSV with a header, or as NPZ with ``theta`` and ``names``, whole or not."""
    from sbitools.disk.files import typed, write_table

    with typed(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".npz":
        buffer = io.BytesIO()
        np.savez_compressed(buffer, theta=draws, names=np.array(names))
        write_table(out, buffer.getbuffer())
        return
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(names)
    rows.writerows([[repr(float(v)) for v in row] for row in draws])
    write_table(out, text.getvalue().encode())
