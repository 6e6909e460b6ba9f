"""Emulated sky maps against thousands of reference maps of one theta.

`Reference` holds what the reference is measured to be, once; `assess` measures any other maps
against it: emulations, their Gaussian starts, a rival.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from emulators.methods.sky.wavelets.transform import ScatteringCovariance
from sbitools.statistics import LimitError, SampledTruth, angular_power
from sbitools.statistics.sphere_maps import nside_of

from .covariance import limit_error
from .statistics import (
    Distances,
    SetStatistics,
    distances,
    measure,
    noise_floors,
    split_sets,
    standardise,
    values_distance,
)

__all__ = ["Assessment", "Reference", "assess"]


@dataclass(frozen=True)
class Assessment:
    """Maps against a `Reference`.

    Attributes:
        distances: of standardised maps.
        pdf_fixed: Wasserstein distance of pixels that are standardised by the reference's mean
            and standard deviation, so that a wrong spread counts.
        covariance: relative Frobenius error in the limit of endlessly many maps.
    """

    distances: Distances
    pdf_fixed: float
    covariance: LimitError

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        d = self.distances
        return {
            **asdict(d), "minkowski_rms": d.minkowski_rms, "pdf_fixed": self.pdf_fixed,
            "covariance": self.covariance.error,
            "covariance_error": self.covariance.standard_error,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Reference:
    """Many reference maps of one theta, measured.

    Attributes:
        maps: Q and U, nested, float32, (n, 2, n_pixels).
        spectra: EE and BB of each map, (n, 3 nside).
        sets: statistics of disjoint sets of `size` maps.
        truth: exact covariance, or reference maps that are not among `maps`.
        size: maps in a set.
        transform: of the scattering coefficients.
    """

    maps: np.ndarray
    spectra: dict[str, np.ndarray]
    sets: list[SetStatistics]
    truth: np.ndarray | SampledTruth
    size: int
    transform: ScatteringCovariance

    @classmethod
    def of(cls, maps: np.ndarray, truth: np.ndarray | SampledTruth, size: int = 200) -> Reference:
        """Measure the reference.

        Args:
            maps: independent, (n, 2, n_pixels), four sets or more.
            truth: covariance of all pixels, (d, d), or that of other maps.
            size: maps in each set.
        """
        parts = split_sets(maps, size, at_least=4)
        transform = ScatteringCovariance(nside_of(maps.shape[2]), 2)
        sets = [measure(part, transform) for part in parts]
        return cls(maps, angular_power(maps, ordering="nested"), sets, truth, size, transform)

    def floors(self, n_sets: int = 2) -> list[Assessment]:
        """Reference against reference, `n_sets` sets at a time in the place of emulations.

        The covariance is that of these maps against the truth: 0 within its error.
        """
        found, out = noise_floors(self.sets, n_sets), []
        for i, near in enumerate(found):
            part = slice(i * n_sets * self.size, (i + 1) * n_sets * self.size)
            rest = np.concatenate([self.maps[: part.start], self.maps[part.stop :]])
            fixed = _pdf_fixed(self.maps[part], rest)
            out.append(Assessment(near, fixed, limit_error(self.maps[part], self.truth)))
        return out


def assess(
    maps: np.ndarray, reference: Reference, for_covariance: np.ndarray | None = None
) -> Assessment:
    """Measure maps against the reference.

    Args:
        maps: Q and U, nested, in the reference's unit, two sets of `reference.size` or more.
        reference: made of maps that are independent of these.
        for_covariance: more maps of the same kind, if there are, for the covariance alone.
    """
    sets = [measure(part, reference.transform) for part in split_sets(maps, reference.size)]
    many = maps if for_covariance is None else for_covariance
    return Assessment(
        distances(sets, reference.sets), _pdf_fixed(maps, reference.maps),
        limit_error(many, reference.truth),
    )  # fmt: skip


def _pdf_fixed(maps: np.ndarray, reference: np.ndarray) -> float:
    mean, std = reference.mean(0), reference.std(0)
    return values_distance(standardise(maps, mean, std), standardise(reference, mean, std))
