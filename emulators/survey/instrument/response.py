"""Maps of gain errors as an exact linear operator: one row for each detector and ring.

Data (1 + g) s with a gain error g that is constant in a ring give the map of the sky plus
sum over detectors and rings of g B, where B is the binned map of the data of that ring alone.
B is sparse: a ring crosses few pixels. With it a map costs one product, and the covariance of
all pixels is known without a single simulation: C = sum over detectors of B^T R B, where R is
the covariance of a detector's gain errors between rings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from emulators.compiled import compiled
from sbitools.errors import ConfigError, ShapeError

from .mapmaking import DETECTORS, MapMaker
from .scan import Scan

__all__ = ["COMPONENTS", "LinearResponse", "ring_templates", "wave_templates"]

COMPONENTS = "TQU"
_DENSE_LIMIT = 8 << 30  # bytes: a covariance that is larger is refused


@compiled
def _quadratic(indptr, indices, data, covariance, out):  # noqa: ANN001, ANN202 (types are inferred)
    """Add b^T R b of every column b of a sparse matrix to `out`."""
    for p in range(len(out)):
        total = 0.0
        for i in range(indptr[p], indptr[p + 1]):
            row = covariance[indices[i]]
            for j in range(indptr[p], indptr[p + 1]):
                total += data[i] * row[indices[j]] * data[j]
        out[p] += total


@dataclass(frozen=True, eq=False)
class LinearResponse:
    """The operator B.

    Attributes:
        matrix: B in the sky's unit per unit gain error, sparse rows, float64, shape
            (n_detectors * n_rings, n_components * n_pixels); detector by detector, nested pixels.
        n_detectors: number of detectors.
        components: of the maps, of ``"T"``, ``"Q"`` and ``"U"``.

    Example:
        >>> from emulators.survey.instrument.scan import Scan
        >>> maker = MapMaker(Scan(n_rings=64, samples=128).pointing(nside=4))
        >>> response = LinearResponse.build(maker, np.ones((3, 192)))
        >>> response.maps(np.full((1, 4 * 64), 1e-4)).shape
        (1, 2, 192)
    """

    matrix: sp.csr_array
    n_detectors: int
    components: str = "QU"

    @classmethod
    def build(cls, maker: MapMaker, sky: np.ndarray, components: str = "QU") -> LinearResponse:
        """The response of the maps that `maker` bins.

        Args:
            maker: scan, detectors and mask.
            sky: what the detectors see: I, Q, U, nested, shape (3, n_pixels).
            components: letters of ``"TQU"`` that the maps have, in this order.

        Raises:
            ConfigError: for other letters.
            ShapeError: for another shape of the sky.
        """
        if not components or components not in ("TQU", "TQ", "TU", "QU", "T", "Q", "U"):
            raise ConfigError(
                "components", expected="letters of 'TQU' in this order", got=repr(components),
                fix="pass 'QU' or 'TQU'",
            )  # fmt: skip
        wanted = [COMPONENTS.index(c) for c in components]
        tod = maker.observe(sky)
        crossings = _Crossings.of(maker)
        blocks = [
            crossings.response(maker, maker.weights(d) * tod[d].reshape(-1), wanted)
            for d in range(maker.n_detectors)
        ]
        return cls(sp.csr_array(sp.vstack(blocks, format="csr")), maker.n_detectors, components)

    @property
    def n_rings(self) -> int:
        """Rings of each detector."""
        return _shape(self.matrix)[0] // self.n_detectors

    @property
    def map_shape(self) -> tuple[int, int]:
        """Shape (n_components, n_pixels) of a map."""
        return len(self.components), _shape(self.matrix)[1] // len(self.components)

    def maps(self, gains: np.ndarray) -> np.ndarray:
        """Maps of gain errors, float64, shape (B, n_components, n_pixels).

        Args:
            gains: dimensionless, shape (B, n_detectors, n_rings) or (B, n_detectors * n_rings).

        Raises:
            ShapeError: for another shape.
        """
        gains = np.asarray(gains, dtype=np.float64)
        n = math.prod(gains.shape[1:])
        if gains.ndim not in (2, 3) or n != _shape(self.matrix)[0]:
            raise ShapeError(
                "gains", expected=f"shape (B, {self.n_detectors}, {self.n_rings})",
                got=f"shape {gains.shape}", fix="give one number per detector and ring",
            )  # fmt: skip
        return (gains.reshape(-1, n) @ self.matrix).reshape(len(gains), *self.map_shape)

    def variance(self, ring_covariance: float | np.ndarray) -> np.ndarray:
        """Exact variance of every pixel, in the sky's unit squared, `map_shape`.

        Args:
            ring_covariance: of the gain errors of a detector, as in `covariance`.
        """
        if np.ndim(ring_covariance) == 0:
            squares = self.matrix.multiply(self.matrix).sum(axis=0)
            return float(ring_covariance) * np.asarray(squares).reshape(self.map_shape)
        covariance = self._check(ring_covariance)
        out = np.zeros(_shape(self.matrix)[1])
        for block in self._blocks():
            columns = block.tocsc()
            _quadratic(columns.indptr, columns.indices, columns.data, covariance, out)
        return out.reshape(self.map_shape)

    def covariance(self, ring_covariance: float | np.ndarray) -> np.ndarray:
        """Exact covariance of all pixels and components, in the sky's unit squared.

        Args:
            ring_covariance: of the gain errors of a detector: a variance for independent rings,
                or a symmetric matrix (n_rings, n_rings). Detectors are independent and alike.

        Returns:
            Float64, shape (n_components * n_pixels, n_components * n_pixels).

        Raises:
            ShapeError: for another shape of `ring_covariance`, or a result of more than 8 GiB.
        """
        n = _shape(self.matrix)[1]
        if 8 * n * n > _DENSE_LIMIT:
            raise ShapeError(
                "covariance", expected=f"at most {_DENSE_LIMIT >> 30} GiB",
                got=f"{n} x {n} numbers", fix="use variance(), or a smaller Nside",
            )  # fmt: skip
        if np.ndim(ring_covariance) == 0:
            return float(ring_covariance) * (self.matrix.T @ self.matrix).toarray()
        covariance = self._check(ring_covariance)
        out = np.zeros((n, n))
        for block in self._blocks():
            out += block.T @ (covariance @ block)
        return 0.5 * (out + out.T)

    def _blocks(self) -> list[sp.csr_array]:
        """B of each detector."""
        edges = range(0, _shape(self.matrix)[0], self.n_rings)
        return [sp.csr_array(self.matrix[i : i + self.n_rings]) for i in edges]

    def _check(self, ring_covariance: float | np.ndarray) -> np.ndarray:
        matrix = np.asarray(ring_covariance, dtype=np.float64)
        if matrix.shape != (self.n_rings,) * 2 or not np.allclose(matrix, matrix.T, atol=0):
            raise ShapeError(
                "ring_covariance", expected=f"a symmetric matrix {(self.n_rings,) * 2}",
                got=f"shape {matrix.shape}", fix="give the covariance of one detector's rings",
            )  # fmt: skip
        return matrix


def _shape(matrix: Any) -> tuple[int, int]:
    """Rows and columns."""
    return matrix.shape


def ring_templates(
    scan: Scan,
    nside: int,
    detectors: Sequence[float] = DETECTORS,
    scan_angle: float | None = None,
) -> sp.csr_array:
    """The response to a sky of I = 1 everywhere: what the scan alone says of every ring.

    Args:
        scan: strategy and sampling.
        nside: of the maps.
        detectors: offsets of the polarimeters in degrees.
        scan_angle: degrees; the strategy's own if None.

    Returns:
        Sparse rows, dimensionless, shape (n_detectors * n_rings, 2 * n_pixels): Q, then U.
    """
    maker = MapMaker(scan.pointing(nside, scan_angle), detectors)
    uniform = np.zeros((3, maker.pointing.n_pixels))
    uniform[0] = 1.0
    return LinearResponse.build(maker, uniform).matrix


def wave_templates(maker: MapMaker, waves: np.ndarray) -> list[sp.csr_array]:
    """Binned maps of data that follow a wave along one ring of one detector and are 0 elsewhere.

    Args:
        maker: scan, detectors and mask.
        waves: along a ring, shape (n, samples).

    Returns:
        For every wave sparse rows like those of `ring_templates`.
    """
    crossings, rings = _Crossings.of(maker), maker.pointing.pixels.shape[0]
    weights = [maker.weights(d) for d in range(maker.n_detectors)]
    return [
        sp.csr_array(sp.vstack(
            [crossings.response(maker, w * np.tile(wave, rings), [1, 2]) for w in weights],
            format="csr",
        ))
        for wave in waves
    ]  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Crossings:
    """Runs of samples of one ring in one pixel, after sorting by ring and pixel.

    Attributes:
        order: samples in this order.
        starts: where each run begins.
        pixels: of each run.
        indptr: first run of each ring, and the number of runs.
    """

    order: np.ndarray
    starts: np.ndarray
    pixels: np.ndarray
    indptr: np.ndarray

    @classmethod
    def of(cls, maker: MapMaker) -> _Crossings:
        pixels = maker.pointing.pixels
        n_rings, samples = pixels.shape
        order = np.argsort(pixels, axis=1, kind="stable")
        sorted_pixels = np.take_along_axis(pixels, order, axis=1)
        new = np.ones((n_rings, samples), dtype=bool)
        new[:, 1:] = sorted_pixels[:, 1:] != sorted_pixels[:, :-1]
        order += np.arange(n_rings)[:, None] * samples
        indptr = np.concatenate([[0], np.cumsum(new.sum(axis=1))])
        return cls(order.reshape(-1), np.flatnonzero(new), sorted_pixels[new], indptr)

    def response(self, maker: MapMaker, weighted: np.ndarray, wanted: list[int]) -> sp.csr_array:
        """Rows of one detector, whose samples times weights are `weighted` (3, n)."""
        sums = np.add.reduceat(weighted[:, self.order], self.starts, axis=1)
        inverse = maker.inverse[self.pixels]
        shape = (len(self.indptr) - 1, maker.pointing.n_pixels)
        parts = [
            sp.csr_array((np.einsum("pj,jp->p", inverse[:, i], sums), self.pixels, self.indptr),
                         shape=shape)
            for i in wanted
        ]  # fmt: skip
        out = sp.csr_array(sp.hstack(parts, format="csr"))
        out.eliminate_zeros()
        return out
