"""Modes of real fields on periodic grids, their shells in |k|, and batches of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sbitools.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Shells", "as_array", "as_fields", "ascending", "fft_modes", "parts", "shells", "sum_by_bin",
]  # fmt: skip


class Shells(NamedTuple):
    """Bins in |k| of the modes of a real FFT.

    Attributes:
        shell: bin of each mode, n_bins for those in none, raveled.
        weight: 2 where the real FFT leaves out the conjugate mode, of the shape of the modes.
        k: mean wavenumber of each bin, shape (n_bins,).
        n_modes: k and -k counted separately, shape (n_bins,).
    """

    shell: np.ndarray
    weight: np.ndarray
    k: np.ndarray
    n_modes: np.ndarray


def fft_modes(n: int, dims: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """The modes of a real FFT of n^dims cells.

    Returns:
        |k|^2 in units of the fundamental, int64, shape (n, n, n // 2 + 1) in three dimensions, and
        how many modes each stands for, shape (n // 2 + 1,): 2 where the FFT leaves out the
        conjugate one.
    """
    full, half = (f(n, 1 / n).round().astype(np.int64) for f in (np.fft.fftfreq, np.fft.rfftfreq))
    squares = half**2
    for _ in range(dims - 1):
        squares = (full**2).reshape(-1, *[1] * squares.ndim) + squares
    return squares, np.where((half == 0) | (2 * half == n), 1.0, 2.0)


@lru_cache(maxsize=8)
def shells(n: int, box_size: float, edges: tuple[float, ...] | None, dims: int = 3) -> Shells:
    """Bins of the modes of n^dims cells; see `power_spectrum` for the edges."""
    squares, weight = fft_modes(n, dims)
    k = np.sqrt(squares)
    if edges is None:
        limits = np.arange(n // 2 + 1) + 0.5
    else:
        limits = ascending(edges, "edges") * box_size / (2 * np.pi)
    n_bins = len(limits) - 1
    index = np.digitize(k, limits) - 1
    index[index < 0] = n_bins
    weights = np.broadcast_to(weight, k.shape)
    n_modes = sum_by_bin(index, weights, n_bins)
    mean_k = sum_by_bin(index, weights * k, n_bins) / np.maximum(n_modes, 1)
    middle = (limits[1:] + limits[:-1]) / 2
    mean_k = np.where(n_modes > 0, mean_k, middle) * 2 * np.pi / box_size
    for shared in (mean_k, n_modes):
        shared.flags.writeable = False
    return Shells(index.ravel(), weights, mean_k, n_modes)


def as_array(field: Tensor | np.ndarray) -> np.ndarray:
    """Values as numpy, without their gradient and off their device."""
    if isinstance(field, np.ndarray):
        return field
    tensor = field.detach().cpu()
    half = tensor.is_floating_point() and tensor.element_size() == 2
    return (tensor.float() if half else tensor).numpy()  # numpy has no bfloat16


def as_fields(field: Tensor | np.ndarray, what: str, dims: int) -> np.ndarray:
    """Real fields of equal sides as numpy, shape (B, n, ...) with B = 1 for a single one.

    Raises:
        ShapeError: for other shapes and complex numbers.
    """
    field = as_array(field)
    equal = field.ndim in (dims, dims + 1) and len(set(field.shape[-dims:])) == 1
    if not equal or np.iscomplexobj(field):
        sides, shape = ", ".join("n" * dims), "squares" if dims == 2 else "cubes"
        raise ShapeError(
            what, expected=f"a real field ({sides}) or (B, {sides})",
            got=f"shape {field.shape}, {field.dtype}",
            fix=f"pass scalar fields on periodic {shape}",
        )  # fmt: skip
    return field if field.ndim > dims else field[None]


def ascending(edges: Sequence[float] | np.ndarray, what: str) -> np.ndarray:
    """Edges of bins as float64.

    Raises:
        ShapeError: unless they are two or more ascending numbers.
    """
    limits = np.asarray(edges, dtype=np.float64)
    if limits.ndim != 1 or len(limits) < 2 or not (np.diff(limits) > 0).all():
        raise ShapeError(
            what, expected="two or more ascending wavenumbers", got=f"{edges}", fix="sort them"
        )
    return limits


def parts(n: int, bytes_each: float, memory: float = 2**26) -> Iterator[slice]:
    """Slices of range(n) such that each needs at most `memory` bytes, or is a single element."""
    step = max(1, int(memory / bytes_each))
    return (slice(start, start + step) for start in range(0, n, step))


def sum_by_bin(index: np.ndarray, values: np.ndarray, n_bins: int) -> np.ndarray:
    """Sum of the values of each bin, shape (n_bins,); index n_bins is in none."""
    return np.bincount(index.ravel(), values.ravel(), n_bins + 1)[:n_bins]
