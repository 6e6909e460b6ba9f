"""Maps that know the scan: where the rings go, but not what they see.

    m = a(p) K^T (g - mean of g + b) + K^T o + waves + n

K are the binned templates of the rings. The ring amplitudes g, which multiply a sky a(p) that is
not known, and the offsets o are stationary along the rings of each detector; waves are a few
harmonics of the spin in every ring and n is white noise of the samples: with the offsets they are
1/f noise. Where gains are estimated in periods of several rings, what is left of g in each
period has no mean, and the error of the estimate, b, is one number; else g stays as it is and
there is no b. The sky is a smooth map, sum of a_lm Y_lm up to a small l_max; the powers of n, of
b and those of g, o and waves in octaves of frequency may change with theta.

The amplitudes may have heavy tails (`series`); all else is Gaussian.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from emulators.survey.instrument.geometry import RingGeometry

from .series import octaves, period_means, stationary

__all__ = ["RingModel", "Variances", "spin_waves"]

_HARMONICS = ((1,), (2, 3), (4, 5, 6, 7))  # of the spin, with one power each
_NEGLIGIBLE = 1e-5  # variance of 1/f noise over that of gain errors: the map does not show it


@dataclass(frozen=True)
class Variances:
    """Of all components at one theta.

    Attributes:
        amplitudes: of g in every octave.
        period: of b.
        offsets: of o in every octave.
        waves: of every octave of harmonics.
        white: of n.
    """

    amplitudes: np.ndarray
    period: float
    offsets: np.ndarray
    waves: np.ndarray
    white: float


class RingModel(nn.Module):
    """The model; `ring_fit` finds its numbers.

    Args:
        geometry: of the scan.
        nside: of the maps.
        lmax: of the sky.
        terms: number of functions of theta.
    """

    sky: Tensor
    powers: Tensor
    tail: Tensor

    def __init__(self, geometry: RingGeometry, nside: int, lmax: int = 2, terms: int = 1) -> None:
        super().__init__()
        self.geometry, self.nside, self.lmax = geometry, nside, lmax
        self.register_buffer("sky", torch.zeros((lmax + 1) ** 2, dtype=torch.float64))
        self.register_buffer("tail", torch.zeros((), dtype=torch.float64))
        self.octaves = len(octaves(2 * geometry.scan.n_rings))
        components = 2 * self.octaves + len(_HARMONICS) + 2
        self.register_buffer("powers", torch.zeros(terms, components, dtype=torch.float64))
        self.harmonics = harmonics(nside, lmax)

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        """Numbers behind g, b, o, the waves and n of one map."""
        detectors, rings = self.geometry.streams
        n, waves = detectors * rings, 2 * sum(len(h) for h in _HARMONICS)
        return 2 * n, detectors * self.geometry.periods, 2 * n, waves * n, 24 * self.nside**2

    def amplitude(self) -> np.ndarray:
        """a(p), (pixels,)."""
        return (self.sky.numpy() @ self.harmonics).astype(np.float64)

    def variances(self, terms: np.ndarray) -> Variances:
        """Of the components, for functions of theta (T,)."""
        v, k = np.exp(terms @ self.powers.numpy()), self.octaves
        period = float(v[k]) if self.geometry.period else 0.0
        return Variances(v[:k], period, v[k + 1 : 2 * k + 1], v[2 * k + 1 : -1], float(v[-1]))

    def draw(self, latent: np.ndarray, terms: np.ndarray, scan_angle: float | None) -> np.ndarray:
        """Maps (B, 2, pixels) from standard normal numbers (B, sum of `latent_sizes`)."""
        place, v = self.geometry.at(self.nside, scan_angle), self.variances(terms)
        parts = np.split(latent.astype(np.float64), np.cumsum(self.latent_sizes)[:-1], axis=1)
        streams = (len(latent), self.geometry.streams[0], -1)
        g, b, o, waves, n = (z.reshape(streams) for z in parts)
        g = self._estimated(stationary(g, v.amplitudes, float(self.tail)), b, v.period)
        shape = (len(latent), 2, 12 * self.nside**2)
        out = (g.reshape(len(g), -1) @ place.templates).reshape(shape) * self.amplitude()
        out += math.sqrt(v.white) * np.einsum("pij,bjp->bip", place.noise, n.reshape(shape))
        slow, gains = v.offsets.sum() + v.waves.sum(), v.amplitudes.sum() + v.period
        if slow < _NEGLIGIBLE * gains * (self.amplitude() ** 2).mean():
            return out
        shapes = self._waves(v.waves)
        for row, offsets, z in zip(out, stationary(o, v.offsets), waves, strict=True):
            both = np.concatenate([z.reshape(*offsets.shape, -1), offsets[:, :, None]], axis=2)
            row += place.maker.bin_waves(both, shapes)[1:]
        return out

    def scale(self, terms: np.ndarray, scan_angle: float | None) -> np.ndarray:
        """About the standard deviation of every pixel, (2, pixels); ring correlations left out."""
        place, v = self.geometry.at(self.nside, scan_angle), self.variances(terms)
        noise = np.einsum("pij,pij->ip", place.noise, place.noise)
        smooth = self.amplitude() ** 2
        # Where the sky changes sign a(p) vanishes, the true spread does not.
        smooth = np.maximum(smooth, 0.03 * smooth.mean())
        both = (v.amplitudes.sum() + v.period) * smooth + v.offsets.sum() + v.waves.sum()
        variance = both * place.squares + v.white * noise
        return np.sqrt(np.where(variance > 0, variance, 1.0))

    def _waves(self, variances: np.ndarray) -> np.ndarray:
        """Waves along a ring times their standard deviations, and a constant, (n, samples)."""
        every = spin_waves(self.geometry.scan.samples)
        scaled = [math.sqrt(v) * w for v, w in zip(variances, every, strict=True)]
        return np.concatenate([*scaled, np.ones((1, self.geometry.scan.samples))])

    def _estimated(self, g: np.ndarray, b: np.ndarray, variance: float) -> np.ndarray:
        """Amplitudes (B, detectors, rings) that are left after gains were estimated."""
        period = self.geometry.period
        if period is None:
            return g
        each = g.reshape(-1, g.shape[2])
        left = each - period_means(each, period)
        errors = np.repeat(b, period, axis=2)[:, :, : g.shape[2]]
        return left.reshape(g.shape) + math.sqrt(variance) * errors


def spin_waves(samples: int) -> list[np.ndarray]:
    """Cosines and sines along a ring of every octave of harmonics, (n, samples).

    Standard normal numbers times these are waves of unit variance in every sample.
    """
    phase = 2 * np.pi * (np.arange(samples) + 0.5) / samples
    out = []
    for octave in _HARMONICS:
        angles = np.multiply.outer(octave, phase)
        out.append(np.concatenate([np.cos(angles), np.sin(angles)]) / math.sqrt(len(octave)))
    return out


def harmonics(nside: int, lmax: int) -> np.ndarray:
    """Real spherical harmonics ((lmax + 1)^2, pixels), nested, of rms 1 over the sphere."""
    import healpy
    from scipy.special import sph_harm_y

    theta, phi = healpy.pix2ang(nside, np.arange(12 * nside**2), nest=True)
    out = []
    for l in range(lmax + 1):  # noqa: E741  (the multipole)
        for m in range(l + 1):
            y = math.sqrt(4 * math.pi) * sph_harm_y(l, m, theta, phi)
            out += [y.real] if m == 0 else [math.sqrt(2) * y.real, math.sqrt(2) * y.imag]
    return np.stack(out)
