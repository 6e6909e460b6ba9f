"""Random series along the rings of a detector: powers in octaves, heavy tails, periods.

A series is a stationary Gaussian one, brought to heavy tails by Tukey's h transform
x = z exp(h z^2 / 2) up to a factor (Hoaglin 1985). Its powers are those after the transform: the
correlation r of x and the correlation rho of z are tied by

    r = rho (1 - 2 h)^(3/2) / ((1 - h)^2 - h^2 rho^2)^(3/2).
"""

from __future__ import annotations

import numpy as np

__all__ = ["octaves", "period_means", "stationary"]

_RHO = np.linspace(-1.0, 1.0, 2049)


def octaves(n: int) -> np.ndarray:
    """Power spectra (octaves, n / 2 + 1) of series of n numbers with variance 1 in one octave.

    The first octave ends at one cycle in two rings, the last but one holds the lowest frequency,
    and the last one is a constant: few modes of a map, but the largest.
    """
    frequency = np.fft.rfftfreq(n)
    octave = np.floor(-np.log2(2 * np.maximum(frequency, 0.5 / n)))
    out = np.stack([(octave == i).astype(float) for i in range(int(octave[0]) + 1)])
    return out / np.fft.irfft(out, n, axis=1)[:, :1]


def stationary(z: np.ndarray, powers: np.ndarray, tail: float = 0.0) -> np.ndarray:
    """Series (B, detectors, rings) from white noise (B, detectors, 2 * rings).

    They are half of periodic ones, so that their ends are not neighbours.

    Args:
        z: standard normal numbers.
        powers: variance in each of `octaves`.
        tail: Tukey's h, below 1/2; 0 for Gaussian series.
    """
    n = z.shape[2]
    spectrum, variance = powers @ octaves(n), powers.sum()
    if tail:
        spectrum = _before_transform(spectrum / variance, n, tail)
    x = np.fft.irfft(np.fft.rfft(z, axis=2) * np.sqrt(spectrum), n, axis=2)[:, :, : n // 2]
    if not tail:
        return x
    # E z^2 exp(h z^2) = (1 - 2 h)^(-3/2)
    return x * np.exp(0.5 * tail * x**2) * (np.sqrt(variance) * (1 - 2 * tail) ** 0.75)


def period_means(x: np.ndarray, period: int) -> np.ndarray:
    """Means over `period` rings that follow each other, at each of them; axis 1 is that of rings.

    The last period may be shorter.
    """
    starts = np.arange(0, x.shape[1], period)
    counts = np.diff([*starts, x.shape[1]])
    shape = (1, -1, *[1] * (x.ndim - 2))
    means = np.add.reduceat(x, starts, axis=1) / counts.reshape(shape)
    return np.repeat(means, counts, axis=1)


def _before_transform(spectrum: np.ndarray, n: int, tail: float) -> np.ndarray:
    """Spectrum of the unit-variance Gaussian series that becomes one with this spectrum."""
    wanted = (1 - 2 * tail) ** 1.5 * _RHO / ((1 - tail) ** 2 - (tail * _RHO) ** 2) ** 1.5
    rho = np.interp(np.fft.irfft(spectrum, n), wanted, _RHO)
    out = np.maximum(np.fft.rfft(rho).real, 0)
    return out / np.fft.irfft(out, n)[0]
