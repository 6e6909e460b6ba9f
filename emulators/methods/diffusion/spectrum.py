"""Fields of any spectrum to white ones, and back: each mode divided by the size that it has.

What a mode of one wavenumber has is a function of theta: the logarithm of its power is a
polynomial, found where the likelihood of the power of all simulations is highest (a generalised
linear model of gamma variates). Channels are taken one after the other, each less what follows
from those before (the factors of the Cholesky decomposition of their spectra), so that
cross-spectra are right, too. Channels of a source come before all, and are given. White noise,
made a field in this way, is a Gaussian field of these spectra: what a network is left to learn is
how fields differ from that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .glm import FLOOR, log_means
from .modes import Modes

__all__ = ["Spectrum", "products"]


def products(amplitudes: np.ndarray, modes: Modes) -> np.ndarray:
    """Mean products of channels of one simulation in each bin: (C, *n) to (bins, C, C), real."""
    c = len(amplitudes)
    out = np.empty((len(modes.counts), c, c))
    for i in range(c):
        for j in range(i + 1):
            mean = modes.means((amplitudes[i] * np.conj(amplitudes[j])).real[None])[0]
            out[:, i, j] = out[:, j, i] = mean
    return out


@dataclass(frozen=True)
class Spectrum:
    """Sizes of modes.

    Args:
        log_power: coefficients of what is left of each channel, (C, terms, bins).
        slopes: coefficients of what follows from the S channels of a source and the channels
            before, (C, S + C, terms, bins); of those that are not before, they are 0.
    """

    log_power: np.ndarray
    slopes: np.ndarray

    @classmethod
    def fit(
        cls, terms: np.ndarray, found: np.ndarray, counts: np.ndarray, given: int = 0
    ) -> Spectrum:  # fmt: skip
        """From the products of simulations.

        Args:
            terms: functions of theta, (n, T), the first one 1.
            found: (n, bins, S + C, S + C).
            counts: modes of each bin, (bins,).
            given: S, the first channels, which are a source's.
        """
        _, bins, every, _ = found.shape
        c, t = every - given, terms.shape[1]
        slopes, powers = np.zeros((c, every, t, bins)), np.zeros((c, t, bins))
        shrunk = 1 / (len(terms) * counts) if given else np.zeros(bins)
        for i in range(c):
            row = given + i
            own = found[:, :, row, row].mean(0)
            for _ in range(2 if row else 1):  # once more with weights that are known by then
                weight = 1 / np.maximum(np.exp(terms @ powers[i]), FLOOR * own.max() + 1e-300)
                if row:
                    slopes[i, :row] = _regress(terms, found, row, weight, shrunk)
                left = _left(terms, found, row, slopes[i, :row])
                powers[i] = log_means(terms, left, counts)
        return cls(powers, slopes)

    @property
    def given(self) -> int:
        """S: channels of a source."""
        return self.slopes.shape[1] - len(self.slopes)

    def scores(self, terms: np.ndarray, found: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Log likelihood of the modes of simulations, (n,), without constants."""
        logs = np.einsum("nt,ctb->nbc", terms, self.log_power)
        white = self.white_powers(terms, found).transpose(0, 2, 1)
        return -0.5 * np.einsum("nbc,b->n", white + logs, counts)

    def white_powers(self, terms: np.ndarray, found: np.ndarray) -> np.ndarray:
        """Powers of simulations once whitened, (n, C, bins); about 1.

        Args:
            terms: functions of their theta, (n, T).
            found: their products, (n, bins, S + C, S + C).
        """
        out = []
        for i, log in enumerate(np.einsum("nt,ctb->cnb", terms, self.log_power)):
            row = self.given + i
            out.append(_left(terms, found, row, self.slopes[i, :row]) * np.exp(-log))
        return np.stack(out, axis=1)

    def whiten(self, amplitudes: np.ndarray, terms: np.ndarray, modes: Modes) -> np.ndarray:
        """Amplitudes of one field to white ones, for its terms (T,).

        Args:
            amplitudes: of the source and of the field, (S + C, *n).
            terms: of its theta.
            modes: of the amplitudes.

        Returns:
            Those of the field, (C, *n).
        """
        out = np.empty_like(amplitudes[self.given :])
        for i in range(len(out)):
            left = amplitudes[self.given + i].copy()
            for j in range(self.given + i):
                left -= (terms @ self.slopes[i, j])[modes.bins] * amplitudes[j]
            out[i] = left * np.exp(-0.5 * (terms @ self.log_power[i]))[modes.bins]
        return out

    def colour(
        self, white: np.ndarray, terms: np.ndarray, modes: Modes, gain: np.ndarray,
        source: np.ndarray | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Inverse of `whiten`, with powers larger by the exponential of terms @ gain[channel].

        Args:
            white: amplitudes (C, *n).
            terms: of its theta.
            modes: of the amplitudes.
            gain: of what does not follow from other channels, (C, T, bins).
            source: amplitudes of a source, (S, *n), if there is one.
        """
        out = np.empty_like(white)
        before: list[np.ndarray] = [] if source is None else list(source)
        for i in range(len(white)):
            size = np.exp(0.5 * (terms @ (self.log_power[i] + gain[i])))
            out[i] = white[i] * size[modes.bins]
            for j, other in enumerate(before):
                out[i] += (terms @ self.slopes[i, j])[modes.bins] * other
            before.append(out[i])
        return out

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"log_power": self.log_power.tolist(), "slopes": self.slopes.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Spectrum:
        """Inverse of `to_dict`."""
        return cls(np.array(values["log_power"]), np.array(values["slopes"]))


def _regress(
    terms: np.ndarray, found: np.ndarray, i: int, weight: np.ndarray, shrunk: np.ndarray
) -> np.ndarray:
    """Slopes (i, T, bins) of channel i on those before it, by least squares.

    What few modes say, 1 / `shrunk` (bins,), is held back.
    """
    t, bins = terms.shape[1], found.shape[1]
    gram = np.einsum("nb,nt,nu,nbjk->bjtku", weight, terms, terms, found[:, :, :i, :i])
    gram = gram.reshape(bins, i * t, i * t)
    right = np.einsum("nb,nt,nbj->bjt", weight, terms, found[:, :, :i, i]).reshape(bins, i * t)
    size = np.trace(gram, axis1=1, axis2=2)[:, None, None] / (i * t)
    gram = gram + ((1e-9 + shrunk[:, None, None]) * size + 1e-300) * np.eye(i * t)
    out = np.linalg.solve(gram, right[..., None])[..., 0]
    return out.reshape(bins, i, t).transpose(1, 2, 0)


def _left(terms: np.ndarray, found: np.ndarray, i: int, slopes: np.ndarray) -> np.ndarray:
    """Power of channel i less what follows from those before it, (n, bins)."""
    own = found[:, :, i, i]
    if not i:
        return own
    a = np.einsum("nt,jtb->nbj", terms, slopes)
    cross = np.einsum("nbj,nbj->nb", a, found[:, :, :i, i])
    square = np.einsum("nbj,nbjk,nbk->nb", a, found[:, :, :i, :i], a)
    return np.maximum(own - 2 * cross + square, FLOOR * own)
