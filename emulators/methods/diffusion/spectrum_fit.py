"""Spectra and sizes of channels together: what a spread measured badly is set right by all modes.

The spread of one field is that of its largest modes, of which there are few: as a function of
theta it is known to several per cent only, and a spectrum that follows theta by fewer terms cannot
make up for it. All modes of a field together say its size thirty times better.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .glm import log_means
from .spectrum import Spectrum

__all__ = ["fit_sized", "log_sizes", "resized"]

_ROUNDS = 4
_MOST = 2.0  # of the logarithm: fields that are almost always 0 have no size


def fit_sized(
    terms: np.ndarray, means: np.ndarray, found: np.ndarray, counts: np.ndarray, given: int,
    sized: Sequence[bool],
) -> tuple[Spectrum, np.ndarray]:  # fmt: skip
    """The spectrum of fields divided by their size, and the size, in turns.

    Args:
        terms: functions of theta that powers follow, (n, T).
        means: functions of theta that sizes follow, (n, M), the first one 1.
        found: products of simulations, (n, bins, S + C, S + C).
        counts: modes of each bin, (bins,).
        given: S, channels of a source, which keep their size.
        sized: of the C channels, whether they have one; where most cells are 0, they have none.

    Returns:
        The spectrum; coefficients of the logarithms of sizes of the C channels, (C, M).
    """
    sizes = np.zeros((found.shape[2] - given, means.shape[1]))
    total = np.array([counts.sum()])
    spectrum = Spectrum.fit(terms, found, counts, given)
    if means.shape[1] == 1 or not any(sized):
        return spectrum, sizes
    for _ in range(_ROUNDS):
        each = resized(found, -log_sizes(means, sizes))
        white = spectrum.white_powers(terms, each) @ counts / total
        for i in np.flatnonzero(sized):
            values = white[:, i]
            sizes[i] += 0.5 * log_means(means, values[:, None], total)[:, 0]
        spectrum = Spectrum.fit(terms, resized(found, -log_sizes(means, sizes)), counts, given)
    return spectrum, sizes


def log_sizes(means: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Logarithms of sizes, (n, C), that the functions `means` (n, M) of theta give."""
    return np.clip(means @ sizes.T, -_MOST, _MOST)


def resized(found: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Products of channels that are larger by the exponentials of `logs`, (n, C), a source's not.

    Args:
        found: (n, bins, S + C, S + C).
        logs: (n, C).
    """
    factors = np.ones((len(found), found.shape[2]))
    factors[:, found.shape[2] - logs.shape[1] :] = np.exp(logs)
    return found * factors[:, None, :, None] * factors[:, None, None, :]
