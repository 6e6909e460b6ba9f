"""Scattering coefficients of periodic planes and cubes.

The field x is filtered to one scale after another, and its modulus filtered again:

    S1(j) = < |x * psi_j| >,    S2(j, j') = < ||x * psi_j| * psi_j'| > / S1(j) for j' > j,

where the means go over cells and orientations (Bruna & Mallat 2013, arXiv:1203.1513; Cheng et al.
2020, arXiv:2006.08561, for cosmology; Valogiannis & Dvorkin 2022, arXiv:2108.07821, in three
dimensions). S1 measures amplitudes as a spectrum does, S2 how structure of one scale gathers on
larger ones. The filters are defined in Fourier space, at f cycles per cell and the angle a,

    psi_j(f) = exp(-log2(f / f_j)^2 / (2 w^2)),    f_j = 0.35 / 2^j,    w = 0.45 octaves,

times max(cos(a - pi q / Q), 0)^(Q - 1) for the orientations q = 0 ... Q - 1 of planes: a half turn
is enough for real fields, and the squares of all orientations add up to a filter without
direction. No filter passes the mean of the field, which therefore has no effect.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sbitools.errors import ConfigError

from .fourier import as_fields, fft_modes, parts

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["scattering_2d", "scattering_3d"]

FINEST, WIDTH = 0.35, 0.45  # cycles per cell; octaves
_FAR_BELOW = 1e-9  # of the fluctuations: what keeps a logarithm finite


class _Bank(NamedTuple):
    filters: np.ndarray  # (n_scales, n_orientations, *modes)
    shape: tuple[int, ...]  # of a field
    real: bool  # filtered fields are real, and modes are those of a real FFT

    def modes(self, fields: np.ndarray) -> np.ndarray:
        """Of real fields (..., *shape)."""
        axes = range(-len(self.shape), 0)
        return np.fft.rfftn(fields, axes=axes) if self.real else np.fft.fftn(fields, axes=axes)

    def modulus(self, modes: np.ndarray) -> np.ndarray:
        """|field| from its modes, (..., *shape)."""
        axes = range(-len(self.shape), 0)
        inverse = np.fft.irfftn if self.real else np.fft.ifftn
        return np.abs(inverse(modes, s=self.shape, axes=axes))


def scattering_2d(
    field: Tensor | np.ndarray,
    n_scales: int = 5,
    n_orientations: int = 4,
    *,
    floor: float | None = None,
) -> np.ndarray:
    """Logarithms of the scattering coefficients of each plane, 15 for five scales.

    They are invariant under translations, quarter turns and reflections. Where the number of cells
    is even, the Nyquist frequency of either axis, which has no direction, is left out.

    Args:
        field: shape (n, n) or (B, n, n).
        n_scales: octaves from 0.35 cycles per cell down, none below the fundamental.
        n_orientations: filters in a half turn; even, so that a quarter turn permutes them.
        floor: in the unit of the field, added to every mean before the logarithm: far below the
            field's fluctuations, it only keeps a constant field finite. None is 1e-9 of the
            standard deviation of each field.

    Returns:
        ln S1 for each scale, finest first, then ln S2 for the pairs (0, 1), (0, 2) ... in the
        order of ``numpy.triu_indices(n_scales, 1)``: shape (n,) or (B, n), n = n_scales
        (n_scales + 1) / 2.

    Raises:
        ShapeError: unless the field is a square or a batch of squares.
        ConfigError: for more scales than the plane has, or an odd number of orientations.
    """
    planes = as_fields(field, "field", 2)
    if n_orientations < 2 or n_orientations % 2:
        raise ConfigError(
            "n_orientations", expected="an even number, 2 or more", got=f"{n_orientations}",
            fix="pass 4",
        )  # fmt: skip
    n = planes.shape[-1]
    _check_scales(n_scales, n)
    found = _coefficients(planes, _planar_bank(n, n_scales, n_orientations), floor)
    return found if np.ndim(field) == 3 else found[0]


def scattering_3d(
    field: Tensor | np.ndarray, n_scales: int = 4, *, floor: float | None = None
) -> np.ndarray:
    """Logarithms of the scattering coefficients of each cube, with filters without direction.

    They are invariant under translations and the 48 symmetries of a cube; what is filtered is
    real, so that its modulus oscillates with the field.

    Args:
        field: shape (n, n, n) or (B, n, n, n).
        n_scales: as in `scattering_2d`.
        floor: as in `scattering_2d`.

    Returns:
        As `scattering_2d`, shape (n,) or (B, n) with n = n_scales (n_scales + 1) / 2.

    Raises:
        ShapeError: unless the field is a cube or a batch of cubes.
        ConfigError: for more scales than the cube has.
    """
    cubes = as_fields(field, "field", 3)
    _check_scales(n_scales, cubes.shape[-1])
    found = _coefficients(cubes, _isotropic_bank(cubes.shape[-1], n_scales), floor)
    return found if np.ndim(field) == 4 else found[0]


def _coefficients(fields: np.ndarray, bank: _Bank, floor: float | None) -> np.ndarray:
    n_scales, n_orientations = bank.filters.shape[:2]
    finer, coarser = np.triu_indices(n_scales, 1)
    first, second = np.empty((len(fields), n_scales)), np.empty((len(fields), len(finer)))
    # Modes, their product with the filters, the filtered field and its modulus, at once.
    bytes_each = 4 * 16 * n_orientations * math.prod(bank.shape)
    for some in parts(len(fields), bytes_each):
        modes = bank.modes(fields[some].astype(np.float64))
        for j in range(n_scales):
            envelope = bank.modulus(modes[:, None] * bank.filters[j])
            first[some, j] = _mean(envelope)
            spectra = bank.modes(envelope)
            for pair in np.flatnonzero(finer == j):
                again = [_mean(bank.modulus(spectra * psi)) for psi in bank.filters[coarser[pair]]]
                second[some, pair] = np.mean(again, axis=0)
    below, least = first[:, finer], _least(fields) if floor is None else floor
    return np.log(np.concatenate([first + least, (second + least) / (below + least)], axis=1))


def _least(fields: np.ndarray) -> np.ndarray:
    """A number far below the fluctuations of each field, (B, 1), above 0."""
    flat = fields.reshape(len(fields), -1)
    deviation = (flat - flat[:, :1]).std(1, dtype=np.float64, keepdims=True)
    return np.maximum(_FAR_BELOW * deviation, np.finfo(np.float64).tiny)


def _mean(values: np.ndarray) -> np.ndarray:
    """Over all axes but the first."""
    return values.reshape(len(values), -1).mean(1)


@lru_cache(maxsize=4)
def _planar_bank(n: int, n_scales: int, n_orientations: int) -> _Bank:
    k = np.fft.fftfreq(n)
    f, angle = np.hypot(k[:, None], k), np.arctan2(k[:, None], k)
    turns = np.arange(n_orientations)[:, None, None] * np.pi / n_orientations
    directed = np.maximum(np.cos(angle - turns), 0) ** (n_orientations - 1)
    if n % 2 == 0:
        directed[:, n // 2], directed[:, :, n // 2] = 0, 0
    return _Bank(_radial(f, n_scales)[:, None] * directed, (n, n), real=False)


@lru_cache(maxsize=4)
def _isotropic_bank(n: int, n_scales: int) -> _Bank:
    f = np.sqrt(fft_modes(n, 3)[0]) / n
    return _Bank(_radial(f, n_scales)[:, None], (n, n, n), real=True)


def _radial(f: np.ndarray, n_scales: int) -> np.ndarray:
    """(n_scales, *modes): Gaussians in log2 of the frequency, 0 for the mean."""
    octaves = np.log2(np.maximum(f, np.finfo(float).tiny) / FINEST)
    shift = np.arange(n_scales).reshape(-1, *[1] * f.ndim)
    return np.exp(-((octaves + shift) ** 2) / (2 * WIDTH**2))


def _check_scales(n_scales: int, n: int) -> None:
    most = math.floor(math.log2(max(FINEST * n, 0.5))) + 1
    if not 1 <= n_scales <= most:
        raise ConfigError(
            "n_scales", expected=f"1 to {most} octaves, which is what {n} cells a side have",
            got=f"{n_scales}", fix=f"pass n_scales={max(most, 1)}, or larger fields",
        )  # fmt: skip
