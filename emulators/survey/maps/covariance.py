"""Pixel covariances of emulated maps against the truth, and those of simpler estimators.

The truth is an exact matrix, where the simulator is linear, or independent reference maps
(`SampledTruth`); errors against the latter are corrected for their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sbitools.errors import ConfigError, ShapeError
from sbitools.seeds import check_seed
from sbitools.statistics import (
    Eigenbasis,
    LimitError,
    SampledTruth,
    diagonal_covariance,
    eigenbasis,
    gaussian_taper,
    hartlap_factor,
    infinite_map_difference,
    infinite_map_error,
    ledoit_wolf,
    matrix_difference,
    reduced_chi2,
    relative_error,
    sample_covariance,
    scan_tapers,
    taper_covariance,
)
from sbitools.statistics.sphere_maps import nside_of

__all__ = [
    "TAPER_WIDTHS", "Chi2", "compressed_chi2", "gaussian_maps", "isotropic_maps", "leading_modes",
    "limit_error", "matrix_error", "rival_covariances", "rival_errors", "truth_matrix",
]  # fmt: skip

TAPER_WIDTHS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 1.0, 2.0)
"""In radian; the width of the taper that is closest to the truth is among them."""

Truth = np.ndarray | SampledTruth


@dataclass(frozen=True, eq=False)
class Chi2:
    """Reduced chi squared of validation maps with one covariance.

    Attributes:
        values: m^T C^-1 m / rank of each map, (n,).
        rank: directions that the inverse covers.
        inverse: how it was found.
    """

    values: np.ndarray
    rank: int
    inverse: str


def truth_matrix(truth: Truth) -> np.ndarray:
    """The exact covariance, or the sample covariance of the reference maps, (d, d)."""
    return truth.matrix if isinstance(truth, SampledTruth) else truth


def limit_error(maps: np.ndarray, truth: Truth, groups: np.ndarray | None = None) -> LimitError:
    """Relative Frobenius error of the covariance of endlessly many such maps.

    Args:
        maps: emulations, shape (n, 2, n_pixels).
        truth: exact covariance (d, d), or reference maps that emulations do not depend on.
        groups: of maps that were made together, or None.
    """
    if isinstance(truth, SampledTruth):
        return infinite_map_difference(maps, truth, groups)
    return infinite_map_error(maps, truth, groups)


def matrix_error(estimate: np.ndarray, truth: Truth) -> float:
    """Relative Frobenius error of an estimate (d, d)."""
    if isinstance(truth, SampledTruth):
        return matrix_difference(estimate, truth).error
    return relative_error(estimate, truth)


def rival_covariances(
    inputs: np.ndarray, truth: Truth, widths: Sequence[float] = TAPER_WIDTHS
) -> dict[str, np.ndarray]:
    """Covariances (d, d) that simple estimators make of the emulator's inputs.

    The width of the taper is the best one *given the truth*, which nobody has: it is the hardest
    rival. Names say what they are; that of the taper has its width in radian.

    Args:
        inputs: maps that the emulator was fitted to, nested, (N, 2, n_pixels).
        truth: exact covariance, or reference maps.
        widths: of the tapers in radian.
    """
    nside, sample = nside_of(np.shape(inputs)[-1]), sample_covariance(inputs)
    errors = scan_tapers(sample, truth_matrix(truth), widths, nside, ordering="nested")
    best = widths[int(errors.argmin())]
    return {
        "sample": sample,
        "Ledoit-Wolf": ledoit_wolf(inputs)[0],
        "diagonal": diagonal_covariance(inputs),
        f"best taper, {best:g} rad": taper_covariance(
            sample, gaussian_taper(nside, best, ordering="nested")
        ),
    }


def rival_errors(
    inputs: np.ndarray, truth: Truth, widths: Sequence[float] = TAPER_WIDTHS
) -> dict[str, float]:
    """`matrix_error` of each of `rival_covariances`."""
    rivals = rival_covariances(inputs, truth, widths)
    return {name: matrix_error(matrix, truth) for name, matrix in rivals.items()}


def leading_modes(covariance: np.ndarray, n_modes: int) -> Eigenbasis:
    """Eigenvectors of the largest eigenvalues of a covariance (d, d).

    Raises:
        ConfigError: unless 1 <= n_modes < d.
    """
    if not 1 <= n_modes < len(covariance):
        raise ConfigError(
            "n_modes", expected=f"1 to {len(covariance) - 1}", got=f"{n_modes}",
            fix="ask for fewer modes than there are pixels",
        )  # fmt: skip
    from scipy.sparse.linalg import eigsh

    start = np.random.default_rng(0).standard_normal(len(covariance))
    values, vectors = eigsh(covariance, n_modes, v0=start)
    order = np.argsort(-values)
    return Eigenbasis(values[order], vectors[:, order])


def compressed_chi2(
    validation: np.ndarray, basis: Eigenbasis, covariance: np.ndarray, exact: bool
) -> Chi2:
    """Reduced chi squared in the space of a few modes, where most covariances have an inverse.

    Args:
        validation: maps that nothing else was made of, (n, 2, n_pixels).
        basis: the modes, best those of the reference.
        covariance: of all pixels, (d, d), if `exact`; else maps (m, 2, n_pixels) whose sample
            covariance is taken. With more than modes + 2 of these its inverse is corrected by
            Hartlap's factor; with fewer the pseudo-inverse covers the m - 1 directions there are.
        exact: what `covariance` is.
    """
    vectors = basis.vectors
    maps = np.asarray(validation).reshape(len(validation), -1) @ vectors
    if exact:
        own = eigenbasis(vectors.T @ covariance @ vectors)
        return Chi2(reduced_chi2(maps, own), len(own.values), "exact")
    rows = np.asarray(covariance).reshape(len(covariance), -1) @ vectors
    own = eigenbasis(sample_covariance(rows))
    rank, values = len(own.values), reduced_chi2(maps, own)
    if len(rows) > rank + 2 and rank == vectors.shape[1]:
        return Chi2(values * hartlap_factor(len(rows), rank), rank, "Hartlap")
    return Chi2(values, rank, "pseudo-inverse")


def gaussian_maps(maps: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Gaussian maps with exactly the mean and the sample covariance of `maps`.

    They are mean + sum_i z_i (x_i - mean) / sqrt(m - 1) with standard normal z.

    Args:
        maps: shape (m, ...), m at least 2.
        n: how many to draw.
        seed: of the draws.

    Returns:
        Float32, shape (n, ...).
    """
    if len(maps) < 2:
        raise ShapeError(
            "maps", expected="2 or more", got=f"{len(maps)}", fix="one map has no covariance"
        )
    rows = np.asarray(maps, dtype=np.float64).reshape(len(maps), -1)
    mean = rows.mean(0)
    z = np.random.default_rng(check_seed(seed)).standard_normal((n, len(rows)))
    z -= z.mean(1, keepdims=True)  # then the mean of the maps drops out
    drawn = z @ rows / np.sqrt(len(rows) - 1) + mean
    return drawn.reshape(n, *np.shape(maps)[1:]).astype(np.float32)


def isotropic_maps(ee: np.ndarray, bb: np.ndarray, nside: int, n: int, seed: int) -> np.ndarray:
    """Isotropic Gaussian Q and U maps, nested, float32, shape (n, 2, 12 nside^2).

    Args:
        ee: C_l of E from l = 0 on, (lmax + 1,); l < 2 is ignored.
        bb: that of B.
        nside: of the maps.
        n: how many.
        seed: of the draws.
    """
    import healpy

    lmax = len(ee) - 1
    rng = np.random.default_rng(check_seed(seed))
    degree, order = healpy.Alm.getlm(lmax)
    roots = np.sqrt(np.stack([ee, bb]) * (np.arange(lmax + 1) >= 2))[:, degree]
    out = np.empty((n, 2, 12 * nside**2), dtype=np.float32)
    for row in out:
        z = rng.standard_normal((2, 2, len(degree)))
        alm = np.where(order == 0, z[0], (z[0] + 1j * z[1]) / np.sqrt(2)) * roots
        row[:] = healpy.reorder(np.asarray(healpy.alm2map_spin(alm, nside, 2, lmax)), r2n=True)
    return out
