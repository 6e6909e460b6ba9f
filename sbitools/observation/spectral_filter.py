"""Which Fourier modes an instrument sees, and how strong its noise is in each of them.

The noise has the power P_N(k) = 2 pi^2 Delta^2_N / k^3, so that a box of volume V, with
n(k) = int d^3x n(x) exp(-i k x), has <|n(k)|^2> = V P_N(k). In units of a discrete transform,
where white noise of unit variance w in N cells has <|W|^2> = N, a cell of volume v gives

    n = W sqrt(P_N / v).

A plane across the line of sight, one cell of length d out of a cube of n cells along it, has
modes that are sums over the k_par of that cube, n_plane(k_perp) = (1 / n) sum n(k_perp, k_par).
With L = n d, and the modes independent, its power is

    P_plane(k_perp) = (1 / L) sum P_N(k_perp, k_par) -> int dk_par / (2 pi) P_N(k_perp, k_par)

over |k_par| up to pi / d, in the limit of a deep cube; it is an area times the square of the
unit, and an area a of a cell takes the place of v.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["ModePower", "cube_amplitude", "plane_amplitude"]


@dataclass(frozen=True)
class ModePower:
    """Power of the noise in each mode of each slab; lengths are in one unit throughout.

    Args:
        k: nodes of the table, ascending, (n_k,).
        delta2: dimensionless power at the nodes, infinite where nothing is measured,
            (n_slabs, n_k).
        variable: ``"k"``, or ``"k_perp"``: what the nodes are values of.
        limit: modes whose noise in the table is this or more are removed.
        slope: of the wedge, (n_slabs,): modes with |k_par| < slope k_perp + buffer are removed.
        buffer: of the wedge.
        k_perp_min: modes below are removed, (n_slabs,).
        k_perp_max: modes above are removed, (n_slabs,).
    """

    k: np.ndarray
    delta2: np.ndarray
    variable: str
    limit: float
    slope: np.ndarray
    buffer: float
    k_perp_min: np.ndarray
    k_perp_max: np.ndarray

    def power(self, slab: int, k_perp: np.ndarray, k_par: np.ndarray) -> np.ndarray:
        """P_N of modes, 0 for those that are removed.

        Between two nodes ln Delta^2 is linear in ln k; modes beyond the nodes, or beside one that
        is infinite, are removed.

        Args:
            slab: number of the slab.
            k_perp: wavenumbers on the sky, broadcast against `k_par`.
            k_par: absolute wavenumbers along the line of sight.
        """
        k_perp, k_par = np.broadcast_arrays(k_perp, k_par)
        k = np.hypot(k_perp, k_par) if self.variable == "k" else k_perp
        inside = (k >= self.k[0]) & (k <= self.k[-1])
        k = np.where(inside, k, self.k[0])
        row = self.delta2[slab]
        finite = np.isfinite(row)
        log_k, nodes = np.log(k), np.log(self.k)
        delta2 = np.exp(np.interp(log_k, nodes, np.log(np.where(finite, row, 1.0))))
        kept = inside & (np.interp(log_k, nodes, finite.astype(float)) == 1)
        kept &= (delta2 < self.limit) & (k_par >= self.slope[slab] * k_perp + self.buffer)
        kept &= (k_perp >= self.k_perp_min[slab]) & (k_perp <= self.k_perp_max[slab])
        return np.where(kept, 2 * np.pi**2 * delta2 / k**3, 0.0)


def cube_amplitude(
    modes: ModePower, slab: int, shape: tuple[int, ...], cell: tuple[float, float]
) -> np.ndarray:
    """sqrt(P_N / v) of the modes of a real transform, 0 where removed, (nx, ny, n // 2 + 1).

    Args:
        modes: power of the noise.
        slab: number of the slab.
        shape: cells (nx, ny, n), the line of sight last.
        cell: sides of a cell on the sky and along the line of sight.
    """
    k_x, k_y = (_wavenumbers(n, cell[0]) for n in shape[:2])
    k_perp = np.hypot(k_x[:, None], k_y)[..., None]
    power = modes.power(slab, k_perp, _half(shape[2], cell[1]))
    return np.sqrt(power / (cell[0] ** 2 * cell[1]))


def plane_amplitude(
    modes: ModePower, shape: tuple[int, ...], cell: tuple[float, float], depth: int
) -> np.ndarray:
    """sqrt(P_plane / a) of the modes of a real transform, 0 where removed, (nx, n // 2 + 1).

    Args:
        modes: power of the noise, of one slab.
        shape: cells (nx, n) of the plane.
        cell: sides of a cell on the sky and along the line of sight.
        depth: cells of the cube along the line of sight.
    """
    k_perp = np.hypot(_wavenumbers(shape[0], cell[0])[:, None], _half(shape[1], cell[0]))
    total = np.zeros_like(k_perp)
    for i, k_par in enumerate(_half(depth, cell[1])):
        both = 1 if i == 0 or 2 * i == depth else 2  # k_par and -k_par
        total += both * modes.power(0, k_perp, np.asarray(k_par))
    return np.sqrt(total / (depth * cell[1]) / cell[0] ** 2)


def _wavenumbers(n: int, cell: float) -> np.ndarray:
    return 2 * np.pi * np.fft.fftfreq(n, cell)


def _half(n: int, cell: float) -> np.ndarray:
    return 2 * np.pi * np.fft.rfftfreq(n, cell)
