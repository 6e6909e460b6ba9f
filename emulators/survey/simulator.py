"""The reference simulator: a year of time-ordered data in, what goes wrong in the maps out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sbitools.errors import ParameterError
from sbitools.priors import Prior
from sbitools.seeds import check_seeds, derive
from sbitools.simulator import FieldSpec
from sbitools.statistics.sphere_maps import check_nside

from .instrument.gains import Distribution, GainModel, dipole_gains
from .instrument.mapmaking import DETECTORS, MapMaker
from .instrument.noise import NoiseModel
from .instrument.presets import (
    ALPHA,
    PRESETS,
    check_rules,
    detector_sky,
    fiducial,
    space,
    varied_names,
)
from .instrument.response import COMPONENTS, LinearResponse
from .instrument.scan import Frame, Scan, Strategy
from .instrument.sky import dipole_map

__all__ = ["TodSimulator"]

_CODE = 1
"""To be raised whenever the same arguments, theta and seed give other maps."""

_KEPT = 4  # scan angles whose pointing and matrices are kept


class TodSimulator:
    """What badly known gains and noise do to the maps of a scanning satellite.

    Detector d in ring r records (1 + g) s + n: a gain error g (`gains`), the sky s along the scan
    (`scan`, `sky`) and noise n (`noise`). The output is the binned map (`mapmaking`) of these data
    minus that of noiseless data with perfect gains, in uK; 0 in pixels without a map.

    With calibration ``"given"`` nothing is done about g: the output is linear in g and n. With
    ``"dipole"`` the data are divided by gains estimated from the dipole in every
    `calibration_time`: what is left is the drift within it, leaked noise and leaked sky.

    Args:
        nside: of the maps.
        strategy: ``"planck"`` or ``"litebird"``.
        parameters: those of gain_rms (dimensionless), correlation_time (days), knee (mHz) and
            scan_angle (degrees) that vary; if None, all that are not fixed and have an effect.
        calibration: ``"given"`` or ``"dipole"``.
        priors: replaces those of `presets`.
        fixed: replaces fiducial values of `presets` for parameters that do not vary.
        n_rings: rings in the year; 32 nside if None.
        samples: in a ring; 16 nside if None.
        detectors: offsets of the polarimeters in degrees.
        sky: I, Q, U in K, nested, shape (3, 12 nside^2), as `sky.sky_map` makes it; the dipole and
            a CMB of fixed seed if None.
        distribution: of gain errors, ``"gaussian"`` or ``"student"``; if None that of the preset.
        dof: degrees of freedom of the Student distribution.
        net: noise of a detector in uK sqrt(s), 0 for none; if None that of the preset.
        alpha: slope of the noise at low frequency; if None that of `presets.ALPHA`.
        calibration_time: days that share an estimated gain; 0 for one in every ring.
        components: ``"QU"`` or ``"TQU"``.
        frame: coordinates of the maps, ``"galactic"`` or ``"ecliptic"``.
        method: ``"tod"`` makes all samples; ``"response"`` multiplies gain errors by the matrix of
            `response`, for calibration ``"given"`` alone; both agree to rounding. ``"auto"``: the
            response where it applies and the scan angle is fixed.

    Raises:
        ConfigError: for an argument that cannot be used, or a parameter without effect.
        ShapeError: for a sky of another shape, or with pixels that are not finite.

    Example:
        >>> simulator = TodSimulator(nside=4, parameters=["gain_rms"])
        >>> x = simulator.simulate(torch.tensor([[1e-4]]), torch.tensor([7]))
        >>> tuple(x.shape)
        (1, 2, 192)
    """

    group_size = 1
    source: FieldSpec | None = None

    def __init__(
        self,
        nside: int = 16,
        strategy: Strategy = "planck",
        parameters: Sequence[str] | None = None,
        *,
        calibration: Literal["given", "dipole"] = "given",
        priors: Mapping[str, Prior] | None = None,
        fixed: Mapping[str, float] | None = None,
        n_rings: int | None = None,
        samples: int | None = None,
        detectors: Sequence[float] = DETECTORS,
        sky: np.ndarray | None = None,
        distribution: Distribution | None = None,
        dof: float = 4.0,
        net: float | None = None,
        alpha: float | None = None,
        calibration_time: float = 10.0,
        components: Literal["QU", "TQU"] = "QU",
        frame: Frame = "galactic",
        method: Literal["auto", "tod", "response"] = "auto",
    ) -> None:
        methods = ("auto", "tod", "response") if calibration == "given" else ("auto", "tod")
        rules = {
            "calibration": (calibration in PRESETS, f"one of {list(PRESETS)}", calibration),
            "calibration_time": (0 <= calibration_time <= 366, "0 to 366 days", calibration_time),
            "components": (components in ("QU", "TQU"), "'QU' or 'TQU'", components),
            "method": (method in methods, f"one of {methods} for {calibration!r}", method),
        }
        check_rules("TodSimulator", rules)
        self.nside, self.calibration, self.components = check_nside(nside), calibration, components
        self.calibration_time, self.dof = float(calibration_time), float(dof)
        self.scan = Scan(
            strategy, 32 * self.nside if n_rings is None else n_rings,
            16 * self.nside if samples is None else samples, frame,
        )  # fmt: skip
        preset = PRESETS[calibration]
        self.distribution: Distribution = distribution or preset.distribution
        self.net = float(preset.net if net is None else net)
        self.alpha = float(ALPHA[strategy] if alpha is None else alpha)
        names = varied_names(parameters, fixed or {}, self.net)
        self.parameters = space(names, calibration, strategy, priors or {})
        self.fixed = fiducial(calibration, strategy, fixed or {})
        self._models(self.fixed)  # refuses values that cannot be used
        self.detectors = tuple(float(o) for o in detectors)
        self.sky = detector_sky(sky, self.nside, frame, calibrator=calibration == "dipole")
        self._given_sky = sky is not None
        linear = "response" if calibration == "given" and "scan_angle" not in names else "tod"
        self.method = linear if method == "auto" else method
        shape = (len(components), self.sky.shape[1])
        self.output = FieldSpec("systematics", ("map", "pixel_nested"), shape, unit="uK")
        self._responses: dict[float, LinearResponse] = {}
        self.map_maker()  # refuses detectors that cannot be used

    @property
    def version(self) -> str:
        """Digest of all arguments and the code: to a store, other ones are another simulator."""
        names, sky = self.parameters.names, None
        if self._given_sky:  # the bits of the default one may depend on the machine
            sky = hashlib.sha256(self.sky.tobytes()).hexdigest()
        settings = [
            _CODE, self.nside, asdict(self.scan), self.calibration, self.calibration_time,
            self.detectors, self.distribution, self.dof, self.net, self.alpha, self.components,
            self.method, sky, {k: v for k, v in self.fixed.items() if k not in names},
            [(p["name"], p["prior"]) for p in self.parameters.to_dict()],
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def gain_period(self) -> int | None:
        """Rings that share one estimate of the gain; None where gains are not estimated."""
        if self.calibration != "dipole":
            return None
        return max(1, round(self.calibration_time / self.scan.ring_interval))

    def map_maker(self, scan_angle: float | None = None) -> MapMaker:
        """Pointing, mask and binning for a scan angle in degrees; the fiducial one if None."""
        angle = self.fixed["scan_angle"] if scan_angle is None else float(scan_angle)
        return _map_maker(self.scan, self.nside, self.detectors, angle)

    def response(self, scan_angle: float | None = None) -> LinearResponse:
        """The matrix that takes gain errors to residual maps in uK, without any calibration."""
        angle = float(self.fixed["scan_angle"] if scan_angle is None else scan_angle)
        if angle not in self._responses:
            while len(self._responses) >= _KEPT:
                self._responses.pop(next(iter(self._responses)))
            self._responses[angle] = LinearResponse.build(
                self.map_maker(angle), 1e6 * self.sky, self.components
            )
        return self._responses[angle]

    def gain_covariance(self, theta: Tensor | np.ndarray) -> np.ndarray:
        """Exact covariance of a detector's gain errors for one theta (P,), (n_rings, n_rings)."""
        (values,) = self._values(np.asarray(theta)[None])
        return self._models(values)[0].covariance(self.scan.n_rings, self.scan.ring_interval)

    def gains(self, theta: Tensor, seeds: Tensor) -> np.ndarray:
        """The true gain errors in the simulations, shape (B, n_detectors, n_rings)."""
        known = self._values(theta)
        seeds = check_seeds(seeds, len(known), ParameterError)
        out = np.empty((len(known), len(self.detectors), self.scan.n_rings))
        for row, values, seed in zip(out, known, seeds.tolist(), strict=True):
            row[:] = self._gains(values, seed)
        return out

    def simulate(self, theta: Tensor, seeds: Tensor) -> Tensor:
        """Residual maps.

        Args:
            theta: float64, shape (B, P).
            seeds: int64, shape (B,).

        Returns:
            Q, U (or T, Q, U) in uK, nested, float32, shape (B, 2 or 3, 12 nside^2). Bit-equal
            whatever the batch.

        Raises:
            ParameterError: for theta outside the priors, or another number of seeds.
        """
        known = self._values(theta)
        seeds = check_seeds(seeds, len(known), ParameterError)
        out = torch.empty((len(known), *self.output.shape), dtype=torch.float32)
        for row, values, seed in zip(out.numpy(), known, seeds.tolist(), strict=True):
            row[:] = self._run(values, seed)
        return out

    def _run(self, values: dict[str, float], seed: int) -> np.ndarray:
        """One residual map, shape (n_components, n_pixels)."""
        maker, gains = self.map_maker(values["scan_angle"]), self._gains(values, seed)
        wanted = [COMPONENTS.index(c) for c in self.components]
        noise = self._models(values)[1].draw(derive(seed, 1), self.scan, len(self.detectors))
        if self.method == "response":
            out = self.response(values["scan_angle"]).maps(gains[None])[0]
            return out + maker.bin(noise)[wanted] if self.net else out
        signal = maker.observe(1e6 * self.sky)
        data = (1 + gains)[:, :, None] * signal + noise
        if self.calibration == "dipole":
            template = 1e6 * dipole_map(self.nside, self.scan.frame)[0, maker.pointing.pixels]
            data /= 1 + dipole_gains(data, template, self.gain_period or 1)[:, :, None]
        return (maker.bin(data) - maker.bin(signal))[wanted]

    def _gains(self, values: dict[str, float], seed: int) -> np.ndarray:
        draw, seed = self._models(values)[0].draw, derive(seed, 0)
        return draw(seed, len(self.detectors), self.scan.n_rings, self.scan.ring_interval)

    def _models(self, values: Mapping[str, float]) -> tuple[GainModel, NoiseModel]:
        gains = GainModel(
            values["gain_rms"], values["correlation_time"], self.distribution, self.dof
        )
        return gains, NoiseModel(self.net, values["knee"], self.alpha)

    def _values(self, theta: Tensor | np.ndarray) -> list[dict[str, float]]:
        """Values of all parameters, for every row of theta."""
        rows = self.parameters.check(theta).tolist()
        names = self.parameters.names
        return [{**self.fixed, **dict(zip(names, row, strict=True))} for row in rows]

    def __getstate__(self) -> dict[str, Any]:
        """Without the matrices, which a worker process makes anew."""
        return {**self.__dict__, "_responses": {}}


@lru_cache(maxsize=_KEPT)
def _map_maker(scan: Scan, nside: int, detectors: tuple[float, ...], angle: float) -> MapMaker:
    return MapMaker(scan.pointing(nside, angle), detectors)
