"""The two systems of the simulator, linear and non-linear, and the rules for their settings.

"given" is the study of gain errors of Planck's scan in Campeti et al. 2025 (arXiv:2503.11643):
errors of 1e-4, no noise. "dipole" has drifts of a per cent, as before any calibration, with heavy
tails, the noise of a single detector (of the order of 50 uK sqrt(s)), and gains from the dipole
in every ten days. It is the tails that make its maps non-Gaussian: with Gaussian drifts the
division by estimated gains is linear to one or two per cent and leaves pixels Gaussian.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sbitools.errors import ConfigError, ShapeError
from sbitools.parameters import Parameter, ParameterSpace
from sbitools.priors import LogUniform, Prior, Uniform
from sbitools.statistics.sphere_maps import check_finite, check_nside

from .gains import Distribution
from .scan import SCAN_ANGLES, Frame
from .sky import dipole_map, sky_map

__all__ = [
    "ALPHA", "NAMES", "PRESETS", "Preset", "check_rules", "detector_sky", "fiducial", "space",
    "varied_names",
]  # fmt: skip

_UNITS = {"gain_rms": "", "correlation_time": "day", "knee": "mHz", "scan_angle": "deg"}
_LATEX = {
    "gain_rms": r"\sigma_g", "correlation_time": r"\tau", "knee": r"f_\mathrm{knee}",
    "scan_angle": r"\alpha",
}  # fmt: skip
NAMES = tuple(_UNITS)

_SCAN_PRIORS: dict[str, Prior] = {"planck": Uniform(75.0, 90.0), "litebird": Uniform(45.0, 55.0)}
_CMB_SEED = 0

ALPHA = {"planck": 1.5, "litebird": 1.0}
"""Slope of the noise at low frequency, by strategy."""


@dataclass(frozen=True)
class Preset:
    """What a calibration implies where the user says nothing.

    Attributes:
        distribution: of gain errors.
        net: noise in uK sqrt(s).
        fiducial: values of parameters that do not vary; the scan angle is the strategy's.
        priors: of those that vary; the scan angle's is the strategy's.
    """

    distribution: Distribution
    net: float
    fiducial: Mapping[str, float]
    priors: Mapping[str, Prior]


_SLOW: dict[str, Prior] = {
    "correlation_time": LogUniform(0.5, 60.0), "knee": LogUniform(5.0, 200.0),
}  # fmt: skip
PRESETS = {
    "given": Preset(
        "gaussian", 0.0, {"gain_rms": 1e-4, "correlation_time": 5.0, "knee": 20.0},
        {"gain_rms": LogUniform(1e-5, 1e-3), **_SLOW},
    ),
    "dipole": Preset(
        "student", 50.0, {"gain_rms": 1e-2, "correlation_time": 10.0, "knee": 20.0},
        {"gain_rms": LogUniform(1e-3, 1e-1), **_SLOW},
    ),
}  # fmt: skip


def check_rules(what: str, rules: Mapping[str, tuple[bool, str, Any]]) -> None:
    """Refuse the first setting that breaks its rule (holds, expected, value).

    Raises:
        ConfigError: which names it.
    """
    for name, (ok, expected, value) in rules.items():
        if not ok:
            raise ConfigError(
                f"{what} {name}", expected=expected, got=repr(value), fix=f"correct {name}"
            )


def varied_names(
    parameters: Sequence[str] | None, fixed: Mapping[str, float], net: float
) -> list[str]:
    """Names of the parameters that vary; if None, all that are not fixed and have an effect.

    Raises:
        ConfigError: for unknown or repeated names, one that is fixed as well, and parameters that
            cannot change the maps: a knee without noise, a correlation time of gains that are
            perfect, and a scan angle if there is neither.
    """
    names = [p for p in NAMES if p not in fixed] if parameters is None else list(parameters)
    if parameters is None and not net and "knee" in names:
        names.remove("knee")
    distinct = set(names) <= set(NAMES) and len(set(names)) == len(names)
    gains = "gain_rms" in names or fixed.get("gain_rms", 1.0) != 0
    dead = {
        "knee": not net, "correlation_time": not gains, "scan_angle": not gains and not net,
    }  # fmt: skip
    without = [p for p in names if dead.get(p)]
    rules = {
        "parameters": (distinct, f"distinct names of {list(NAMES)}", names),
        "fixed": (
            set(fixed) <= set(NAMES) - set(names), f"names of {list(NAMES)} that do not vary",
            dict(fixed),
        ),
    }  # fmt: skip
    check_rules("TodSimulator", rules)
    if without:
        raise ConfigError(
            "TodSimulator parameters", expected="parameters that have an effect",
            got=f"{without} with net={net}" + ("" if gains else " and gain_rms=0"),
            fix="give noise (net) or gain errors (gain_rms), or leave these out",
        )  # fmt: skip
    return names


def space(
    names: Sequence[str], calibration: str, strategy: str, priors: Mapping[str, Prior]
) -> ParameterSpace:
    """The parameters `names` with the user's `priors` or the preset's.

    Raises:
        ConfigError: if a prior is for a parameter that does not vary.
    """
    known = set(priors) <= set(names)
    check_rules("TodSimulator", {"priors": (known, f"names of {list(names)}", list(priors))})
    angle = _SCAN_PRIORS[strategy]
    chosen = {**PRESETS[calibration].priors, "scan_angle": angle, **priors}
    return ParameterSpace(
        [Parameter(p, chosen[p], unit=_UNITS[p], latex=_LATEX[p]) for p in names]
    )


def fiducial(calibration: str, strategy: str, fixed: Mapping[str, float]) -> dict[str, float]:
    """Values of all parameters: the user's, or those of preset and strategy."""
    own = {**PRESETS[calibration].fiducial, "scan_angle": SCAN_ANGLES[strategy]}
    return {name: float(value) for name, value in (own | dict(fixed)).items()}


def detector_sky(
    sky: np.ndarray | None, nside: int, frame: Frame, *, calibrator: bool
) -> np.ndarray:
    """The sky in K, shape (3, 12 nside^2): the user's, or dipole and CMB.

    Args:
        sky: in K, nested, at this Nside, or None.
        nside: of the maps.
        frame: coordinates.
        calibrator: whether the sky must have the solar dipole in it.

    Raises:
        ShapeError: for another shape, or pixels that are not finite.
        ConfigError: for a sky without the dipole, if that is the calibrator.
    """
    if sky is None:
        return sky_map(nside, _CMB_SEED, frame=frame)
    values = np.array(sky, dtype=np.float64)
    if values.shape != (3, 12 * check_nside(nside) ** 2):
        raise ShapeError(
            "sky", expected=f"shape (3, {12 * nside**2})", got=f"shape {values.shape}",
            fix="bring it to the simulator's Nside with sky.regrade()",
        )  # fmt: skip
    check_finite(values, "sky")
    dipole = dipole_map(nside, frame)[0]
    amplitude = float(values[0] @ dipole / (dipole @ dipole))
    if calibrator and not 0.5 < amplitude < 2:
        raise ConfigError(
            "sky", expected="the solar dipole of 3.36 mK, in K, in the simulator's frame",
            got=f"{amplitude:.3g} times that dipole",
            fix="add sky.dipole_map() to the sky, or convert it to K",
        )  # fmt: skip
    return values
