"""Statistics of scalar fields on a periodic cube.

Fields are torch or numpy, of shape (n, n, n) or (B, n, n, n); results are numpy float64, with a
batch axis if the field has one. Spectra have the convention <d(k) d(k')*> = (2 pi)^3 P(k)
delta(k - k'): a spectrum has the unit of a volume, and white noise of unit variance has P equal
to the volume of a cell.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sbitools.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Spectrum", "cross_correlation", "cross_power", "fft_modes", "pdf", "power_spectrum",
    "transfer_function",
]  # fmt: skip


class Spectrum(NamedTuple):
    """A binned spectrum.

    Attributes:
        k: mean wavenumber of the modes of each bin, shape (n_bins,).
        power: shape (n_bins,) or (B, n_bins).
        n_modes: Fourier modes per bin, k and -k counted separately, shape (n_bins,).
    """

    k: np.ndarray
    power: np.ndarray
    n_modes: np.ndarray


class _Bins(NamedTuple):
    shell: np.ndarray  # bin of each mode of the real FFT, n_bins for those in none
    weight: np.ndarray  # 2 where the real FFT leaves out the conjugate mode
    k: np.ndarray
    n_modes: np.ndarray


def power_spectrum(
    field: Tensor | np.ndarray, box_size: float, *,
    edges: np.ndarray | None = None, deconvolve_cic: bool = False,
) -> Spectrum:  # fmt: skip
    """Power spectrum of each field of a batch.

    Args:
        field: shape (n, n, n) or (B, n, n, n).
        box_size: side, in any unit of length; k comes in its inverse.
        edges: ascending edges of the bins in k; shells one fundamental wide, centred on its
            multiples up to the Nyquist frequency, if None.
        deconvolve_cic: divide by the squared window of cloud-in-cell painting on this mesh.

    Raises:
        ShapeError: unless the field is a cube or a batch of cubes.
    """
    return cross_power(field, field, box_size, edges=edges, deconvolve_cic=deconvolve_cic)


def cross_power(
    first: Tensor | np.ndarray, second: Tensor | np.ndarray, box_size: float, *,
    edges: np.ndarray | None = None, deconvolve_cic: bool = False,
) -> Spectrum:  # fmt: skip
    """Cross spectrum Re<a(k) b(k)*> of two fields of the same shape; see `power_spectrum`."""
    a, b = _boxes(first, "first"), _boxes(second, "second")
    if a.shape != b.shape:
        raise ShapeError(
            "second field", expected=f"shape {np.shape(first)}, as the first",
            got=f"shape {np.shape(second)}", fix="compare fields of one shape",
        )  # fmt: skip
    n = a.shape[-1]
    bins = _bins(n, float(box_size), None if edges is None else tuple(map(float, edges)))
    scale = bins.weight * (box_size / n**2) ** 3
    if deconvolve_cic:
        scale = scale / _cic_window(n) ** 2
    power = np.empty((len(a), len(bins.k)))
    for row, box_a, box_b in zip(power, a, b, strict=True):
        modes = np.fft.rfftn(box_a.astype(np.float64))
        other = modes if first is second else np.fft.rfftn(box_b.astype(np.float64))
        product = (modes.real * other.real + modes.imag * other.imag) * scale
        row[:] = _sum(bins.shell, product, len(row)) / np.maximum(bins.n_modes, 1)
    power[:, bins.n_modes == 0] = np.nan
    return Spectrum(bins.k, power if np.ndim(first) == 4 else power[0], bins.n_modes)


def transfer_function(
    field: Tensor | np.ndarray, reference: Tensor | np.ndarray, box_size: float, *,
    edges: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """(k, T): T = sqrt(P_field / P_reference), 1 for the right amplitude at every scale."""
    top = power_spectrum(field, box_size, edges=edges)
    return top.k, np.sqrt(top.power / power_spectrum(reference, box_size, edges=edges).power)


def cross_correlation(
    first: Tensor | np.ndarray, second: Tensor | np.ndarray, box_size: float, *,
    edges: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """(k, r): r = P_ab / sqrt(P_a P_b), 1 for the right phases at every scale."""
    cross = cross_power(first, second, box_size, edges=edges)
    product = (
        power_spectrum(first, box_size, edges=edges).power
        * power_spectrum(second, box_size, edges=edges).power
    )
    return cross.k, cross.power / np.sqrt(product)


def pdf(field: Tensor | np.ndarray, edges: np.ndarray) -> np.ndarray:
    """One-point probability density of the cells' values, shape (n_bins,) or (B, n_bins).

    Its integral over the bins is the fraction of cells inside them: values outside are not
    forgotten in the normalisation.

    Args:
        field: shape (n, n, n) or (B, n, n, n).
        edges: ascending bin edges, shape (n_bins + 1,); a value on an edge is in the upper bin.
    """
    boxes = _boxes(field, "field")
    edges = np.asarray(edges, dtype=float)
    counts = np.stack([np.histogram(box, edges)[0] for box in boxes])
    density = counts / (np.diff(edges) * boxes[0].size)
    return density if np.ndim(field) == 4 else density[0]


def fft_modes(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The modes of a real FFT of n^3 cells.

    Returns:
        |k|^2 in units of the fundamental, int64, shape (n, n, n // 2 + 1), and how many modes each
        stands for, shape (n // 2 + 1,): 2 where the FFT leaves out the conjugate one.
    """
    full, half = (f(n, 1 / n).round().astype(np.int64) for f in (np.fft.fftfreq, np.fft.rfftfreq))
    squares = full[:, None, None] ** 2 + full[None, :, None] ** 2 + half**2
    return squares, np.where((half == 0) | (2 * half == n), 1.0, 2.0)


def _boxes(field: Tensor | np.ndarray, what: str) -> np.ndarray:
    if not isinstance(field, np.ndarray):
        field = field.detach().cpu().numpy()
    cube = field.ndim in (3, 4) and len(set(field.shape[-3:])) == 1
    if not cube or np.iscomplexobj(field):
        raise ShapeError(
            what, expected="a real field (n, n, n) or (B, n, n, n)",
            got=f"shape {field.shape}, {field.dtype}", fix="pass scalar fields on periodic cubes",
        )  # fmt: skip
    return field if field.ndim == 4 else field[None]


@lru_cache(maxsize=8)
def _bins(n: int, box_size: float, edges: tuple[float, ...] | None) -> _Bins:
    squares, weight = fft_modes(n)
    k = np.sqrt(squares)
    if edges is None:
        limits = np.arange(n // 2 + 1) + 0.5
    else:
        limits = np.asarray(edges) * box_size / (2 * np.pi)
        if len(limits) < 2 or not (np.diff(limits) > 0).all():
            raise ShapeError(
                "edges", expected="two or more ascending wavenumbers", got=f"{edges}",
                fix="sort them",
            )  # fmt: skip
    n_bins = len(limits) - 1
    index = np.digitize(k, limits) - 1
    index[index < 0] = n_bins
    weights = np.broadcast_to(weight, k.shape)
    n_modes = _sum(index, weights, n_bins)
    mean_k = _sum(index, weights * k, n_bins) / np.maximum(n_modes, 1)
    middle = (limits[1:] + limits[:-1]) / 2
    mean_k = np.where(n_modes > 0, mean_k, middle) * 2 * np.pi / box_size
    for shared in (mean_k, n_modes):
        shared.flags.writeable = False
    return _Bins(index.ravel(), weights, mean_k, n_modes)


def _sum(index: np.ndarray, values: np.ndarray, n_bins: int) -> np.ndarray:
    return np.bincount(index.ravel(), values.ravel(), n_bins + 1)[:n_bins]


def _cic_window(n: int) -> np.ndarray:
    """Fourier transform of the cloud-in-cell kernel, prod_i sinc^2(pi k_i / 2 k_Nyquist)."""
    full, half = (np.sinc(f(n)) ** 2 for f in (np.fft.fftfreq, np.fft.rfftfreq))
    return full[:, None, None] * full[None, :, None] * half[None, None, :]
