"""Powers of emulated fields against those of simulations, and what has to be made up for.

Maps of cells that are not straight lines, and a network after little training, leave the power of
fields a little wrong where white ones have the right power. It is a number for each bin of modes,
as a function of theta, and is found as the power itself is: emulated fields are made for the theta
of the simulations, and the difference of the logarithms goes into the sizes of modes.

Where power has heavy tails (a few pulses in a series), its mean is that of a few simulations: the
mean of its logarithm is better known then, and is compared instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from torch import Tensor

from .field_options import FieldOptions
from .glm import FLOOR, log_means
from .modes import Modes
from .whitening import Whitening

__all__ = ["MOST", "correct", "few_of", "heavy_tailed", "powers"]

MOST = 256
"""Simulations that powers are compared for."""

_FEW = 64  # of which fields are made by the network, too, at least
_SHARE = 0.1  # of the work of training, that more of these may take
_GAIN = 1.5  # of the logarithm, in all
_PART = 0.8  # of what is found, each time: powers of other modes follow


def correct(
    whitening: Whitening, theta: Tensor, target: np.ndarray, emulate: Callable[[], np.ndarray],
    rounds: int, heavy: np.ndarray | None = None,
) -> float:  # fmt: skip
    """Change `whitening.gain` until emulated fields have the power that is wanted.

    Args:
        whitening: changed.
        theta: of the fields, (n, P).
        target: see `powers`.
        emulate: fields of `theta`, as `whitening` is at the time.
        rounds: times that the gain is moved, and fields are made again.
        heavy: see `powers`.

    Returns:
        Mean absolute logarithm of the ratio of powers that is left, over all modes.
    """
    modes, terms = whitening.modes, whitening.terms(whitening.parameters, theta)
    best, channels = (np.inf, whitening.gain.copy()), whitening.field_channels
    known = modes.counts**0.5
    known[0] = 0  # the mean has no power here
    for round_ in range(rounds + 1):
        off = target - powers(whitening, theta, emulate(), heavy)
        values = np.einsum("nt,ctb->ncb", terms, off)
        size = float((np.abs(values) * known).mean() / max(known.mean(), 1e-300))
        if size < best[0]:
            best = size, whitening.gain.copy()
        if round_ < rounds:
            off[:, :, 0] = 0
            moved = whitening.gain[channels] + _PART * off
            whitening.gain[channels] = np.clip(moved, -_GAIN, _GAIN)
    whitening.gain[...] = best[1]
    return best[0]


def few_of(options: FieldOptions) -> int:
    """Simulations whose fields the network makes, twice: the more, the less is left to chance."""
    trained = 3 * (options.steps or 0) * options.batch_size  # passes forward
    each = 2 * options.sampler_steps
    return min(MOST, max(_FEW, int(_SHARE * trained / each)))


def heavy_tailed(whitening: Whitening, theta: Tensor, x: np.ndarray) -> np.ndarray:
    """Where the mean of the logarithm is better known than the logarithm of the mean, (C, bins).

    Args:
        whitening: that knows the modes.
        theta: of simulations, (n, P).
        x: they, (n, *shape).
    """
    terms = whitening.terms(whitening.parameters, theta)
    out = []
    for found in _found(whitening, x):
        plain = log_means(terms, found, whitening.modes.counts)
        logs = np.log(_positive(found))
        left = logs - terms @ np.linalg.lstsq(terms, logs, rcond=None)[0]
        out.append((found * np.exp(-(terms @ plain))).var(0) > left.var(0))
    return np.stack(out)


def powers(
    whitening: Whitening, theta: Tensor, x: np.ndarray, heavy: np.ndarray | None = None
) -> np.ndarray:
    """Coefficients of the logarithm of the power of each channel, (C, T, bins).

    Args:
        whitening: that knows the modes.
        theta: of the fields, (n, P).
        x: they, (n, *shape).
        heavy: where the mean of the logarithm is followed, see `heavy_tailed`; None: nowhere.
    """
    terms, out = whitening.terms(whitening.parameters, theta), []
    for c, found in enumerate(_found(whitening, x)):
        known = log_means(terms, found, whitening.modes.counts)
        if heavy is not None and heavy[c].any():
            logs = np.log(_positive(found[:, heavy[c]]))
            known[:, heavy[c]] = np.linalg.lstsq(terms, logs, rcond=None)[0]
        out.append(known)
    return np.stack(out)


def _found(whitening: Whitening, x: np.ndarray) -> Iterator[np.ndarray]:
    """Power of each channel in units of its scale, (n, bins)."""
    folded = whitening.layout.fold(x)
    for c, m in enumerate(whitening.marginals):
        yield np.stack([_power(f[c] / m.scale, whitening.modes) for f in folded])


def _positive(found: np.ndarray) -> np.ndarray:
    return np.maximum(found, FLOOR * found.mean() + 1e-300)


def _power(x: np.ndarray, modes: Modes) -> np.ndarray:
    """Mean power of one field in each bin; of its mean, what is beyond float32 alone."""
    amplitudes = modes.forward(x.astype(np.float64) - x.mean(dtype=np.float64))
    return modes.means(np.abs(amplitudes)[None] ** 2)[0]
