"""What is measured of 21cm fields, and how far two sets of fields are apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from sbitools.statistics import (
    plane_power_spectrum,
    power_spectrum,
    scattering_2d,
    scattering_3d,
    wasserstein,
)

__all__ = ["Distances", "Statistics", "distances", "edges", "measure"]

# Shells of P(k) are so many fundamental modes wide: the ten bins of a plane of 64 cells.
_SHELL = 3
# In mK: a plane without structure stays finite, far below the signal of any other.
_FLOOR = 0.01


@dataclass(frozen=True)
class Statistics:
    """Of each of B fields.

    Attributes:
        k: wavenumbers in 1/Mpc, (n_k,).
        mean: brightness temperature in mK, (B,).
        ionised: share of cells without signal, (B,).
        power: P(k) in mK^2 Mpc^2 of planes, mK^2 Mpc^3 of cubes, (B, n_k).
        scattering: ln of scattering coefficients, (B, n).
        values: of a random part of the cells in mK, for their distribution.
    """

    k: np.ndarray
    mean: np.ndarray
    ionised: np.ndarray
    power: np.ndarray
    scattering: np.ndarray
    values: np.ndarray

    def part(self, rows: slice) -> Statistics:
        """Some of the fields; the values are those of all."""
        return Statistics(
            self.k, self.mean[rows], self.ionised[rows], self.power[rows], self.scattering[rows],
            self.values,
        )  # fmt: skip


@dataclass(frozen=True)
class Distances:
    """Of one set of fields from another, at the same parameters.

    Attributes:
        mean: difference of the mean temperatures in mK.
        ionised: difference of the shares of ionised cells.
        power: ln of the ratio of mean spectra, (n_k,); not finite where there is no structure.
        scattering: difference of the means of ln coefficients, (n,).
        values: Wasserstein distance of the cells' values in mK.
        neutral: the same of the cells with a signal; not a number where there are none.
        scatter: ln of the ratio of the relative scatter of P(k) between fields, (n_k,); as power.
    """

    mean: float
    ionised: float
    power: np.ndarray
    scattering: np.ndarray
    values: float
    neutral: float
    scatter: np.ndarray


def edges(n: int, box_size: float) -> np.ndarray:
    """Edges of the bins in k, in 1/Mpc."""
    return np.arange(0.5, n / 2, _SHELL) * 2 * np.pi / box_size


def measure(fields: Tensor | np.ndarray, box_size: float) -> Statistics:
    """Statistics of planes (B, n, n) or cubes (B, n, n, n) in mK.

    Args:
        fields: brightness temperature.
        box_size: side in Mpc.
    """
    x = np.asarray(fields)
    bins = edges(x.shape[-1], box_size)
    scales = min(5, int(np.log2(x.shape[-1])) - 1)  # down to the fundamental mode
    if x.ndim == 3:
        spectrum = plane_power_spectrum(x, box_size, edges=bins)
        scattering = scattering_2d(x, scales, floor=_FLOOR)
    else:
        spectrum = power_spectrum(x, box_size, edges=bins)
        scattering = scattering_3d(x, scales, floor=_FLOOR)
    flat = x.reshape(len(x), -1)
    return Statistics(
        spectrum.k, flat.mean(1, dtype=np.float64), (flat == 0).mean(1), spectrum.power,
        scattering, flat[:, :: max(1, flat.size // 200_000)].ravel(),
    )  # fmt: skip


def distances(first: Statistics, second: Statistics) -> Distances:
    """Of the first set from the second, which is the truth where one is."""
    neutral = [s.values[s.values != 0] for s in (first, second)]
    with np.errstate(divide="ignore", invalid="ignore"):  # fields that are ionised everywhere
        ratio = np.log(first.power.mean(0) / second.power.mean(0))
        spread = [s.power.std(0, ddof=1) / s.power.mean(0) for s in (first, second)]
        scatter = np.log(spread[0] / spread[1])
    return Distances(
        float(first.mean.mean() - second.mean.mean()),
        float(first.ionised.mean() - second.ionised.mean()),
        ratio, first.scattering.mean(0) - second.scattering.mean(0),
        wasserstein(first.values, second.values),
        wasserstein(*neutral) if all(v.size for v in neutral) else float("nan"),
        scatter,
    )  # fmt: skip
