"""Five small simulators, as somebody else would have written them: numpy alone, files at the end.

Each draws its parameters from uniform priors and makes one field per row. Nothing here knows of
sbitools.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["SETS", "OwnSet", "band_powers", "plane_power", "write_files"]

_PLANE, _CUBE, _SERIES, _BANDS = 64, 32, 1024, 40
Simulate = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class OwnSet:
    """One set of simulations.

    Attributes:
        key: one letter.
        title: what it is.
        priors: of each parameter, the ends of its uniform prior.
        simulate: fields (n, ...) float32 of theta (n, P).
        minutes: within which `init` and `run` have to end, each.
        field: whether emulated spectra are required to be right.
    """

    key: str
    title: str
    priors: dict[str, tuple[float, float]]
    simulate: Simulate
    minutes: float = 60.0
    field: bool = True

    @property
    def bounds(self) -> np.ndarray:
        """(P, 2)."""
        return np.array(list(self.priors.values()))

    def draw(self, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """theta (n, P) from the priors, and the fields."""
        rng = np.random.default_rng([seed, ord(self.key)])
        low, high = self.bounds.T
        theta = rng.uniform(low, high, (n, len(low)))
        parts = [self.simulate(part, rng) for part in np.array_split(theta, max(1, n // 64))]
        return theta, np.concatenate(parts).astype(np.float32)


def write_files(one: OwnSet, folder: Path, n: int, seed: int) -> None:
    """`fields.npy` and `params.csv`, all that sbitools is given."""
    theta, x = one.draw(n, seed)
    np.save(folder / "fields.npy", x)
    np.savetxt(
        folder / "params.csv", theta, delimiter=",", header=",".join(one.priors), comments="",
        fmt="%.17g",
    )  # fmt: skip


def _wavenumbers(side: int, axes: int) -> np.ndarray:
    """|k| of all cells, in cycles per box."""
    k = np.fft.fftfreq(side, 1 / side)
    return np.sqrt(sum(part**2 for part in np.meshgrid(*[k] * axes, indexing="ij")))


def _gaussian(power: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Periodic fields of mean 0 in which E|x_k|^2, of the unitary transform, is power (n, ...)."""
    axes = tuple(range(1, power.ndim))
    white = np.fft.fftn(rng.standard_normal(power.shape), axes=axes, norm="ortho")
    return np.fft.ifftn(np.sqrt(power) * white, axes=axes, norm="ortho").real


def _unit(shape: np.ndarray) -> np.ndarray:
    """A power of variance 1 per cell, without the mean."""
    shape = np.where(np.isfinite(shape), shape, 0.0)
    return shape / shape.mean(tuple(range(1, shape.ndim)), keepdims=True)


def _column(theta: np.ndarray, i: int, axes: int) -> np.ndarray:
    return theta[:, i].reshape(-1, *[1] * axes)


def plane_power(amplitude: np.ndarray, slope: np.ndarray, k: np.ndarray) -> np.ndarray:
    """amplitude (k / 8)^-slope, and 0 at k = 0; arguments broadcast."""
    return np.where(k > 0, amplitude * (np.where(k > 0, k, 1.0) / 8) ** -slope, 0.0)


def _planes(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    amplitude, slope = (_column(theta, i, 2) for i in range(2))
    return _gaussian(plane_power(amplitude, slope, _wavenumbers(_PLANE, 2)), rng)


def _two_channels(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A density contrast and a temperature that follows it, each with noise of its own."""
    sigma, slope, response = (_column(theta, i, 2) for i in range(3))
    k = np.maximum(_wavenumbers(_PLANE, 2), 1e-9)
    g = sigma * _gaussian(_unit(np.where(k < 1, 0.0, k**-slope)), rng)
    density = np.exp(g - sigma**2 / 2)
    noise = rng.standard_normal((2, *g.shape))
    x = [density - 1 + 0.2 * noise[0], 1000 * density**response + 300 * noise[1]]
    return np.stack(x, axis=1)


def _cubes(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Density of a log-normal field of cut-off power."""
    sigma, slope, cut = (_column(theta, i, 3) for i in range(3))
    k = np.maximum(_wavenumbers(_CUBE, 3), 1e-9)
    power = _unit(np.where(k < 1, 0.0, k**-slope * np.exp(-((k / cut) ** 2))))
    return np.exp(sigma * _gaussian(power, rng) - sigma**2 / 2)


def _series(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise whose power drifts, and pulses that rise at once and decay."""
    level, drift, rate = (theta[:, i : i + 1] for i in range(3))
    t = (np.arange(_SERIES) + 0.5) / _SERIES - 0.5
    noise = np.exp((level + drift * t) / 2) * rng.standard_normal((len(theta), _SERIES))
    hits = rng.poisson(rate / _SERIES, noise.shape) * rng.exponential(8.0, noise.shape)
    shape = np.exp(-np.arange(_SERIES) / 10.0)
    size = 2 * _SERIES  # so that the end does not meet the beginning
    pulses = np.fft.irfft(np.fft.rfft(hits, size) * np.fft.rfft(shape, size), size)
    return noise + pulses[:, :_SERIES]


def band_powers(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means (n, 40) of band powers, and their covariance (40, 40), which theta does not change.

    A power law that turns over, with wiggles that fade.
    """
    amplitude, tilt, wiggle, turn = (theta[:, i : i + 1] for i in range(4))
    k = np.geomspace(0.02, 0.5, _BANDS)
    mean = _bands(amplitude, tilt, wiggle, turn, k)
    fiducial = _bands(1.0, 1.0, 0.1, 0.1, k)
    i = np.arange(_BANDS)
    correlation = 0.4 ** np.abs(i[:, None] - i)
    error = 0.08 * fiducial * np.sqrt(0.1 / k)
    return mean, correlation * np.outer(error, error)


def _bands(
    amplitude: np.ndarray | float, tilt: np.ndarray | float, wiggle: np.ndarray | float,
    turn: np.ndarray | float, k: np.ndarray,
) -> np.ndarray:  # fmt: skip
    smooth = amplitude * 100 * (k / 0.1) ** (1 - tilt) / (1 + (k / turn) ** 2)
    return smooth * (1 + wiggle * np.sin(60 * k) * np.exp(-((k / 0.3) ** 2)))


def _vectors(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    mean, covariance = band_powers(theta)
    return mean + rng.standard_normal(mean.shape) @ np.linalg.cholesky(covariance).T


SETS = {
    one.key: one for one in (
        OwnSet("a", "Gaussian planes of 64 x 64", {"amplitude": (0.5, 2.0), "slope": (1.0, 3.0)},
               _planes),
        OwnSet("b", "log-normal planes of 64 x 64, two channels and noise",
               {"sigma": (0.3, 1.2), "slope": (1.5, 3.5), "response": (0.3, 0.9)}, _two_channels),
        OwnSet("c", "log-normal cubes of 32 x 32 x 32",
               {"sigma": (0.3, 1.2), "slope": (1.5, 3.5), "cut": (4.0, 12.0)}, _cubes),
        OwnSet("d", "series of 1,024 samples, drifting noise and pulses",
               {"level": (-1.0, 1.0), "drift": (-2.0, 2.0), "rate": (2.0, 20.0)}, _series),
        OwnSet("e", "vectors of 40 band powers",
               {"amplitude": (0.5, 1.5), "tilt": (0.5, 1.5), "wiggle": (0.0, 0.3),
                "turn": (0.05, 0.3)}, _vectors, minutes=10.0, field=False),
    )
}  # fmt: skip
