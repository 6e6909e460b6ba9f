"""What is known of a scan without knowing the sky: where each ring goes, and how it is binned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.sparse as sp

from .mapmaking import DETECTORS, MapMaker
from .response import ring_templates
from .scan import Scan

__all__ = ["Geometry", "RingGeometry"]


@dataclass(frozen=True)
class Geometry:
    """Rings on the sky at one scan angle.

    Attributes:
        templates: binned maps of data that are 1 in one ring of one detector and 0 elsewhere,
            sparse, (detectors * rings, 2 * pixels): Q, then U, nested.
        noise: lower Cholesky factor (pixels, 2, 2) of the covariance of Q and U from white noise
            of unit variance per sample; 0 where the sky was not seen.
        seen: (pixels,), False where there is no map.
        squares: sums of squared templates, (2, pixels).
        maker: of maps from samples.
    """

    templates: sp.csr_array
    noise: np.ndarray
    seen: np.ndarray
    squares: np.ndarray
    maker: MapMaker


@dataclass(frozen=True)
class RingGeometry:
    """The scanning strategy, from which the geometry at any Nside and scan angle follows.

    Args:
        scan: strategy and sampling.
        detectors: offsets of the polarimeters in degrees.
        period: rings that share one estimate of the gain; None where gains are not estimated.
    """

    scan: Scan
    detectors: tuple[float, ...] = DETECTORS
    period: int | None = None

    @property
    def streams(self) -> tuple[int, int]:
        """Detectors and rings."""
        return len(self.detectors), self.scan.n_rings

    @property
    def periods(self) -> int:
        """Estimates of the gain of one detector."""
        return 0 if self.period is None else -(-self.scan.n_rings // self.period)

    def at(self, nside: int, scan_angle: float | None = None) -> Geometry:
        """The geometry of maps of `nside`; the last few are kept."""
        return _geometry(self.scan, self.detectors, nside, scan_angle)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "scan": asdict(self.scan), "detectors": list(self.detectors),
            "period": self.period,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RingGeometry:
        """Inverse of `to_dict`."""
        return cls(Scan(**values["scan"]), tuple(values["detectors"]), values["period"])


@lru_cache(maxsize=8)
def _geometry(
    scan: Scan, detectors: tuple[float, ...], nside: int, scan_angle: float | None
) -> Geometry:
    maker = MapMaker(scan.pointing(nside, scan_angle), detectors)
    covariance = maker.inverse[:, 1:, 1:]
    seen = maker.mask
    noise = np.zeros_like(covariance)
    noise[seen] = np.linalg.cholesky(covariance[seen])
    templates = ring_templates(scan, nside, detectors, scan_angle)
    squares = np.asarray(templates.multiply(templates).sum(axis=0)).reshape(2, -1)
    return Geometry(templates, noise, seen, squares, maker)
