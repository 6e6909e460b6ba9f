"""Bispectrum of periodic cubes.

<d(k1) d(k2) d(k3)> = (2 pi)^3 B(k1, k2, k3) delta(k1 + k2 + k3): its unit is a volume squared. A
field that keeps only the modes of one shell, d_i(x), makes the sum over all closed triangles with
sides in three shells one sum over cells (Scoccimarro 2000, astro-ph/0004086; Watkinson et al.
2017, arXiv:1705.06284, for 21cm fields),

    B = V^2 / N^3  sum_x d_1 d_2 d_3 / sum_x 1_1 1_2 1_3,

with N cells and 1_i(x) the shell of unit modes, whose sum counts the triangles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sbitools.errors import ShapeError

from .fourier import as_fields, ascending, shells

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Bispectrum", "bispectrum"]


class Bispectrum(NamedTuple):
    """A binned bispectrum.

    Attributes:
        k: mean wavenumber of the shell of each side, shape (n, 3).
        bispectrum: shape (n,) or (B, n); NaN where no triangle closes.
        n_triangles: of modes, their order and k against -k counted separately, shape (n,).
    """

    k: np.ndarray
    bispectrum: np.ndarray
    n_triangles: np.ndarray


def bispectrum(
    field: Tensor | np.ndarray, box_size: float, *, edges: np.ndarray,
    triangles: Sequence[Sequence[int]] | np.ndarray | None = None,
) -> Bispectrum:  # fmt: skip
    """Bispectrum of each field of a batch.

    In a Gaussian field its variance is s V P1 P2 P3 / n_triangles, with s = 6 for three equal
    shells, 2 for two, 1 for none.

    Args:
        field: shape (n, n, n) or (B, n, n, n).
        box_size: side, in any unit of length; k comes in its inverse.
        edges: ascending edges of the shells in k, shape (n_bins + 1,).
        triangles: three shells per configuration, integers (n, 3); the equilateral ones,
            (i, i, i) for each shell, if None.

    Raises:
        ShapeError: for other shapes, and for triangles whose sides may add up to n fundamentals:
            the mesh would count open triangles as closed.
    """
    cubes = as_fields(field, "field", 3)
    n = cubes.shape[-1]
    limits = ascending(edges, "edges")
    sides = _sides(triangles, len(limits) - 1)
    _check_closure(limits * box_size / (2 * np.pi), sides, n)
    bins = shells(n, float(box_size), tuple(limits.tolist()))
    shell = bins.shell.reshape(bins.weight.shape)
    modes = np.ones(shell.shape, np.complex128)
    count = np.rint(np.array(list(_products(modes, shell, sides, n))) * float(n) ** 6)
    # sum_x 1_1 1_2 1_3 is count / N^2, hence V^2 / N^3 becomes V^2 / N / count.
    scale = box_size**6 / float(n) ** 3 / np.where(count > 0, count, np.nan)
    value = np.empty((len(cubes), len(sides)))
    for row, cube in zip(value, cubes, strict=True):
        row[:] = list(_products(np.fft.rfftn(cube.astype(np.float64)), shell, sides, n))
    value *= scale
    return Bispectrum(
        bins.k[sides], value if np.ndim(field) == 4 else value[0], count.astype(np.int64)
    )


def _products(modes: np.ndarray, shell: np.ndarray, sides: np.ndarray, n: int) -> Iterator[float]:
    """sum_x d_1 d_2 d_3 for each triple of shells; a filtered field is kept while it is needed."""
    last = {int(s): i for i, triple in enumerate(sides) for s in triple}
    kept: dict[int, np.ndarray] = {}
    for i, triple in enumerate(sides.tolist()):
        for s in set(triple) - set(kept):
            kept[s] = np.fft.irfftn(np.where(shell == s, modes, 0), s=(n, n, n), axes=(0, 1, 2))
        a, b, c = (kept[s] for s in triple)
        yield float((a * b * c).sum())
        kept = {s: d for s, d in kept.items() if last[s] > i}


def _sides(triangles: Sequence[Sequence[int]] | np.ndarray | None, n_bins: int) -> np.ndarray:
    """Shells of the three sides, int64, shape (n, 3)."""
    if triangles is None:
        return np.repeat(np.arange(n_bins)[:, None], 3, axis=1)
    sides = np.asarray(triangles)
    whole = sides.dtype.kind in "iu" and sides.ndim == 2 and sides.shape[1] == 3
    if not whole or not ((sides >= 0) & (sides < n_bins)).all():
        raise ShapeError(
            "triangles", expected=f"integers (n, 3) from 0 to {n_bins - 1}",
            got=f"{triangles}", fix="number the shells between the edges from 0",
        )  # fmt: skip
    return sides.astype(np.int64)


def _check_closure(limits: np.ndarray, sides: np.ndarray, n: int) -> None:
    """Edges in fundamentals: no component of k1 + k2 + k3 may reach n."""
    longest = float(limits[sides + 1].sum(1).max(initial=0))
    if longest > n * (1 + 1e-12):
        raise ShapeError(
            "edges", expected=f"triangles whose upper edges add up to at most {n} fundamentals",
            got=f"{longest:.4g}", fix="stay below two thirds of the Nyquist frequency",
        )  # fmt: skip
