"""The exact likelihood of maps that are linear in Gaussian gain errors.

With given gains and no noise a map is x = sum over detectors and rings of g B (`response`), where
g is Gaussian with covariance gain_rms^2 R(tau) between the rings of a detector (`gains`), tau the
correlation time. So x is Gaussian with mean 0 and covariance gain_rms^2 B^T (1 x R) B, which has
no more modes than there are detectors and rings. With the thin decomposition B = U S V^T, the
coordinates z = S^-1 V^T x are U^T g: their covariance, gain_rms^2 U^T (1 x R) U, has condition
numbers no larger than those of R (Cauchy's interlacing), and one of its Cholesky factors
is all that a likelihood needs. Since gain_rms only scales, a determinant and a quadratic form for
each tau say everything: `likelihood_table` interpolates both.

This is the truth that posteriors of networks are compared with.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from scipy.linalg import cholesky, solve_triangular, svd
from torch import Tensor

from sbitools.errors import ConfigError, ObservationError, ParameterError, ShapeError
from sbitools.gate.arrays import real_tensor
from sbitools.parameters import ParameterSpace
from sbitools.statistics.sphere_maps import check_finite

from .gains import GainModel
from .likelihood_table import NAMES, LikelihoodTable, gain_columns, log_density

if TYPE_CHECKING:
    from emulators.survey.simulator import TodSimulator

__all__ = ["TOLERANCE", "GainLikelihood"]

TOLERANCE = 2e-5
"""Singular values below this share of the largest are left out. Rounding a map to float32 moves a
coordinate z by 3e-8 (rms of pixels) / s, s its singular value, against a spread of z of 0.08
gain_rms or more (for correlation times up to 60 days). Log-likelihoods of rounded maps are good to
0.02 at this limit (Nside 8 and 16), and off by up to 0.7 at 1e-6."""

# Of a map's norm, in units of the tolerance, that may lie outside the modes that are kept: what is
# left out adds up to about 10. Rounding puts 3e-8 there.
_OUTSIDE, _ROUNDING = 100.0, 1e-6
# Nodes of the table are this far apart in ln tau: a twentieth of the range over which the
# likelihood changes its shape; the error of a cubic spline falls with the fourth power.
_SPACING = 0.1
_FARTHEST = 8.2  # standard normal quantile beyond which no float64 draw of a prior lies


class GainLikelihood:
    """log p(maps | gain_rms, correlation_time).

    Args:
        simulator: with calibration ``"given"``, Gaussian gains, no noise, and exactly the
            parameters gain_rms and correlation_time.
        tolerance: see `TOLERANCE`. 1e-3 leaves out gain errors that the detectors of a pair have
            in common, which show the polarised sky alone: half of the modes, 1e-4 of the brightest
            or less.

    Raises:
        ConfigError: for a simulator whose maps have another likelihood.

    Attributes:
        parameters: columns of theta.
        n_modes: numbers of a map that the likelihood is about.
    """

    def __init__(self, simulator: TodSimulator, tolerance: float = TOLERANCE) -> None:
        _check_simulator(simulator, tolerance)
        self.parameters, self._output = simulator.parameters, simulator.output
        self._shortest, self._longest = _time_range(self.parameters)
        self._interval, self._outside = (
            simulator.scan.ring_interval,
            max(_OUTSIDE * tolerance, _ROUNDING),
        )
        response = simulator.response()
        left, values, right = svd(
            response.matrix.toarray(), full_matrices=False, overwrite_a=True, check_finite=False
        )
        kept = values > tolerance * values[0]
        self._values, self._right, self.n_modes = values[kept], right[kept], int(kept.sum())
        self._left = left[:, kept].reshape(response.n_detectors, response.n_rings, self.n_modes)

    def coordinates(self, maps: Tensor | np.ndarray) -> np.ndarray:
        """z = S^-1 V^T x, dimensionless, float64, shape (B, n_modes).

        Args:
            maps: of the simulator, in uK, shape (B, n_components, n_pixels).

        Raises:
            ShapeError: for another shape, or pixels that are not finite.
            ObservationError: for a map without signal, or with one that no gain errors give.
        """
        x = real_tensor(maps, "maps", ShapeError).double().numpy(force=True)
        if x.ndim != 3 or x.shape[1:] != self._output.shape:
            raise ShapeError(
                "maps", expected=f"shape (B, {str(self._output.shape)[1:]}", got=f"{x.shape}",
                fix="pass maps of the simulator; put a single one in as maps[None]",
            )  # fmt: skip
        check_finite(x, "maps")
        x = x.reshape(len(x), math.prod(self._output.shape))
        inside = x @ self._right.T
        total, seen = (x**2).sum(1), (inside**2).sum(1)
        bad = np.flatnonzero((total == 0) | (total - seen > self._outside**2 * total))
        if len(bad):
            share = math.sqrt(max(0.0, 1 - seen[bad[0]] / total[bad[0]])) if total[bad[0]] else 0
            raise ObservationError(
                f"map {bad[0]}", expected="the response to gain errors alone, not zero",
                got=f"{share:.2g} of its norm {math.sqrt(total[bad[0]]):.2g} uK outside of it",
                fix="pass maps of the simulator itself: noise, or another sky, scan or emulator, "
                "have another likelihood",
            )  # fmt: skip
        return inside / self._values

    def log_likelihood(self, theta: Tensor | np.ndarray, maps: Tensor | np.ndarray) -> np.ndarray:
        """log p(x | theta), without interpolation: a factorisation for each correlation time.

        Args:
            theta: one row for each map, shape (B, 2).
            maps: as in `coordinates`.

        Returns:
            Natural logarithm of the density of V^T x, in uK^-n_modes; float64, shape (B,).

        Raises:
            ParameterError: for theta outside the prior's support, or another number of rows.
            ShapeError, ObservationError: as `coordinates`.
        """
        rms, time = gain_columns(self.parameters, theta)
        z = self.coordinates(maps)
        if len(rms) != len(z):
            raise ParameterError(
                "theta", expected=f"one row for each of {len(z)} maps", got=f"{len(rms)}",
                fix="repeat maps or theta",
            )  # fmt: skip
        log_det, square = np.empty((2, len(z)))
        for value in np.unique(time):
            rows = np.flatnonzero(time == value)
            log_det[rows], square[rows] = self._forms(float(value), z[rows])
        return log_density(self.n_modes, np.log(rms), log_det, np.log(square))

    def table(self, maps: Tensor | np.ndarray) -> LikelihoodTable:
        """The likelihood of all of theta for given maps; raises as `coordinates`."""
        z = self.coordinates(maps)
        n = math.ceil(math.log(self._longest / self._shortest) / _SPACING) + 4
        log_times = np.linspace(math.log(self._shortest), math.log(self._longest), n)
        forms = [self._forms(math.exp(t), z) for t in log_times]
        log_det = CubicSpline(log_times, [f[0] for f in forms])
        log_square = CubicSpline(log_times, np.log([f[1] for f in forms]))
        squares = np.moveaxis(log_square.c, -1, 0)
        return LikelihoodTable(self.parameters, self.n_modes, log_times, log_det.c, squares)

    def _forms(self, time: float, z: np.ndarray) -> tuple[float, np.ndarray]:
        """ln det C of S z, and z^T C^-1 z (B,), for gain errors of rms 1."""
        rings = GainModel(1.0, time).covariance(self._left.shape[1], self._interval)
        covariance = np.zeros((self.n_modes, self.n_modes))
        for block in self._left:
            covariance += block.T @ (rings @ block)
        factor = cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)
        white = solve_triangular(factor, z.T, lower=True, check_finite=False)
        volume = np.log(np.diag(factor)).sum() + np.log(self._values).sum()
        return float(2 * volume), (white**2).sum(0)


def _time_range(parameters: ParameterSpace) -> tuple[float, float]:
    """The shortest and the longest correlation time of the prior, in days."""
    ends = parameters.from_unconstrained(torch.tensor([[-_FARTHEST] * 2, [_FARTHEST] * 2]))
    shortest, longest = ends[:, parameters.names.index(NAMES[1])].tolist()
    if not 0 < shortest < longest < math.inf:
        raise ConfigError(
            "prior of correlation_time", expected="days above 0",
            got=f"{shortest:.3g} to {longest:.3g}", fix="use LogUniform",
        )  # fmt: skip
    return shortest, longest


def _check_simulator(simulator: TodSimulator, tolerance: float) -> None:
    names = simulator.parameters.names
    rules = {
        "calibration": (simulator.calibration == "given", "'given'", simulator.calibration),
        "distribution": (
            simulator.distribution == "gaussian", "'gaussian'", simulator.distribution,
        ),
        "net": (simulator.net == 0, "0", simulator.net),
        "parameters": (sorted(names) == sorted(NAMES), f"{list(NAMES)}", names),
        "tolerance": (0 < tolerance < 1, "between 0 and 1", tolerance),
    }  # fmt: skip
    for name, (ok, expected, value) in rules.items():
        if not ok:
            raise ConfigError(
                f"GainLikelihood {name}", expected=expected, got=repr(value),
                fix="other maps are not Gaussian, or have another covariance: make the simulator "
                f"with another {name}",
            )  # fmt: skip
