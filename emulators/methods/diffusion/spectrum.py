"""Fields of any spectrum to white ones, and back: each mode divided by the size that it has.

What a mode of one wavenumber has is a function of theta: the logarithm of its power is a
polynomial, found where the likelihood of the power of all simulations is highest (a generalised
linear model of gamma variates). Channels are taken one after the other, each less what follows
from those before (the factors of the Cholesky decomposition of their spectra), so that
cross-spectra are right, too. White noise, made a field in this way, is a Gaussian field of these
spectra: what a network is left to learn is how fields differ from that.
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
        slopes: coefficients of what follows from the channels before, (C, C, terms, bins); below
            the diagonal, the others are 0.
    """

    log_power: np.ndarray
    slopes: np.ndarray

    @classmethod
    def fit(cls, terms: np.ndarray, found: np.ndarray, counts: np.ndarray) -> Spectrum:
        """From the products of simulations.

        Args:
            terms: functions of theta, (n, T), the first one 1.
            found: (n, bins, C, C).
            counts: modes of each bin, (bins,).
        """
        _, bins, c, _ = found.shape
        t = terms.shape[1]
        slopes, powers = np.zeros((c, c, t, bins)), np.zeros((c, t, bins))
        for i in range(c):
            own = found[:, :, i, i].mean(0)
            for _ in range(2 if i else 1):  # once more with weights that are known by then
                weight = 1 / np.maximum(np.exp(terms @ powers[i]), FLOOR * own.max() + 1e-300)
                if i:
                    slopes[i, :i] = _regress(terms, found, i, weight)
                left = _left(terms, found, i, slopes[i, :i])
                powers[i] = log_means(terms, left, counts)
        return cls(powers, slopes)

    def scores(self, terms: np.ndarray, found: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Log likelihood of the modes of simulations, (n,), without constants."""
        total = np.zeros(len(terms))
        for i in range(len(self.log_power)):
            left, log = _left(terms, found, i, self.slopes[i, :i]), terms @ self.log_power[i]
            total -= 0.5 * ((left * np.exp(-log) + log) * counts).sum(1)
        return total

    def whiten(self, amplitudes: np.ndarray, terms: np.ndarray, modes: Modes) -> np.ndarray:
        """Amplitudes (C, *n) of one field to white ones, for its terms (T,)."""
        out = np.empty_like(amplitudes)
        for i in range(len(amplitudes)):
            left = amplitudes[i].copy()
            for j in range(i):
                left -= (terms @ self.slopes[i, j])[modes.bins] * amplitudes[j]
            out[i] = left * np.exp(-0.5 * (terms @ self.log_power[i]))[modes.bins]
        return out

    def colour(
        self, white: np.ndarray, terms: np.ndarray, modes: Modes, gain: np.ndarray
    ) -> np.ndarray:
        """Inverse of `whiten`, with powers larger by the exponential of terms @ gain[channel]."""
        out = np.empty_like(white)
        for i in range(len(white)):
            size = np.exp(0.5 * (terms @ (self.log_power[i] + gain[i])))
            out[i] = white[i] * size[modes.bins]
            for j in range(i):
                out[i] += (terms @ self.slopes[i, j])[modes.bins] * out[j]
        return out

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"log_power": self.log_power.tolist(), "slopes": self.slopes.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Spectrum:
        """Inverse of `to_dict`."""
        return cls(np.array(values["log_power"]), np.array(values["slopes"]))


def _regress(terms: np.ndarray, found: np.ndarray, i: int, weight: np.ndarray) -> np.ndarray:
    """Slopes (i, T, bins) of channel i on those before it, by least squares."""
    t, bins = terms.shape[1], found.shape[1]
    gram = np.einsum("nb,nt,nu,nbjk->bjtku", weight, terms, terms, found[:, :, :i, :i])
    gram = gram.reshape(bins, i * t, i * t)
    right = np.einsum("nb,nt,nbj->bjt", weight, terms, found[:, :, :i, i]).reshape(bins, i * t)
    size = np.trace(gram, axis1=1, axis2=2)[:, None, None] / (i * t)
    gram = gram + (1e-9 * size + 1e-300) * np.eye(i * t)
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
