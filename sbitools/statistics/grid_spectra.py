"""Power spectra of fields on a grid of any axes, in units of cells.

For sides of any length, f is the frequency in cycles per cell (k = 2 pi f) and

    P(f) = sum |FFT(w d)|^2 / sum_f E(f),    E(f) = sum_x w^2 |exp(-i k x) - W(f) / W(0)|^2,

where d is the field without its mean (weighted by w) and w a taper along the axes that do not
close on themselves, which keeps the step between their ends from adding power. E is what white
noise of unit variance has, so that its P is 1; without a taper it is the number of cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np

from .cylindrical import taper
from .fourier import sum_by_bin

__all__ = ["GridSpectra", "widening_edges"]


def widening_edges(first: float, last: float, step: float, growth: float = 1.25) -> np.ndarray:
    """Ascending edges from `first` to `last`, `step` apart and then `growth` times the last."""
    edges = [first]
    while edges[-1] < last:
        edges.append(max(edges[-1] + step, edges[-1] * growth))
    if len(edges) > 2 and last - edges[-2] < 0.5 * (edges[-1] - edges[-2]):
        edges.pop()  # a bin cut short joins the one before
    edges[-1] = last
    return np.array(edges)


class GridSpectra:
    """Spectra of fields of one shape, for channels and for pairs of them.

    Args:
        shape: cells along each axis.
        periodic: which of the axes close on themselves.

    Attributes:
        frequency: mean of the modes of each bin in cycles per cell, (n_bins,), up to 1/2.
        n_modes: Fourier modes per bin, f and -f counted separately.
    """

    def __init__(self, shape: Sequence[int], periodic: Sequence[bool]) -> None:
        self.shape = tuple(shape)
        windows = [taper(n, None if p else "hann") for n, p in zip(shape, periodic, strict=True)]
        self.window: np.ndarray = reduce(np.multiply.outer, windows)
        half = np.arange(shape[-1] // 2 + 1)
        axes = [np.fft.fftfreq(n) for n in shape[:-1]] + [half / shape[-1]]
        f = np.sqrt(reduce(np.add.outer, [a**2 for a in axes]))
        weight = np.where((half == 0) | (2 * half == shape[-1]), 1.0, 2.0)
        self.weight = np.broadcast_to(weight, f.shape)
        lowest = 1 / max(shape)
        edges = widening_edges(0.5 * lowest, 0.5 + 0.5 * lowest, lowest)
        index = np.digitize(f, edges) - 1
        index[(index < 0) | (f > 0.5 + 1e-9)] = len(edges) - 1
        counts = sum_by_bin(index, self.weight, len(edges) - 1)
        filled = np.flatnonzero(counts > 0)
        number = np.full(len(edges), len(filled))
        number[filled] = np.arange(len(filled))
        self.index: np.ndarray = number[index].ravel()
        self.n_modes: np.ndarray = counts[filled]
        self.frequency = self._sum(f) / self.n_modes
        transform, square = np.fft.rfftn(self.window), np.fft.rfftn(self.window**2)
        lost = transform / transform.flat[0]
        expected = square.flat[0] * (1 + np.abs(lost) ** 2) - 2 * (lost.conj() * square).real
        self.expected = self._sum(np.real(expected))

    def __call__(self, fields: np.ndarray, pairs: Sequence[tuple[int, int]] = ()) -> np.ndarray:
        """P of every channel, then Re P of every pair: (B, n_channels + n_pairs, n_bins).

        Args:
            fields: float64, (B, n_channels, *shape).
            pairs: channels whose cross-spectrum is wanted.
        """
        n_channels = fields.shape[1]
        out = np.empty((len(fields), n_channels + len(pairs), len(self.frequency)))
        for row, field in zip(out, fields, strict=True):
            modes = [self._modes(channel) for channel in field]
            for i, (a, b) in enumerate([(c, c) for c in range(n_channels)] + list(pairs)):
                row[i] = self._sum(np.real(modes[a] * np.conj(modes[b])))
        return out / self.expected

    def _modes(self, field: np.ndarray) -> np.ndarray:
        mean = (field * self.window).sum() / self.window.sum()
        return np.fft.rfftn((field - mean) * self.window)

    def _sum(self, values: np.ndarray) -> np.ndarray:
        return sum_by_bin(self.index, values * self.weight, len(self.n_modes))
