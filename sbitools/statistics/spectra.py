"""Angular power spectra of HEALPix maps by healpy, for validation.

Where gradients are needed, or very many maps are small, see `harmonics`.
"""

from __future__ import annotations

import numpy as np

from sbitools.errors import ConfigError, ShapeError

from .sphere_maps import stacked_maps

__all__ = ["angular_power"]

_ALL = ("TT", "EE", "BB", "TE", "EB", "TB")  # as healpy lists them
_OF_FIELDS = {1: ("TT",), 2: ("EE", "BB", "EB"), 3: _ALL}


def angular_power(
    maps: np.ndarray, *, ordering: str, lmax: int | None = None,
    weights: np.ndarray | None = None, iterations: int = 3,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Spectra C_l of each map of a batch, of its fields with each other.

    Args:
        maps: T (n, n_pixels) or (n, 1, n_pixels); Q, U (n, 2, n_pixels); T, Q, U (n, 3, n_pixels).
            Polarisation in the HEALPix (COSMO) convention.
        ordering: of the pixels, ``"ring"`` or ``"nested"``.
        lmax: largest multipole; 3 nside - 1 if None.
        weights: mask or apodisation that maps are multiplied by, shape (n_pixels,), or None.
            Spectra are then pseudo spectra, not divided by the sky fraction.
        iterations: of the transform, to make the quadrature over pixels exact; 0 is what
            `SphericalSpectra` does.

    Returns:
        ``TT``; ``EE``, ``BB``, ``EB``; or all of these with ``TE`` and ``TB``; each float64 of
        shape (n, lmax + 1), in the squared unit of the maps times steradian.

    Raises:
        ConfigError: for an unknown ordering, or lmax below 2.
        ShapeError: for shapes that are none of maps, or NaN, infinite or UNSEEN pixels.
    """
    values, seen = stacked_maps(maps, ordering, weights)
    values = values[:, None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[1] not in _OF_FIELDS:
        raise ShapeError(
            "maps", expected="1, 2 or 3 fields, (n, fields, n_pixels)",
            got=f"shape {np.shape(maps)}", fix="give T, or Q and U, or T, Q and U",
        )  # fmt: skip
    if lmax is not None and lmax < 2:
        raise ConfigError("lmax", expected="2 or more", got=f"{lmax}", fix="pass 2 nside, say")
    values *= seen
    names = _OF_FIELDS[values.shape[1]]
    spectra = [_spectra(fields, lmax, iterations) for fields in values]
    return {name: np.stack([s[_ALL.index(name)] for s in spectra]) for name in names}


def _spectra(fields: np.ndarray, lmax: int | None, iterations: int) -> np.ndarray:
    """All spectra of one map's fields (1 to 3, n_pixels) in ring order, (1 or 6, lmax + 1)."""
    import healpy

    polarised = len(fields) > 1
    if len(fields) == 2:
        fields = np.concatenate([np.zeros_like(fields[:1]), fields])
    given = fields if polarised else fields[0]
    spectra = np.asarray(healpy.anafast(given, lmax=lmax, iter=iterations, pol=polarised))
    return spectra.reshape(-1, spectra.shape[-1])
