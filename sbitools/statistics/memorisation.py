"""Has an emulator memorised its training set?

On a periodic grid a copy of a training field may lie anywhere. For each generated field this
finds the field of the library, and the shift, with the largest Pearson correlation,

    r = max_{l, s} sum_x c(x) l(x - s)    for fields of zero mean and unit sum of squares,

all shifts s at once by FFT. What a large r is depends on the fields: fields with few large
structures correlate by chance. Compare with held-out reference fields as the candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import TYPE_CHECKING

import numpy as np

from sbitools.errors import ShapeError

from .fourier import as_fields, parts

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Neighbours", "nearest_neighbour"]

# Spectra, products and correlations of so many bytes stay in the cache of a core.
_MEMORY = 2**22


@dataclass(frozen=True)
class Neighbours:
    """The nearest field of a library to each of B candidates in D dimensions.

    Attributes:
        correlation: Pearson's, over the cells, shape (B,); 0 for a constant candidate.
        index: of the nearest field in the library, shape (B,).
        shift: cells by which ``numpy.roll`` moves it onto the candidate, shape (B, D).
        axes: to which it is transposed before, shape (B, D).
        flips: axes that are then reversed, still before the shift, shape (B, D).
    """

    correlation: np.ndarray
    index: np.ndarray
    shift: np.ndarray
    axes: np.ndarray
    flips: np.ndarray

    def aligned(self, library: Tensor | np.ndarray) -> np.ndarray:
        """The nearest fields, moved onto their candidates, shape (B, n, ...)."""
        dims = self.shift.shape[1]
        fields, rows = as_fields(library, "library", dims), range(len(self.index))
        moved = [_moved(fields[self.index[i]][None], self.axes[i], self.flips[i])[0] for i in rows]
        return np.stack([np.roll(moved[i], self.shift[i], tuple(range(dims))) for i in rows])


def nearest_neighbour(
    candidates: Tensor | np.ndarray, library: Tensor | np.ndarray, *, symmetries: bool = False
) -> Neighbours:
    """The library field most correlated with each candidate, over all cyclic shifts.

    The search is in single precision; the correlation of what it finds is then computed in double.
    The cost is one FFT per candidate, library field and symmetry; memory does not grow with them.

    Args:
        candidates: shape (B, n, n) or (B, n, n, n).
        library: shape (n_library, n, n) or (n_library, n, n, n).
        symmetries: also try the flips and transpositions of the library, 8 of a plane, 48 of a
            cube.

    Raises:
        ShapeError: for fields of different shapes, no library, or values that are not finite.
    """
    dims = np.ndim(candidates) - 1
    if dims not in (2, 3) or np.shape(library)[1:] != np.shape(candidates)[1:]:
        raise ShapeError(
            "library", expected="batches of planes or cubes of one size",
            got=f"candidates {np.shape(candidates)}, library {np.shape(library)}",
            fix="give a single field as field[None]",
        )  # fmt: skip
    fields, others = as_fields(candidates, "candidates", dims), as_fields(library, "library", dims)
    if not len(others):
        raise ShapeError(
            "library", expected="one field or more", got="none", fix="pass the training set"
        )
    moves = _symmetries(dims) if symmetries else _symmetries(dims)[:1]
    n = len(fields)
    shift, axes, flips = (np.zeros((n, dims), kind) for kind in (np.int64, np.int64, bool))
    columns = (np.full(n, -np.inf), np.zeros(n, np.int64), shift, axes, flips)
    for few in parts(n, 32 * others[0].size):
        _search(fields[few], others, moves, Neighbours(*(column[few] for column in columns)))
    return Neighbours(*columns)


def _search(
    candidates: np.ndarray, library: np.ndarray, moves: list[tuple], best: Neighbours
) -> None:
    """Fill `best` in place."""
    from scipy import fft

    shape, axes = candidates.shape[1:], tuple(range(1, candidates.ndim))
    standard = _standardised(candidates, "candidates")
    spectra = np.asarray(fft.rfftn(standard.astype(np.float32), axes=axes))
    for some in parts(len(library), 32 * library[0].size, _MEMORY):
        rows = _standardised(library[some], "library").astype(np.float32)
        for move in moves:
            others = np.conj(np.asarray(fft.rfftn(_moved(rows, *move), axes=axes)))
            for i, modes in enumerate(spectra):
                found = np.asarray(fft.irfftn(others * modes, s=shape, axes=axes))
                place = np.unravel_index(found.argmax(), found.shape)
                if found[place] > best.correlation[i]:
                    best.correlation[i], best.index[i] = found[place], some.start + place[0]
                    best.shift[i], best.axes[i], best.flips[i] = place[1:], *move
    best.correlation[:] = (standard * _standardised(best.aligned(library), "library")).sum(axes)


def _standardised(fields: np.ndarray, what: str) -> np.ndarray:
    """Zero mean and unit sum of squares, float64; a constant field becomes 0."""
    axes = tuple(range(1, fields.ndim))
    if not np.isfinite(fields).all():
        raise ShapeError(
            what, expected="finite values", got="others", fix="leave failed fields out"
        )
    centred = fields - fields.mean(axes, dtype=np.float64, keepdims=True)
    norm = np.sqrt((centred**2).sum(axes, keepdims=True))
    rounding = 1e-12 * np.abs(fields).max(axes, keepdims=True) * fields[0].size ** 0.5
    return centred / np.where(norm > rounding, norm, np.inf)


def _symmetries(dims: int) -> list[tuple]:
    """(axes, flips) of all symmetries of a square or a cube, the identity first."""
    return list(product(permutations(range(dims)), product((False, True), repeat=dims)))


def _moved(fields: np.ndarray, axes: Sequence[int], flips: Sequence[bool]) -> np.ndarray:
    """Fields (B, n, ...) with axes transposed, then some of them reversed."""
    turned = fields.transpose(0, *(int(a) + 1 for a in axes))
    return np.flip(turned, tuple(i + 1 for i, flip in enumerate(flips) if flip))
