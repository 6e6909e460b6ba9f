"""Does an emulator repeat the fields it was fitted to?

Of squares and cubes the nearest training field is looked for at all shifts (`memorisation`), of
other fields as they lie. How near is near depends on the fields: held-out reference simulations
are compared with the same training fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .by_axes import ByAxes, chosen
from .equal_theta import FLOOR
from .memorisation import nearest_neighbour

if TYPE_CHECKING:
    from sbitools.store import SimulationStore

__all__ = ["nearest_training"]

_LIBRARY_CELLS, _LIBRARY = 2**24, 512  # of training fields that are searched


def nearest_training(
    measure: ByAxes, emulated: np.ndarray, reference: np.ndarray, training: SimulationStore
) -> dict[str, dict[str, float]]:
    """How near emulated and held-out fields are to those of the training store.

    Args:
        measure: of these fields.
        emulated: (B, *shape).
        reference: held-out simulations of the same theta, (B, *shape).
        training: what the emulator was fitted to.

    Returns:
        A row of ``errors``: the median over fields of the largest correlation, of vectors of the
        smallest rms distance in units of the scatter of entries.
    """
    plan = measure.plan
    vector, cells = plan.kind == "vector", int(np.prod(plan.shape))
    most = min(_LIBRARY, max(16, _LIBRARY_CELLS // cells))
    rows = training.done[chosen(len(training.done), most)] if len(training.done) else ()
    candidates = [_flat(measure, fields) for fields in (emulated, reference)]
    best = [np.full(len(fields), np.inf if vector else -np.inf) for fields in candidates]
    for start in range(0, len(rows), 16):
        library = _flat(measure, training.read(rows[start : start + 16]).numpy())
        for one, fields in zip(best, candidates, strict=True):
            if vector:
                gaps = ((fields[:, None] - library[None]) ** 2).mean(2).min(1)
                np.minimum(one, np.sqrt(gaps), out=one)
            else:
                np.maximum(one, _correlation(measure, fields, library), out=one)
    if not len(rows):
        return {}
    name = "distance to the nearest training vector" if vector else (
        "correlation with the nearest training field")  # fmt: skip
    return {name: {"emulator": float(np.median(best[0])), FLOOR: float(np.median(best[1]))}}


def _flat(measure: ByAxes, fields: np.ndarray) -> np.ndarray:
    """Standardised entries of vectors, the cells of the first channel of others; (B, n)."""
    cells = measure.standard(fields)
    cells = cells.reshape(*cells.shape[:2], -1)
    return cells[..., 0] if measure.plan.kind == "vector" else cells[:, 0]


def _correlation(measure: ByAxes, fields: np.ndarray, library: np.ndarray) -> np.ndarray:
    shape = measure.plan.shape
    if measure.plan.kind == "grid" and len(shape) in (2, 3) and len(set(shape)) == 1:
        return nearest_neighbour(
            fields.reshape(-1, *shape), library.reshape(-1, *shape)
        ).correlation
    a, b = (v - v.mean(1, keepdims=True) for v in (fields, library))
    size = np.sqrt((a**2).sum(1)[:, None] * (b**2).sum(1)[None])
    return (a @ b.T / np.where(size > 0, size, np.inf)).max(1)
