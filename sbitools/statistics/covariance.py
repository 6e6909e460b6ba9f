"""Covariance matrices of maps: estimators from few maps, and what is done with a matrix.

Maps are numpy arrays (n, ...): the first axis counts maps, the others are flattened to d numbers
(Stokes parameters first, then pixels), so that a matrix is (d, d). Everything is float64. How far
an estimate is from the truth is in `covariance_error`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sbitools.errors import ConfigError, ShapeError

from .sphere_maps import check_finite, ordered_directions

__all__ = [
    "Eigenbasis", "as_matrix", "as_rows", "diagonal_covariance", "eigenbasis", "gaussian_taper",
    "hartlap_factor", "inverse_covariance", "ledoit_wolf", "projected_spectrum", "reduced_chi2",
    "sample_covariance", "scan_tapers", "taper_covariance",
]  # fmt: skip


class Eigenbasis(NamedTuple):
    """Eigenvectors of a covariance matrix whose eigenvalues are not zero.

    Attributes:
        values: descending, shape (rank,).
        vectors: columns, shape (d, rank).
    """

    values: np.ndarray
    vectors: np.ndarray


def sample_covariance(maps: np.ndarray) -> np.ndarray:
    """Unbiased sample covariance (d, d): mean removed, divided by n - 1.

    Args:
        maps: shape (n, ...), n at least 2.
    """
    rows = as_rows(maps, 2)
    rows = rows - rows.mean(0)
    return rows.T @ rows / (len(rows) - 1)


def diagonal_covariance(maps: np.ndarray) -> np.ndarray:
    """Variances alone, (d, d): every correlation set to zero."""
    return np.diag(as_rows(maps, 2).var(0, ddof=1))


def ledoit_wolf(maps: np.ndarray) -> tuple[np.ndarray, float]:
    """Sample covariance drawn towards its mean variance (Ledoit & Wolf 2004, J. Mult. Anal. 88).

    With S the covariance (divided by n) and mu = tr S / d, the estimate is
    (1 - rho) S + rho mu 1, where rho = b^2 / delta^2 (their lemma 3.1 to 3.4): delta^2 =
    |S - mu|^2 / d and b^2 = sum_k |x_k x_k^T - S|^2 / (n^2 d), no more than delta^2. Since
    sum_k |x_k x_k^T - S|^2 = sum_k |x_k|^4 - n |S|^2, no fourth moments are stored.

    Args:
        maps: shape (n, ...).

    Returns:
        The matrix (d, d) and rho in [0, 1].
    """
    rows = as_rows(maps, 2)
    rows = rows - rows.mean(0)
    n, d = rows.shape
    covariance = rows.T @ rows / n
    mu, square = np.trace(covariance) / d, (covariance**2).sum()
    spread = square - d * mu**2
    noise = (np.einsum("ij,ij->i", rows, rows) ** 2).sum() / n**2 - square / n
    rho = float(min(max(noise, 0.0) / spread, 1.0)) if spread > 0 else 1.0
    covariance *= 1 - rho
    covariance.flat[:: d + 1] += rho * mu
    return covariance, rho


def gaussian_taper(nside: int, width: float, *, ordering: str) -> np.ndarray:
    """exp(-angle^2 / 2 width^2) between the centres of all pixels, (n_pixels, n_pixels).

    Args:
        nside: of the maps.
        width: standard deviation in radian.
        ordering: of the pixels, ``"ring"`` or ``"nested"``.
    """
    if not width > 0:
        raise ConfigError(
            "taper", expected="a positive width in radian", got=f"{width}", fix="pass 0.1, say"
        )
    return _gaussian(_angles(nside, ordering), width)


def taper_covariance(covariance: np.ndarray, taper: np.ndarray) -> np.ndarray:
    """A covariance (d, d) times a taper (n_pixels, n_pixels), every pair of Stokes parameters."""
    covariance, p = as_matrix(covariance, "covariance"), len(as_matrix(taper, "taper"))
    if len(covariance) % p:
        raise ShapeError(
            "covariance", expected=f"a multiple of {p} rows, the pixels of the taper",
            got=f"shape {covariance.shape}", fix="use a taper of the maps' Nside",
        )  # fmt: skip
    blocks = covariance.reshape(-1, p, len(covariance) // p, p)
    return (blocks * taper[:, None, :]).reshape(covariance.shape)


def scan_tapers(
    covariance: np.ndarray, reference: np.ndarray, widths: Sequence[float], nside: int,
    *, ordering: str,
) -> np.ndarray:  # fmt: skip
    """Relative Frobenius error of a tapered covariance for every width, shape (n_widths,).

    Args:
        covariance: sample covariance (d, d).
        reference: the truth; or the sample covariance of other, independent maps, which adds the
            same constant to the expected square for every width, so that the best width can be
            found without the truth.
        widths: in radian.
        nside: of the maps.
        ordering: of the pixels, ``"ring"`` or ``"nested"``.
    """
    angles, norm = _angles(nside, ordering), np.linalg.norm(as_matrix(reference, "reference"))
    tapered = (taper_covariance(covariance, _gaussian(angles, w)) for w in widths)
    return np.array([np.linalg.norm(t - reference) / norm for t in tapered])


def hartlap_factor(n_maps: int, n_data: int) -> float:
    """(n - d - 2) / (n - 1), by which the inverse of a sample covariance is unbiased.

    Hartlap, Simon & Schneider 2007 (astro-ph/0608064), equation 17, for Gaussian maps whose
    sample mean is removed.

    Raises:
        ConfigError: unless n > d + 2; the inverse has no mean otherwise, or does not exist.
    """
    if n_maps <= n_data + 2:
        raise ConfigError(
            "inverse of a sample covariance", expected=f"more than d + 2 = {n_data + 2} maps",
            got=f"{n_maps}", fix="use more maps, fewer data, or a shrunk covariance",
        )  # fmt: skip
    return (n_maps - n_data - 2) / (n_maps - 1)


def inverse_covariance(covariance: np.ndarray, n_maps: int | None = None) -> np.ndarray:
    """Inverse (d, d); unbiased by `hartlap_factor` for a sample covariance of `n_maps` maps."""
    covariance = as_matrix(covariance, "covariance")
    factor = 1.0 if n_maps is None else hartlap_factor(n_maps, len(covariance))
    try:
        return factor * np.linalg.inv(covariance)
    except np.linalg.LinAlgError as error:
        raise ShapeError(
            "covariance", expected="a matrix of full rank", got="a singular one",
            fix="use `reduced_chi2`, which inverts what can be inverted",
        ) from error  # fmt: skip


def eigenbasis(covariance: np.ndarray, tolerance: float = 1e-10) -> Eigenbasis:
    """Eigenvectors with eigenvalues above `tolerance` times the largest: the rank."""
    values, vectors = np.linalg.eigh(as_matrix(covariance, "covariance"))
    keep = values > tolerance * values[-1]
    if not keep.any():
        raise ShapeError(
            "covariance", expected="a positive eigenvalue", got=f"none above {values[-1]:g}",
            fix="pass the covariance of maps that vary",
        )  # fmt: skip
    return Eigenbasis(values[keep][::-1], vectors[:, keep][:, ::-1])


def reduced_chi2(
    maps: np.ndarray, basis: Eigenbasis, mean: np.ndarray | float = 0.0
) -> np.ndarray:
    """m^T C^+ m / rank of each map, shape (n,), with C^+ the pseudo-inverse.

    Its mean is 1 for maps that have this covariance; parts of maps outside the basis do not count.

    Args:
        maps: shape (n, ...).
        basis: of C, see `eigenbasis`.
        mean: subtracted from the maps, shape (...) or a number.
    """
    rows = _of_length(as_rows(maps) - np.ravel(mean), basis)
    return ((rows @ basis.vectors) ** 2 / basis.values).mean(1)


def projected_spectrum(covariance: np.ndarray, basis: Eigenbasis) -> np.ndarray:
    """Variances v^T C v along the eigenvectors of a reference, shape (rank,)."""
    covariance = _of_length(as_matrix(covariance, "covariance"), basis)
    return np.einsum("ij,ij->j", basis.vectors, covariance @ basis.vectors)


def as_rows(maps: np.ndarray, at_least: int = 1) -> np.ndarray:
    """Maps as (n, d) in float64.

    Raises:
        ShapeError: for fewer than `at_least` maps, or numbers that are NaN, infinite or UNSEEN.
    """
    values = np.asarray(maps)
    good = values.ndim >= 2 and len(values) >= at_least and values.dtype.kind in "fiu"
    if not good:
        raise ShapeError(
            "maps", expected=f"real numbers (n, ...) with n at least {at_least}",
            got=f"shape {values.shape}, {values.dtype}", fix="stack the maps on the first axis",
        )  # fmt: skip
    rows = values.reshape(len(values), -1).astype(np.float64, copy=False)
    check_finite(rows, "maps")
    return rows


def as_matrix(matrix: np.ndarray, what: str) -> np.ndarray:
    """A square matrix of finite numbers in float64."""
    values = np.asarray(matrix, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise ShapeError(
            what, expected="a square matrix", got=f"shape {values.shape}",
            fix="flatten Stokes parameters and pixels into one axis",
        )  # fmt: skip
    check_finite(values, what)
    return values


def _of_length(rows: np.ndarray, basis: Eigenbasis) -> np.ndarray:
    if rows.shape[1] != len(basis.vectors):
        raise ShapeError(
            "maps", expected=f"{len(basis.vectors)} numbers, as the basis has",
            got=f"{rows.shape[1]}", fix="use the basis of a covariance of such maps",
        )  # fmt: skip
    return rows


def _angles(nside: int, ordering: str) -> np.ndarray:
    directions = ordered_directions(nside, ordering)
    return np.arccos(np.clip(directions @ directions.T, -1.0, 1.0))


def _gaussian(angles: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-0.5 * (angles / width) ** 2)
