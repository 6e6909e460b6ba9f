"""Powers of emulated fields against those of simulations, and what has to be made up for.

Maps of cells that are not straight lines, and a network after little training, leave the power of
fields a little wrong where white ones have the right power. It is a number for each bin of modes,
as a function of theta, and is found as the power itself is: emulated fields are made for the theta
of the simulations, and the difference of the logarithms goes into the sizes of modes.

Fields of the network are compared by the mean of the logarithm of their power, of enough modes
together that it says more than how few they are: where a few fields have most of the power (pulses
in a series, peaks of a log-normal field), its mean is that of a few simulations, and typical
fields would be wrong where the network's scatter too little. Where some fields have no power, it
is the mean that is compared.

The network takes long: few fields are made. What chance does to their power is seen in fields
without the network for the same noise, and is not made up for. Heavy tails hide it: more are made
there, of other noise than those that the sizes were first moved for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from torch import Tensor

from .field_options import FieldOptions
from .glm import FLOOR, log_means
from .modes import Modes
from .simulations import Simulations
from .whitening import Whitening

__all__ = ["MOST", "Made", "correct", "correct_learned", "few_of", "powers", "tails"]

MOST = 256
"""Simulations that powers are compared for."""

_FEW = 64  # of which fields are made by the network, too, at least
_SHARE = 0.1  # of the work of training, that more of these may take
_GAIN = 1.5  # of the logarithm, in all
_PART = 0.8  # of what is found, each time: of peaked fields, powers of other modes follow
_USUAL = 8  # sets of fields without the network, whose mean is free of chance
_FRESH = (0.7, 0.5, 0.35, 0.25)  # parts for sets of other noise, where tails are heavy
_KNOWN = 0.8  # of `tails`, from which on logarithms are averaged; 0.94 of Gaussian fields
_HEAVY = 1.5  # of `tails`, from which on chance is not the same without the network
_TOGETHER = 16  # modes: the logarithm of their mean power scatters by 0.4, that of one by 2.2


class Made(Protocol):
    """Fields of an emulator for the theta of simulations."""

    def __call__(self, some: Simulations, salt: int, learned: bool) -> np.ndarray:
        """Fields (n, *shape) for a noise, by the network or by the maps without it."""
        ...


def correct(
    whitening: Whitening, theta: Tensor, target: np.ndarray, emulate: Callable[[], np.ndarray],
    rounds: int,
) -> float:  # fmt: skip
    """Change `whitening.gain` until emulated fields have the power that is wanted.

    Args:
        whitening: changed.
        theta: of the fields, (n, P).
        target: see `powers`.
        emulate: fields of `theta`, as `whitening` is at the time.
        rounds: times that the gain is moved, and fields are made again.

    Returns:
        Mean absolute logarithm of the ratio of powers that is left, over all modes.
    """
    best = np.inf, whitening.gain.copy()
    for round_ in range(rounds + 1):
        off = target - powers(whitening, theta, emulate())
        size = _size(whitening, theta, off)
        if size < best[0]:
            best = size, whitening.gain.copy()
        if round_ < rounds:
            _move(whitening, _PART * off)
    whitening.gain[...] = best[1]
    return best[0]


def correct_learned(
    whitening: Whitening, every: Simulations, few: Simulations, made: Made
) -> None:  # fmt: skip
    """The same for fields of the network.

    Args:
        whitening: changed; without the network, fields have the power that is wanted already.
        every: simulations whose power is wanted.
        few: those of them for whose theta the network makes fields.
        made: the emulator's fields.
    """
    ratio = tails(whitening, every.theta, every.x)
    logs, fresh = ratio > _KNOWN, _FRESH if (ratio > _HEAVY).any() else ()
    target = powers(whitening, every.theta, every.x, logs)

    def found(some: Simulations, salt: int, learned: bool) -> np.ndarray:
        return powers(whitening, some.theta, made(some, salt, learned), logs)

    if not fresh:
        usual = np.mean([found(every, 1 + i, False) for i in range(_USUAL)], axis=0)
        target = target + found(few, 0, False) - usual
    before, off = whitening.gain.copy(), target - found(few, 0, True)
    _move(whitening, _PART * off)
    left = target - found(few, 0, True)
    if _size(whitening, few.theta, left) >= _size(whitening, few.theta, off):
        whitening.gain[...] = before  # cells hide what their modes do
        return
    if not fresh:
        _move(whitening, _PART * left)
    for i, part in enumerate(fresh):
        _move(whitening, part * (target - found(few, 1 + i, True)))


def _size(whitening: Whitening, theta: Tensor, off: np.ndarray) -> float:
    """Mean absolute logarithm that powers are off by, over all modes."""
    known = whitening.modes.counts**0.5
    known[0] = 0  # the mean has no power here
    values = np.einsum("nt,ctb->ncb", whitening.terms(whitening.parameters, theta), off)
    return float((np.abs(values) * known).mean() / max(known.mean(), 1e-300))


def _move(whitening: Whitening, off: np.ndarray) -> None:
    """Change the gain by `off` (C, T, bins), but that of the mean."""
    off = np.where(np.arange(off.shape[2]) > 0, off, 0.0)
    moved = whitening.gain[whitening.field_channels] + off
    whitening.gain[whitening.field_channels] = np.clip(moved, -_GAIN, _GAIN)


def few_of(options: FieldOptions) -> int:
    """Simulations whose fields the network makes, twice: the more, the less is left to chance."""
    trained = 3 * (options.steps or 0) * options.batch_size  # passes forward
    each = 2 * options.sampler_steps
    return min(MOST, max(_FEW, int(_SHARE * trained / each)))


def tails(whitening: Whitening, theta: Tensor, x: np.ndarray) -> np.ndarray:
    """Variance of power over that of its logarithm, at equal theta, (C, bins).

    It is about 1 for Gaussian fields, more where a few have most of the power, and about 0 where
    some have none. Of the mean of a field it is 0.

    Args:
        whitening: that knows the modes.
        theta: of simulations, (n, P).
        x: they, (n, *shape).
    """
    terms, out = whitening.terms(whitening.parameters, theta), []
    for c, found in enumerate(_found(whitening, x)):
        logs = _logs(whitening, c, found)
        left = logs - terms @ np.linalg.lstsq(terms, logs, rcond=None)[0]
        plain = np.exp(left - left.max(0))
        out.append((plain / plain.mean(0)).var(0) / (left.var(0) + 1e-300))
        out[-1][0] = 0
    return np.stack(out)


def powers(
    whitening: Whitening, theta: Tensor, x: np.ndarray, logs: np.ndarray | None = None
) -> np.ndarray:
    """Coefficients of the logarithm of the power of each channel, (C, T, bins).

    Args:
        whitening: that knows the modes.
        theta: of the fields, (n, P).
        x: they, (n, *shape).
        logs: where the mean of the logarithm is followed, (C, bins); None: nowhere.
    """
    terms, out = whitening.terms(whitening.parameters, theta), []
    for c, found in enumerate(_found(whitening, x)):
        known = log_means(terms, found, whitening.modes.counts)
        if logs is not None and logs[c].any():
            each = _logs(whitening, c, found)[:, logs[c]]
            known[:, logs[c]] = np.linalg.lstsq(terms, each, rcond=None)[0]
        out.append(known)
    return np.stack(out)


def _found(whitening: Whitening, x: np.ndarray) -> Iterator[np.ndarray]:
    """Power of each channel in units of its scale, (n, bins)."""
    folded = whitening.layout.fold(x)
    for c, m in enumerate(whitening.marginals):
        yield np.stack([_power(f[c] / m.scale, whitening.modes) for f in folded])


def _logs(whitening: Whitening, channel: int, found: np.ndarray) -> np.ndarray:
    """Logarithm of power (n, bins), each bin with as many beside it as have modes enough."""
    counts = whitening.modes.counts
    usual = whitening.spectrum.log_power[whitening.field_channels[channel], 0]
    flat = found * np.exp(-usual)
    nearby = np.eye(len(counts))
    for i in range(1, len(counts)):
        first, last = i, i + 1
        while counts[first:last].sum() < min(_TOGETHER, counts[1:].sum()):
            first, last = max(1, first - 1), last + 1
        nearby[i, first:last] = counts[first:last] / counts[first:last].sum()
    together = flat @ nearby.T
    return usual + np.log(np.maximum(together, FLOOR * together.mean() + 1e-300))


def _power(x: np.ndarray, modes: Modes) -> np.ndarray:
    """Mean power of one field in each bin; of its mean, what is beyond float32 alone."""
    amplitudes = modes.forward(x.astype(np.float64) - x.mean(dtype=np.float64))
    return modes.means(np.abs(amplitudes)[None] ** 2)[0]
