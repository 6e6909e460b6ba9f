"""White and 1/f noise of detectors as one stream through the whole survey.

The spectrum of a detector's samples is P(f) = sigma^2 (1 + (f_knee / f)^alpha), and sigma its
white level: NET / sqrt(time that a sample lasts, in all circles of its ring together). The
stream is periodic and has exactly this power in every Fourier mode, with a mean of zero. Rings
follow each other in it without the circles in between, which the co-added ring stands for: slow
drifts enter as they would in a survey that looks at each circle once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from sbitools.errors import ConfigError
from sbitools.seeds import derive

from .scan import Scan

__all__ = ["NoiseModel"]


@dataclass(frozen=True)
class NoiseModel:
    """Noise of one detector; detectors are independent.

    Args:
        net: noise-equivalent temperature in uK sqrt(s).
        knee: frequency in mHz at which both parts of the spectrum are equal; 0 for white noise.
        alpha: slope of the spectrum at low frequency.

    Raises:
        ConfigError: for a negative argument, or one that is not finite.

    Example:
        >>> NoiseModel(net=50.0, knee=20.0).draw(7, Scan(n_rings=4, samples=8), 2).shape
        (2, 4, 8)
    """

    net: float
    knee: float = 0.0
    alpha: float = 1.0

    def __post_init__(self) -> None:
        for name in ("net", "knee", "alpha"):
            value = getattr(self, name)
            if not 0 <= value < np.inf:
                raise ConfigError(
                    f"NoiseModel {name}", expected="0 or more", got=repr(value),
                    fix=f"correct {name}",
                )  # fmt: skip

    def sigma(self, scan: Scan) -> float:
        """White noise of a sample of a co-added ring, in uK."""
        return self.net / float(np.sqrt(scan.sample_interval * scan.circles))

    def spectrum(self, frequency: np.ndarray, scan: Scan) -> np.ndarray:
        """Variance per sample, P(f), in uK^2 at frequencies above 0 in mHz."""
        return self.sigma(scan) ** 2 * (
            1 + (self.knee / frequency) ** self.alpha * (self.knee > 0)
        )

    def draw(self, seed: int, scan: Scan, n_detectors: int) -> np.ndarray:
        """Noise in uK, float32, shape (n_detectors, n_rings, samples).

        Args:
            seed: of the draw.
            scan: sampling.
            n_detectors: number of detectors.
        """
        n = scan.n_rings * scan.samples
        if not self.net:
            return np.zeros((n_detectors, scan.n_rings, scan.samples), dtype=np.float32)
        frequency = fft.rfftfreq(n, scan.sample_interval * 1e-3)[1:]
        # Real and imaginary part share the power n P of a mode, but for the last one if n is even.
        amplitude = np.sqrt(0.5 * n * self.spectrum(frequency, scan)).astype(np.float32)
        out = np.empty((n_detectors, n), dtype=np.float32)
        for d in range(n_detectors):
            rng = np.random.Generator(np.random.PCG64(derive(seed, d)))
            modes = np.zeros(len(frequency) + 1, dtype=np.complex64)
            parts = rng.standard_normal((len(frequency), 2), dtype=np.float32)
            modes[1:] = amplitude * parts.view(np.complex64)[:, 0]
            if n % 2 == 0:
                modes[-1] = np.sqrt(2) * modes[-1].real
            out[d] = np.asarray(fft.irfft(modes, n))
        return out.reshape(n_detectors, scan.n_rings, scan.samples)
