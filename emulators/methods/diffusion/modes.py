"""Modes of fields: Fourier along axes that close on themselves, cosines along those that end.

Cosines (DCT-II) are the modes of a field that goes on as its mirror image: no jump where it ends,
which would leave its trace at every wavelength. Both are unitary here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from scipy.fft import dctn, fftn, idctn, ifftn

__all__ = ["Modes"]

_RATIO = 1.05  # of the wavenumbers of neighbouring shells, at least
_RATIO_EACH = 1.15  # of those along one axis, where axes are told apart


class Modes:
    """Of fields (..., *shape).

    Args:
        shape: of the space axes.
        kinds: one per axis; ``"periodic"`` has Fourier modes, every other one cosines.
        isotropic: modes of one wavenumber are alike; else those of one wavenumber on each axis.
    """

    def __init__(self, shape: Sequence[int], kinds: Sequence[str], isotropic: bool) -> None:
        self.shape, self.isotropic = tuple(shape), isotropic
        axes = range(-len(self.shape), 0)
        self._around = [a for a, kind in zip(axes, kinds, strict=True) if kind == "periodic"]
        self._ending = [a for a, kind in zip(axes, kinds, strict=True) if kind != "periodic"]
        numbers = [_shifted(n) if k == "periodic" else np.arange(n) / 2
                   for n, k in zip(self.shape, kinds, strict=True)]  # fmt: skip
        self._cycles = [np.abs(m) / n for m, n in zip(numbers, self.shape, strict=True)]

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Amplitudes, complex where there are periodic axes, as x."""
        y = dctn(x, 2, axes=self._ending, norm="ortho") if self._ending else x
        return fftn(y, axes=self._around, norm="ortho") if self._around else y  # pyright: ignore

    def inverse(self, amplitudes: np.ndarray) -> np.ndarray:
        """Inverse of `forward`, real."""
        y = amplitudes
        if self._around:
            y = ifftn(y, axes=self._around, norm="ortho").real  # pyright: ignore
        return idctn(y, 2, axes=self._ending, norm="ortho") if self._ending else y  # pyright: ignore

    @cached_property
    def bins(self) -> np.ndarray:
        """Number of the bin of each mode, from 0 (the mean), (*shape)."""
        if self.isotropic:
            grids = np.meshgrid(*self._cycles, indexing="ij")
            return _shells(np.sqrt(sum(g**2 for g in grids)), _RATIO)
        each = [_shells(c, _RATIO_EACH) for c in self._cycles]
        sizes = [int(e.max()) + 1 for e in each]
        joint = np.ravel_multi_index(np.meshgrid(*each, indexing="ij"), sizes)
        return np.unique(joint, return_inverse=True)[1].reshape(self.shape)

    @cached_property
    def counts(self) -> np.ndarray:
        """Modes of each bin, (bins,): real numbers that they have."""
        return np.bincount(self.bins.ravel()).astype(float)

    def means(self, values: np.ndarray) -> np.ndarray:
        """Mean over the modes of each bin: (..., *shape) to (..., bins)."""
        lead = values.shape[: values.ndim - len(self.shape)]
        rows = values.reshape(-1, self.bins.size)
        flat = self.bins.ravel()
        sums = np.stack([np.bincount(flat, row, len(self.counts)) for row in rows])
        return (sums / self.counts).reshape(*lead, -1)


def _shifted(n: int) -> np.ndarray:
    return np.fft.fftfreq(n) * n


def _shells(k: np.ndarray, ratio: float) -> np.ndarray:
    """Numbers of the shells: one for each wavenumber where they are far apart."""
    values = np.unique(np.round(k, 12))
    numbers, first = np.zeros(len(values), dtype=int), 0.0
    for i in range(1, len(values)):
        new = values[i] > ratio * first or values[i - 1] == 0
        numbers[i] = numbers[i - 1] + new
        first = values[i] if new else first
    return numbers[np.searchsorted(values, np.round(k, 12))]
