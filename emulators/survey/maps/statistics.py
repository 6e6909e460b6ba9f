"""Statistics by which emulated Q and U maps are told from reference maps, and their distances.

Maps are divided into sets. Each set is standardised by its own mean and standard deviation in
every pixel, and sets of emulations and of the reference have the same size, so that what the
finite number of maps does to the standardised values is the same on both sides. The noise floor
is what the same distances give for reference maps in the place of emulations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from emulators.methods.sky.wavelets.transform import ScatteringCovariance
from sbitools.errors import ShapeError
from sbitools.statistics import minkowski_functionals
from sbitools.statistics.sphere_maps import check_finite, nside_of

__all__ = [
    "PDF_EDGES", "THRESHOLDS", "Distances", "SetStatistics", "distances", "measure",
    "noise_floors", "split_sets", "standardise", "values_distance",
]  # fmt: skip

THRESHOLDS = np.linspace(-3.0, 3.0, 25)
"""Of the Minkowski functionals, in standard deviations of each map."""

PDF_EDGES = np.linspace(-20.0, 20.0, 2001)
"""Of the histograms of standardised pixels; rarer values are counted in the outermost bins."""


@dataclass(frozen=True, eq=False)
class SetStatistics:
    """Statistics of one set of n standardised maps.

    Attributes:
        values: share of all pixels in each bin of `PDF_EDGES`, (n_bins,).
        fourth: mean fourth power of the pixels of each map, (n,).
        minkowski: V0, V1, V2 of Q and U of each map, (n, 3, 2, n_thresholds).
        scattering: packed scattering covariances of each map, (n, n_coefficients), float32.
    """

    values: np.ndarray
    fourth: np.ndarray
    minkowski: np.ndarray
    scattering: np.ndarray


@dataclass(frozen=True)
class Distances:
    """Between emulations and reference; smaller is better, for all but `kurtosis` and `spread`.

    Attributes:
        pdf: Wasserstein distance of the standardised pixels, in standard deviations.
        kurtosis: excess kurtosis of the pixels.
        excess: that minus the reference's.
        excess_error: its standard error.
        minkowski: V0, V1 and V2: root mean square, over thresholds and Stokes parameters, of the
            difference of the means in units of the standard deviation between reference maps.
        scattering: the same for the coefficients, with the squares averaged over products of
            independent sets, so that its square has no bias by noise; with the sign of the square.
        spread: median over coefficients of the standard deviation between maps, over that of the
            reference.
    """

    pdf: float
    kurtosis: float
    excess: float
    excess_error: float
    minkowski: tuple[float, float, float]
    scattering: float
    spread: float

    @property
    def minkowski_rms(self) -> float:
        """Of V0, V1 and V2 together."""
        return float(np.sqrt(np.mean(np.square(self.minkowski))))


def standardise(
    maps: np.ndarray, mean: np.ndarray | None = None, std: np.ndarray | None = None
) -> np.ndarray:
    """(maps - mean) / std, float32, shape (n, 2, n_pixels); 0 in pixels that never vary.

    Args:
        maps: shape (n, 2, n_pixels).
        mean: of every pixel, (2, n_pixels); that of the maps if None.
        std: standard deviation of every pixel; that of the maps (divided by n) if None.
    """
    maps = _check(maps, 1)
    centre = maps.mean(0) if mean is None else mean
    scale = np.asarray(maps.std(0) if std is None else std)
    return ((maps - centre) / np.where(scale > 0, scale, np.inf)).astype(np.float32)


def split_sets(maps: np.ndarray, size: int, at_least: int = 2) -> list[np.ndarray]:
    """Disjoint sets of `size` maps each; maps beyond the last whole set are left out.

    Raises:
        ShapeError: for fewer than `at_least` sets.
    """
    n = len(maps) // size if size > 1 else 0
    if n < at_least:
        raise ShapeError(
            "maps", expected=f"at least {at_least} sets of {size} maps, 2 or more in each",
            got=f"{len(maps)} maps", fix="make more maps, or smaller sets",
        )  # fmt: skip
    return [maps[i * size : (i + 1) * size] for i in range(n)]


def measure(maps: np.ndarray, transform: ScatteringCovariance | None = None) -> SetStatistics:
    """Statistics of one set of maps, standardised by their own mean and standard deviation.

    Args:
        maps: Q and U, nested, in any unit, shape (n, 2, n_pixels), n at least 2.
        transform: of two fields at this Nside; four orientations and all levels if None.

    Raises:
        ShapeError: for other shapes, or pixels that are not finite.
    """
    z = standardise(_check(maps, 2))
    transform = transform or ScatteringCovariance(nside_of(z.shape[2]), 2)
    flat = z.reshape(-1, z.shape[2])
    found = minkowski_functionals(flat, THRESHOLDS, ordering="nested")
    functionals = np.stack([found.v0, found.v1, found.v2], axis=1)
    functionals = functionals.reshape(len(z), 2, 3, -1).transpose(0, 2, 1, 3)
    with torch.no_grad():
        scattering = transform(torch.from_numpy(z)).numpy()
    seen = z[:, maps.std(0) > 0].astype(np.float64)
    return SetStatistics(_values(seen), (seen**4).mean(1), functionals, scattering)


def distances(emulated: Sequence[SetStatistics], reference: Sequence[SetStatistics]) -> Distances:
    """How far emulations are from the reference.

    Args:
        emulated: two or more sets.
        reference: two or more sets of other maps, of the same size.

    Raises:
        ShapeError: for fewer sets, or sets of different sizes.
    """
    _check_sets(emulated, reference)
    pdf = _wasserstein(_mean_values(emulated), _mean_values(reference))
    fourth, expected = _joined(emulated, "fourth"), _joined(reference, "fourth")
    error = np.sqrt(fourth.var(ddof=1) / len(fourth) + expected.var(ddof=1) / len(expected))
    shapes, true_shapes = _joined(emulated, "minkowski"), _joined(reference, "minkowski")
    shift = _over(shapes.mean(0) - true_shapes.mean(0), true_shapes.std(0, ddof=1))
    v0, v1, v2 = np.sqrt((shift**2).mean((1, 2)))
    squared, spread = _scattering(emulated, reference)
    shifted = float(np.copysign(abs(squared) ** 0.5, squared))
    return Distances(
        pdf, float(fourth.mean() - 3), float(fourth.mean() - expected.mean()), float(error),
        (float(v0), float(v1), float(v2)), shifted, spread,
    )  # fmt: skip


def noise_floors(reference: Sequence[SetStatistics], n_sets: int = 2) -> list[Distances]:
    """The same distances for `n_sets` reference sets against all others, for every such choice.

    Raises:
        ShapeError: unless two sets are left.
    """
    starts = range(0, len(reference) - n_sets + 1, n_sets)
    chosen = [set(range(i, i + n_sets)) for i in starts]
    return [
        distances(
            [reference[i] for i in sorted(some)],
            [s for i, s in enumerate(reference) if i not in some],
        )
        for some in chosen
    ]


def values_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Wasserstein distance of the seen pixels of two sets of standardised maps."""
    seen = (np.abs(first).max(0) > 0) & (np.abs(second).max(0) > 0)
    return _wasserstein(_values(first[:, seen]), _values(second[:, seen]))


def _values(pixels: np.ndarray) -> np.ndarray:
    inside = np.clip(pixels, PDF_EDGES[0], PDF_EDGES[-1])
    return np.histogram(inside, PDF_EDGES)[0] / pixels.size


def _mean_values(sets: Sequence[SetStatistics]) -> np.ndarray:
    return np.mean([s.values for s in sets], axis=0)


def _wasserstein(first: np.ndarray, second: np.ndarray) -> float:
    """Area between the cumulative distributions."""
    step = PDF_EDGES[1] - PDF_EDGES[0]
    return float(np.abs(np.cumsum(first - second)).sum() * step)


def _joined(sets: Sequence[SetStatistics], name: str) -> np.ndarray:
    return np.concatenate([getattr(s, name) for s in sets])


def _scattering(
    emulated: Sequence[SetStatistics], reference: Sequence[SetStatistics]
) -> tuple[float, float]:
    """Mean squared shift in units of sigma, without bias, and the median ratio of spreads."""
    sigma = _spread(reference)
    first, second = ([s.scattering.mean(0, dtype=np.float64) for s in r] for r in (
        reference[::2], reference[1::2]))  # fmt: skip
    halves = np.mean(first, 0), np.mean(second, 0)
    products = []
    for i, one in enumerate(emulated):
        for other in emulated[i + 1 :]:
            a, b = (s.scattering.mean(0, dtype=np.float64) for s in (one, other))
            for r, s in (halves, halves[::-1]):
                products.append((_over(a - r, sigma) * _over(b - s, sigma))[sigma > 0].mean())
    ratio = _over(_spread(emulated), sigma)[sigma > 0]
    return float(np.mean(products)), float(np.median(ratio))


def _spread(sets: Sequence[SetStatistics]) -> np.ndarray:
    """Standard deviation of the coefficients between the maps of a set; 0 where it is rounding."""
    mean = np.mean([s.scattering.var(0, ddof=1, dtype=np.float64) for s in sets], axis=0)
    size = np.mean([np.abs(s.scattering).mean(0) for s in sets], axis=0)
    std = np.sqrt(mean)
    return np.where(std > 1e-5 * np.maximum(size, np.median(size)), std, 0.0)


def _over(top: np.ndarray, below: np.ndarray) -> np.ndarray:
    """top / below; 0 where the reference does not vary."""
    return np.divide(top, below, out=np.zeros_like(top), where=below > 0)


def _check(maps: np.ndarray, at_least: int) -> np.ndarray:
    maps = np.asarray(maps)
    if maps.ndim != 3 or maps.shape[1] != 2 or len(maps) < at_least:
        raise ShapeError(
            "maps", expected=f"Q and U, (n, 2, n_pixels), n at least {at_least}",
            got=f"shape {maps.shape}", fix="stack Q and U on the second axis",
        )  # fmt: skip
    nside_of(maps.shape[2])
    check_finite(maps, "maps")
    return maps


def _check_sets(emulated: Sequence[SetStatistics], reference: Sequence[SetStatistics]) -> None:
    sizes = {len(s.fourth) for s in (*emulated, *reference)}
    if len(emulated) < 2 or len(reference) < 2 or len(sizes) > 1:
        raise ShapeError(
            "sets of maps", expected="two or more of emulations and of the reference, of one size",
            got=f"{len(emulated)} and {len(reference)} sets of {sorted(sizes)} maps",
            fix="divide the maps with split_sets",
        )  # fmt: skip
