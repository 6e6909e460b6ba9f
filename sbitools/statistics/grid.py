"""Statistics of scalar fields on a periodic cube or plane.

Fields are torch or numpy, of shape (n, n, n) or (B, n, n, n), planes (n, n) or (B, n, n); results
are numpy float64, with a batch axis if the field has one. Spectra have the convention
<d(k) d(k')*> = (2 pi)^D P(k) delta(k - k') in D dimensions: a spectrum has the unit of a volume
(of an area), and white noise of unit variance has P equal to the volume (area) of a cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sbitools.errors import ShapeError

from .fourier import as_fields, fft_modes, shells, sum_by_bin

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Spectrum", "cross_correlation", "cross_power", "fft_modes", "pdf", "plane_power_spectrum",
    "power_spectrum", "transfer_function",
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
    return _cross_power(first, second, 3, box_size, edges, deconvolve_cic)


def plane_power_spectrum(
    field: Tensor | np.ndarray, box_size: float, *, edges: np.ndarray | None = None
) -> Spectrum:
    """Power spectrum of each plane of a batch: an area, in the convention of the cubes.

    Args:
        field: shape (n, n) or (B, n, n).
        box_size: side, in any unit of length; k comes in its inverse.
        edges: of the bins in k, as in `power_spectrum`.

    Raises:
        ShapeError: unless the field is a square or a batch of squares.
    """
    return _cross_power(field, field, 2, box_size, edges, deconvolve_cic=False)


def _cross_power(
    first: Tensor | np.ndarray, second: Tensor | np.ndarray, dims: int, box_size: float,
    edges: np.ndarray | None, deconvolve_cic: bool,
) -> Spectrum:  # fmt: skip
    a, b = as_fields(first, "first", dims), as_fields(second, "second", dims)
    if a.shape != b.shape:
        raise ShapeError(
            "second field", expected=f"shape {np.shape(first)}, as the first",
            got=f"shape {np.shape(second)}", fix="compare fields of one shape",
        )  # fmt: skip
    n = a.shape[-1]
    bins = shells(n, float(box_size), None if edges is None else tuple(map(float, edges)), dims)
    scale = bins.weight * (box_size / n**2) ** dims
    if deconvolve_cic:
        scale = scale / _cic_window(n) ** 2
    power = np.empty((len(a), len(bins.k)))
    for row, box_a, box_b in zip(power, a, b, strict=True):
        modes = np.fft.rfftn(box_a.astype(np.float64))
        other = modes if first is second else np.fft.rfftn(box_b.astype(np.float64))
        product = (modes.real * other.real + modes.imag * other.imag) * scale
        row[:] = sum_by_bin(bins.shell, product, len(row)) / np.maximum(bins.n_modes, 1)
    power[:, bins.n_modes == 0] = np.nan
    return Spectrum(bins.k, power if np.ndim(first) > dims else power[0], bins.n_modes)


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


def pdf(field: Tensor | np.ndarray, *, edges: np.ndarray) -> np.ndarray:
    """One-point probability density of the cells' values, shape (n_bins,) or (B, n_bins).

    Its integral over the bins is the fraction of cells inside them: values outside are not
    forgotten in the normalisation.

    Args:
        field: shape (n, n, n) or (B, n, n, n).
        edges: ascending bin edges, shape (n_bins + 1,); a value on an edge is in the upper bin.
    """
    boxes = as_fields(field, "field", 3)
    edges = np.asarray(edges, dtype=float)
    counts = np.stack([np.histogram(box, edges)[0] for box in boxes])
    density = counts / (np.diff(edges) * boxes[0].size)
    return density if np.ndim(field) == 4 else density[0]


def _cic_window(n: int) -> np.ndarray:
    """Fourier transform of the cloud-in-cell kernel, prod_i sinc^2(pi k_i / 2 k_Nyquist)."""
    full, half = (np.sinc(f(n)) ** 2 for f in (np.fft.fftfreq, np.fft.rfftfreq))
    return full[:, None, None] * full[None, :, None] * half[None, None, :]
