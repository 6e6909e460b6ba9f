"""The instrument as a step of an observation: noise of a table for a plane, a cube or a cone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from sbitools.errors import ObservationError
from sbitools.observation import SpectralNoise

from .geometry import LINE
from .ska_low import SCENARIOS
from .table import NoiseTable, read_table

__all__ = ["shipped_table", "slab_edges", "thermal_noise"]

_HERE = Path(__file__).parent


def shipped_table(scenario: str) -> NoiseTable:
    """The table of SKA1-Low for ``"optimistic"`` or ``"moderate"`` foregrounds, 1080 h.

    Raises:
        ObservationError: for another scenario.
    """
    if scenario not in SCENARIOS:
        raise _wrong("scenario", " or ".join(SCENARIOS), repr(scenario))
    return read_table(_HERE / f"ska_low_{scenario}.csv")


def slab_edges(redshifts: np.ndarray, step: float = 1.02) -> list[int]:
    """Cells at which slabs begin, and where the last one ends.

    Args:
        redshifts: of the cells along the line of sight, ascending or descending, (n,).
        step: ratio of 1 + z across a slab, at most; a rest of less than half a slab is joined to
            the last one.
    """
    depth = np.abs(np.log1p(redshifts) - np.log1p(redshifts[0])) / np.log(step)
    number = np.floor(depth + 1e-9).astype(int)
    edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(redshifts)]
    if len(edges) > 2 and 2 * (edges[-1] - edges[-2]) < edges[-2] - edges[-3]:
        del edges[-2]
    return edges


def thermal_noise(
    table: str | Path | NoiseTable,
    redshifts: float | ArrayLike,
    cell_size: float | Sequence[float],
    shape: Sequence[int],
    *,
    quantity: str = "mode",
    wedge: bool = True,
    limit: float | None = 1000.0,
    longest_baseline: float | None = None,
    slab_step: float = 1.02,
    depth: int | None = None,
) -> SpectralNoise:
    """Noise and lost modes of a field of brightness temperature in mK.

    ``quantity="mode"`` is the noise that a telescope has: that of each mode, which depends on its
    k_perp through the number of baselines. ``"average"`` takes the error of the power spectrum
    averaged over a shell for the noise of each mode of it, as the mock observations of
    arXiv:2201.07587 and arXiv:2401.04174 do: tens to hundreds of times lower, since an average
    over many modes is far better known than each. It is there to compare with those.

    The redshifts of a light cone's cells depend on the cosmology; the noise has those it is given.

    Args:
        table: ``"optimistic"`` or ``"moderate"``, see `shipped_table`; or a file or a table.
        redshifts: of a plane or a cube, a number; of each cell along the line of sight of a cone,
            monotonic, (n_los,).
        cell_size: in Mpc, or (on the sky, along the line of sight).
        shape: of the field, (x, y) or (x, y, line of sight).
        quantity: ``"mode"`` or ``"average"``.
        wedge: remove the modes of the foreground wedge, and k_perp without baselines, one by one.
            False leaves it to infinities of the table, as the recipe of arXiv:2201.07587 does.
        limit: values of the table in mK^2 from which on modes are removed; None: no limit.
        longest_baseline: in m; longer ones are left out: the resolution of the image.
        slab_step: ratio of 1 + z across a slab of a cone, each of which has the noise of the
            frequency at its centre.
        depth: of a plane: cells along the line of sight of the cube it belongs to; None: as many
            as along x.

    Raises:
        ObservationError: for arguments that do not fit each other, and redshifts the table does
            not reach.
    """
    loaded = _load(table)
    edges, centres = _slabs(redshifts, tuple(shape), slab_step)
    frequencies = [LINE / (1 + z) for z in centres]
    low, high = _baselines(loaded, wedge, longest_baseline)
    return SpectralNoise(
        loaded.k, [loaded.at(f, quantity).tolist() for f in frequencies], cell_size, edges=edges,
        variable="k_perp" if quantity == "mode" else "k", limit=limit,
        wedge_slope=[loaded.wedge_slope(f) if wedge else 0.0 for f in frequencies],
        wedge_buffer=loaded.buffer if wedge and loaded.foregrounds != "none" else 0.0,
        k_perp_min=[float(loaded.background.k_perp(low, f)) for f in frequencies],
        k_perp_max=[float(loaded.background.k_perp(high, f)) for f in frequencies], depth=depth,
    )  # fmt: skip


def _load(table: str | Path | NoiseTable) -> NoiseTable:
    if isinstance(table, NoiseTable):
        return table
    return shipped_table(str(table)) if table in SCENARIOS else read_table(table)


def _baselines(table: NoiseTable, all_cuts: bool, longest: float | None) -> tuple[float, float]:
    """Shortest and longest baseline in m whose modes are kept."""
    shortest = table.baselines[0]
    if longest is not None and not shortest < longest:
        raise _wrong("longest_baseline", f"more than {shortest:.4g} m", str(longest))
    low, high = table.baselines if all_cuts else (0.0, np.inf)
    return low, min(high, longest or np.inf)


def _slabs(
    redshifts: float | ArrayLike, shape: tuple[int, ...], step: float
) -> tuple[list[int] | None, list[float]]:
    """Edges, None for one slab of any length, and the redshift at the centre of each slab."""
    z = np.asarray(redshifts, dtype=float)
    if not (np.isfinite(z).all() and (z > -1).all()):
        raise _wrong("redshifts", "finite numbers above -1", str(z.tolist())[:80])
    if len(shape) not in (2, 3):
        raise _wrong("shape", "(x, y) or (x, y, line of sight)", str(shape))
    if z.ndim == 0:
        return None, [float(z)]
    change = np.diff(z)
    one_way = bool((change > 0).all() or (change < 0).all())
    if len(shape) == 2 or z.shape != shape[2:] or not one_way:
        raise _wrong("redshifts", "one number, or a monotonic one for each cell along the line of "
                     f"sight of {shape}", f"shape {z.shape}: {z.tolist()}"[:80])  # fmt: skip
    if not step > 1:
        raise _wrong("slab_step", "more than 1", str(step))
    edges = slab_edges(z, step)
    centres = [
        float(np.expm1((np.log1p(z[a]) + np.log1p(z[b - 1])) / 2)) for a, b in pairwise(edges)
    ]
    return edges, centres


def _wrong(name: str, expected: str, got: str) -> ObservationError:
    return ObservationError(
        f"thermal_noise {name}", expected=expected, got=got, fix=f"correct {name}"
    )
