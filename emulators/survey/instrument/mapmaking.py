"""Binned maps of intensity and linear polarisation from the samples of several polarimeters.

A detector with the offset o sees d = I + Q cos 2(psi + o) + U sin 2(psi + o) = w . s in its
pixel. The map that fits all samples of a pixel best is s = N^-1 sum w d, with the 3 x 3 matrix
N = sum w w^T (Tegmark 1997, ApJ 480 L87, with equal weights). Pixels in which N is close to
singular are masked: their maps are 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from emulators.compiled import compiled
from sbitools.errors import ConfigError, ShapeError

from .scan import Pointing

__all__ = ["DETECTORS", "MapMaker"]

DETECTORS = (0.0, 90.0, 45.0, 135.0)
"""Offsets in degrees of two pairs of polarimeters, which measure Q and U at once."""


@compiled
def _observe(pixels, cos, sin, offsets, sky, tod):  # noqa: ANN001, ANN202 (types are inferred)
    """The samples (detectors, n) of a sky (3, pixels)."""
    for d in range(len(tod)):
        c, s = np.cos(2 * offsets[d]), np.sin(2 * offsets[d])
        for t in range(len(pixels)):
            p = pixels[t]
            tod[d, t] = (
                sky[0, p]
                + (c * cos[t] - s * sin[t]) * sky[1, p]
                + (s * cos[t] + c * sin[t]) * sky[2, p]
            )


@compiled
def _project(pixels, cos, sin, offsets, tod, out):  # noqa: ANN001, ANN202
    """Add w d of all samples to `out` (3, pixels)."""
    for d in range(len(tod)):
        c, s = np.cos(2 * offsets[d]), np.sin(2 * offsets[d])
        for t in range(len(pixels)):
            p, value = pixels[t], tod[d, t]
            out[0, p] += value
            out[1, p] += (c * cos[t] - s * sin[t]) * value
            out[2, p] += (s * cos[t] + c * sin[t]) * value


@compiled
def _project_streams(pixels, cos, sin, streams, out):  # noqa: ANN001, ANN202
    """The same as `_project` for sums over detectors of tod times 1, cos 2o and sin 2o."""
    for t in range(len(pixels)):
        p, q, u = pixels[t], streams[1, t], streams[2, t]
        out[0, p] += streams[0, t]
        out[1, p] += cos[t] * q - sin[t] * u
        out[2, p] += sin[t] * q + cos[t] * u


@compiled
def _moments(pixels, cos, sin, out):  # noqa: ANN001, ANN202
    """Add (1, cos, sin) (1, cos, sin)^T of all samples to `out` (pixels, 3, 3)."""
    for t in range(len(pixels)):
        n = out[pixels[t]]
        c, s = np.float64(cos[t]), np.float64(sin[t])
        n[0, 0] += 1
        n[0, 1] += c
        n[0, 2] += s
        n[1, 1] += c * c
        n[1, 2] += c * s
        n[2, 2] += s * s
    out[:, 1, 0], out[:, 2, 0], out[:, 2, 1] = out[:, 0, 1], out[:, 0, 2], out[:, 1, 2]


class MapMaker:
    """The linear operators between skies and samples along one pointing.

    Args:
        pointing: of the boresight.
        detectors: offsets in degrees of the polarimeters against the direction of motion.
        max_condition: pixels whose N has a larger condition number are masked.

    Raises:
        ConfigError: for no detectors, offsets that are not finite, or a max_condition below 1.

    Example:
        >>> from emulators.survey.instrument.scan import Scan
        >>> maker = MapMaker(Scan(n_rings=64, samples=128).pointing(nside=4))
        >>> sky = np.ones((3, 192))
        >>> bool(np.allclose(maker.bin(maker.observe(sky)), sky))
        True
    """

    def __init__(
        self,
        pointing: Pointing,
        detectors: Sequence[float] = DETECTORS,
        max_condition: float = 1e3,
    ) -> None:
        self.pointing = pointing
        self.detectors = tuple(float(o) for o in detectors)
        self.max_condition = float(max_condition)
        if not self.detectors or not np.isfinite(self.detectors).all():
            raise ConfigError(
                "detectors", expected="one or more finite offsets in degrees",
                got=repr(self.detectors), fix="give the offset of each polarimeter",
            )  # fmt: skip
        if not self.max_condition >= 1:
            raise ConfigError(
                "max_condition", expected="1 or more", got=repr(max_condition),
                fix="give the largest condition number of pixels that are kept",
            )  # fmt: skip
        double = 2 * pointing.psi.reshape(-1)
        self.cos, self.sin = np.cos(double), np.sin(double)
        self._pixels = pointing.pixels.reshape(-1)
        self._offsets = np.deg2rad(self.detectors)

    @property
    def n_detectors(self) -> int:
        """Number of polarimeters."""
        return len(self.detectors)

    @property
    def tod_shape(self) -> tuple[int, int, int]:
        """Shape (n_detectors, n_rings, samples) of time-ordered data."""
        return (self.n_detectors, *self.pointing.pixels.shape)

    @cached_property
    def hits(self) -> np.ndarray:
        """Samples of all detectors per pixel, int64, shape (n_pixels,)."""
        return self.n_detectors * self.pointing.hits()

    @cached_property
    def normal(self) -> np.ndarray:
        """The matrices N, shape (n_pixels, 3, 3)."""
        along = np.zeros((self.pointing.n_pixels, 3, 3))  # of a detector with the offset 0
        _moments(self._pixels, self.cos, self.sin, along)
        turns = np.zeros((self.n_detectors, 3, 3))
        cos, sin = np.cos(2 * self._offsets), np.sin(2 * self._offsets)
        turns[:, 0, 0], turns[:, 1, 1], turns[:, 1, 2] = 1, cos, -sin
        turns[:, 2, 1], turns[:, 2, 2] = sin, cos
        return np.sum([turn @ along @ turn.T for turn in turns], axis=0)

    @cached_property
    def condition(self) -> np.ndarray:
        """Condition numbers of N (largest over smallest eigenvalue), infinite where singular."""
        values = np.linalg.eigvalsh(self.normal)
        small = values[:, 0] > 1e-12 * values[:, 2]
        out = np.full(len(values), np.inf)
        out[small] = values[small, 2] / values[small, 0]
        return out

    @cached_property
    def mask(self) -> np.ndarray:
        """True in pixels with a map, shape (n_pixels,)."""
        return self.condition <= self.max_condition

    @cached_property
    def inverse(self) -> np.ndarray:
        """The matrices N^-1, zero in masked pixels, shape (n_pixels, 3, 3)."""
        out = np.zeros_like(self.normal)
        out[self.mask] = np.linalg.inv(self.normal[self.mask])
        return out

    def weights(self, detector: int) -> np.ndarray:
        """The vectors w of all samples of a detector, float64, shape (3, n_rings * samples)."""
        c, s = np.cos(2 * self._offsets[detector]), np.sin(2 * self._offsets[detector])
        cos, sin = self.cos.astype(np.float64), self.sin.astype(np.float64)
        return np.stack([np.ones_like(cos), c * cos - s * sin, s * cos + c * sin])

    def observe(self, sky: np.ndarray) -> np.ndarray:
        """Noiseless data of all detectors in the sky's unit, float64, `tod_shape`.

        Args:
            sky: I, Q, U in nested order, shape (3, n_pixels).

        Raises:
            ShapeError: for another shape.
        """
        sky = _shaped(sky, (3, self.pointing.n_pixels), "sky")
        out = np.empty((self.n_detectors, self._pixels.size))
        _observe(self._pixels, self.cos, self.sin, self._offsets, sky, out)
        return out.reshape(self.tod_shape)

    def bin(self, tod: np.ndarray) -> np.ndarray:
        """Maps of I, Q, U in the data's unit, nested, float64, shape (3, n_pixels).

        Args:
            tod: data of all detectors, `tod_shape`.

        Raises:
            ShapeError: for another shape.
        """
        tod = _shaped(tod, self.tod_shape, "tod").reshape(self.n_detectors, -1)
        out = np.zeros((3, self.pointing.n_pixels))
        _project(self._pixels, self.cos, self.sin, self._offsets, tod, out)
        return self.solve(out)

    def bin_waves(self, amplitudes: np.ndarray, waves: np.ndarray) -> np.ndarray:
        """`bin` of data that are sums of the same waves along every ring, faster.

        Args:
            amplitudes: of every detector, ring and wave, (n_detectors, n_rings, n).
            waves: (n, samples).

        Returns:
            I, Q, U (3, n_pixels); sums over detectors are float32.
        """
        angles = 2 * self._offsets
        sums = np.stack([np.ones_like(angles), np.cos(angles), np.sin(angles)])
        streams = np.einsum("sd,drn->srn", sums, amplitudes, optimize=True).astype(np.float32)
        streams = (streams @ waves.astype(np.float32)).reshape(3, -1)
        out = np.zeros((3, self.pointing.n_pixels))
        _project_streams(self._pixels, self.cos, self.sin, streams, out)
        return self.solve(out)

    def solve(self, sums: np.ndarray) -> np.ndarray:
        """N^-1 times the sums of w d, both of shape (3, n_pixels)."""
        return np.einsum("pij,jp->ip", self.inverse, sums)


def _shaped(values: np.ndarray, shape: tuple[int, ...], what: str) -> np.ndarray:
    values = np.asarray(values)
    if values.shape != shape or values.dtype.kind not in "fiu":
        raise ShapeError(
            what, expected=f"real numbers of shape {shape}",
            got=f"{values.dtype} of shape {values.shape}", fix="match the scan and the detectors",
        )  # fmt: skip
    single = values.dtype == np.float32
    return np.ascontiguousarray(values, np.float32 if single else np.float64)
