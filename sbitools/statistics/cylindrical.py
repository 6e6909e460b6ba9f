"""Power spectrum of light cones across and along the line of sight.

A light cone is periodic on the sky and evolves along the line of sight. It is cut there into
chunks, each short enough to be taken for one epoch, and open at its two ends: a taper w keeps
power of long modes from leaking into short ones. With d the field of a chunk of volume V and N
cells,

    P(k_perp, k_par) = V / N^2 <|FFT(w d)|^2> / <w^2>,

so that white noise of unit variance has P equal to the volume of a cell, whatever the taper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from sbitools.errors import ConfigError, ShapeError

from .fourier import as_array, ascending, parts, sum_by_bin

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CylindricalSpectrum", "cylindrical_power", "taper"]

# Cosine series of the tapers (Harris 1978, Proc. IEEE 66, 51; the 4-term Blackman-Harris window,
# with side lobes at -92 dB).
_SERIES = {
    None: (1.0,),
    "hann": (0.5, -0.5),
    "blackman-harris": (0.35875, -0.48829, 0.14128, -0.01168),
}

Window = Literal["hann", "blackman-harris"]


class CylindricalSpectrum(NamedTuple):
    """A spectrum in bins of (k_perp, k_par), for each chunk of the line of sight.

    Attributes:
        k_perp: mean wavenumber on the sky of each bin, shape (n_perp,).
        k_par: mean wavenumber along the line of sight, shape (n_chunks, n_par).
        power: shape (n_chunks, n_perp, n_par) or (B, n_chunks, n_perp, n_par); NaN in empty bins.
        n_modes: k and -k counted separately, shape (n_chunks, n_perp, n_par).
    """

    k_perp: np.ndarray
    k_par: np.ndarray
    power: np.ndarray
    n_modes: np.ndarray


class _Axis(NamedTuple):
    bin: np.ndarray  # of each mode, n_bins for those in none
    weight: np.ndarray  # modes that each stands for
    k: np.ndarray  # mean of each bin
    n_modes: np.ndarray


def cylindrical_power(
    field: Tensor | np.ndarray, cell_size: float | tuple[float, float], *,
    edges_perp: np.ndarray, edges_par: np.ndarray,
    window: Window | None = None, chunks: Sequence[int] | np.ndarray | None = None,
) -> CylindricalSpectrum:  # fmt: skip
    """Cylindrical power spectrum of each light cone of a batch.

    The mean of a slice across the line of sight is a mode of k_perp = 0, which edges that begin
    above 0 leave out.

    Args:
        field: shape (n, n, n_los) or (B, n, n, n_los), the line of sight last.
        cell_size: side of a cell, in any unit of length, or (on the sky, along the line of sight);
            k comes in its inverse.
        edges_perp: ascending edges in k_perp, shape (n_perp + 1,).
        edges_par: ascending edges in |k_par|, shape (n_par + 1,).
        window: taper along the line of sight; none if None, for cubes periodic in all directions.
        chunks: ascending cells where chunks begin, and where the last one ends, shape
            (n_chunks + 1,); the whole line of sight if None.

    Raises:
        ShapeError: for other shapes, edges that do not ascend, chunks outside the light cone.
        ConfigError: for an unknown window.
    """
    cones = _cones(field)
    n, length = cones.shape[1], cones.shape[3]
    across, along = cell_size if isinstance(cell_size, tuple) else (cell_size, cell_size)
    perp = _across(n, across, ascending(edges_perp, "edges_perp"))
    limits = ascending(edges_par, "edges_par")
    found, axes = [], []
    for start, stop in _bounds(chunks, length):
        par = _along(stop - start, along, limits)
        scale = (across**2 * along) / (n**2 * (stop - start))  # V / N^2
        weights = taper(stop - start, window)
        found.append(_binned(cones[..., start:stop], weights, perp, par) * scale)
        axes.append(par)
    n_modes = np.stack([perp.n_modes[:, None] * par.n_modes for par in axes])
    power = np.stack(found, axis=1) / np.where(n_modes > 0, n_modes, np.nan)
    k_par = np.stack([par.k for par in axes])
    return CylindricalSpectrum(perp.k, k_par, power if np.ndim(field) == 4 else power[0], n_modes)


def taper(n: int, window: Window | None) -> np.ndarray:
    """Weights of n cells in a row, symmetric, with a mean square of 1.

    Raises:
        ConfigError: for an unknown window.
    """
    if window not in _SERIES:
        raise ConfigError(
            "window", expected="'hann', 'blackman-harris' or None", got=f"{window!r}",
            fix="pass one of these",
        )  # fmt: skip
    x = 2 * np.pi * (np.arange(n) + 0.5) / n
    weights = sum((a * np.cos(i * x) for i, a in enumerate(_SERIES[window])), np.zeros(n))
    return weights / np.sqrt((weights**2).mean())


def _binned(cones: np.ndarray, weights: np.ndarray, perp: _Axis, par: _Axis) -> np.ndarray:
    """Sums of |FFT|^2 over the modes of each bin, shape (B, n_perp, n_par)."""
    n_perp, n_par = len(perp.k), len(par.k)
    inside = (perp.bin < n_perp)[..., None] & (par.bin < n_par)
    index = np.where(inside, perp.bin[..., None] * n_par + par.bin, n_perp * n_par)
    total = np.empty((len(cones), n_perp * n_par))
    for some in parts(len(cones), 40 * cones[0].size):
        modes = np.fft.rfftn(cones[some] * weights, axes=(1, 2, 3))
        square = (modes.real**2 + modes.imag**2) * par.weight
        total[some] = [sum_by_bin(index, one, n_perp * n_par) for one in square]
    return total.reshape(len(cones), n_perp, n_par)


def _across(n: int, cell: float, edges: np.ndarray) -> _Axis:
    k = np.fft.fftfreq(n, cell) * 2 * np.pi
    return _axis(np.hypot(k[:, None], k), np.ones((n, n)), edges)


def _along(n: int, cell: float, edges: np.ndarray) -> _Axis:
    half = np.arange(n // 2 + 1)
    count = np.where((half == 0) | (2 * half == n), 1.0, 2.0)
    return _axis(half * (2 * np.pi / (n * cell)), count, edges)


def _axis(k: np.ndarray, count: np.ndarray, edges: np.ndarray) -> _Axis:
    n_bins = len(edges) - 1
    index = np.digitize(k, edges) - 1
    index[index < 0] = n_bins
    n_modes = sum_by_bin(index, count, n_bins)
    mean = sum_by_bin(index, count * k, n_bins) / np.maximum(n_modes, 1)
    return _Axis(index, count, np.where(n_modes > 0, mean, (edges[1:] + edges[:-1]) / 2), n_modes)


def _cones(field: Tensor | np.ndarray) -> np.ndarray:
    field = as_array(field)
    square = field.ndim in (3, 4) and field.shape[-3] == field.shape[-2] and field.shape[-1] > 0
    if not square or np.iscomplexobj(field):
        raise ShapeError(
            "field", expected="real light cones (n, n, n_los) or (B, n, n, n_los)",
            got=f"shape {field.shape}, {field.dtype}", fix="put the line of sight last",
        )  # fmt: skip
    return field if field.ndim == 4 else field[None]


def _bounds(chunks: Sequence[int] | np.ndarray | None, length: int) -> list[tuple[int, int]]:
    """(start, stop) of each chunk."""
    cuts = np.asarray([0, length] if chunks is None else chunks)
    fits = cuts.ndim == 1 and len(cuts) > 1 and cuts.dtype.kind in "iu"
    if not fits or not ((np.diff(cuts) > 0).all() and cuts[0] >= 0 and cuts[-1] <= length):
        raise ShapeError(
            "chunks", expected=f"two or more ascending whole numbers from 0 to {length}",
            got=f"{chunks}", fix="pass the first cell of each chunk, and the end of the last",
        )  # fmt: skip
    return list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))
