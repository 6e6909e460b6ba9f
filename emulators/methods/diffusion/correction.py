"""Powers of emulated fields against those of simulations, and what has to be made up for.

Maps of cells that are not straight lines, and a network after little training, leave the power of
fields a little wrong where white ones have the right power. It is a number for each bin of modes,
as a function of theta, and is found as the power itself is: emulated fields are made for the theta
of the simulations, and the difference of the logarithms goes into the sizes of modes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from .glm import log_means
from .modes import Modes
from .whitening import Whitening

__all__ = ["correct"]

_ROUNDS = 3
_MOST = 1.5  # of the logarithm, in all
_PART = 0.8  # of what is found, each time: powers of other modes follow


def correct(
    whitening: Whitening, x: np.ndarray, theta: Tensor, emulate: Callable[[], np.ndarray]
) -> float:
    """Change `whitening.gain` until emulated fields have the power of `x`.

    Args:
        whitening: changed.
        x: simulations, (n, *shape).
        theta: theirs, (n, P).
        emulate: other fields of the same theta, as `whitening` is at the time.

    Returns:
        Mean absolute logarithm of the ratio of powers that is left, over all modes.
    """
    modes, terms = whitening.modes, whitening.terms(whitening.parameters, theta)
    target, channels = _powers(whitening, x, terms), whitening.field_channels
    best = np.inf, whitening.gain.copy()
    known = modes.counts**0.5
    known[0] = 0  # the mean has no power here
    for round_ in range(_ROUNDS + 1):
        off = target - _powers(whitening, emulate(), terms)
        values = np.einsum("nt,ctb->ncb", terms, off)
        size = float((np.abs(values) * known).mean() / known.mean())
        if size < best[0]:
            best = size, whitening.gain.copy()
        if round_ < _ROUNDS:
            off[:, :, 0] = 0
            moved = whitening.gain[channels] + _PART * off
            whitening.gain[channels] = np.clip(moved, -_MOST, _MOST)
    whitening.gain[...] = best[1]
    return best[0]


def _powers(whitening: Whitening, x: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """Coefficients of the logarithm of the power of each channel, (C, T, bins)."""
    folded, modes = whitening.layout.fold(x), whitening.modes
    units = [m.scale for m in whitening.marginals]
    out = []
    for c, unit in enumerate(units):
        found = np.stack([_power(f[c] / unit, modes) for f in folded])
        out.append(log_means(terms, found, modes.counts))
    return np.stack(out)


def _power(x: np.ndarray, modes: Modes) -> np.ndarray:
    """Mean power of one field in each bin; of its mean, what is beyond float32 alone."""
    amplitudes = modes.forward(x.astype(np.float64) - x.mean(dtype=np.float64))
    return modes.means(np.abs(amplitudes)[None] ** 2)[0]
