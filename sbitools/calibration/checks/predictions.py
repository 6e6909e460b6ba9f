"""Simulations from the posterior of an observation, and their statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from sbitools.calibration.drawing.given import observed_field
from sbitools.errors import PosteriorError, ShapeError
from sbitools.seeds import derive

__all__ = ["MIN_PREDICTIONS", "Predictions", "Statistics", "default_statistics", "predict"]

MIN_PREDICTIONS = 20
"""Fewer simulations than this cannot be compared with."""

# Keys of the random numbers: draws, nuisance parameters, simulations, noise.
_DRAWS, _NUISANCE, _SIMULATION, _NOISE = 101, 102, 103, 104

_SHORT = 64  # data vectors up to this length are compared entry by entry
_MAX_BANDS = 8

Statistics = Mapping[str, Callable[[Any], Any]]


class Predictions(NamedTuple):
    """Statistics of the observation and of simulations from its posterior.

    Attributes:
        observed: shape (S,).
        draws: shape (M, S).
        names: of the statistics, length S.
        n_failed: simulations that failed, and have no row in `draws`.
        failure: why the first of them failed, or ``""``.
    """

    observed: np.ndarray
    draws: np.ndarray
    names: tuple[str, ...]
    n_failed: int
    failure: str


def predict(
    posterior: Any,
    simulator: Any,
    x: Any,
    *,
    statistics: Statistics | None = None,
    n: int = 500,
    seed: int = 0,
    batch_size: int = 32,
) -> Predictions:
    """Statistics of x and of n simulations from its posterior.

    Nuisance parameters of the simulator are drawn from their prior. A batch that fails is taken
    apart, and what fails alone, or is not finite, is counted. Fields are not kept.

    Args:
        posterior: with sample, observe, parameters and output.
        simulator: of the same output and inferred parameters.
        x: one observed field, shape (1, *posterior.observed.shape).
        statistics: name -> function of observed fields (B, *shape) that gives (B,) or (B, K);
            `default_statistics` if None.
        n: simulations.
        seed: of draws, simulations and noise.
        batch_size: simulations at a time.

    Raises:
        ShapeError: if x is not one field, or a statistic has another shape or is not finite at x.
        PosteriorError: if the simulator does not fit the posterior, or too much failed.
        ObservationError: if x does not fit the posterior.
    """
    _check_simulator(posterior, simulator)
    x = observed_field(posterior, x)
    if len(x) != 1:
        raise ShapeError(
            "x", expected="one observation, with a batch axis", got=f"{len(x)} rows",
            fix="check one at a time: x[i : i + 1]",
        )  # fmt: skip
    functions = default_statistics(tuple(x.shape[1:])) if statistics is None else statistics
    observed, names = _evaluate(functions, x)
    if not np.isfinite(observed).all():
        raise ShapeError(
            "statistics of x", expected="finite values",
            got=f"{observed[0, int(np.isfinite(observed[0]).argmin())]} for "
            f"{names[int(np.isfinite(observed[0]).argmin())]}", fix="leave this statistic out",
        )  # fmt: skip
    theta = simulator.parameters.design(n, derive(seed, _NUISANCE))
    draws = posterior.sample(x, n, seed=derive(seed, _DRAWS))[0]
    theta[:, simulator.parameters.inferred_columns] = draws.cpu().double()
    job = _Job(posterior, simulator, functions)
    for start in range(0, n, batch_size):
        rows = range(start, min(start + batch_size, n))
        job.batch(theta[rows.start : rows.stop], [derive(seed, _SIMULATION, i) for i in rows],
                  [derive(seed, _NOISE, i) for i in rows])  # fmt: skip
    if sum(map(len, job.values)) < MIN_PREDICTIONS:
        raise PosteriorError(
            "posterior-predictive simulations", expected=f"{MIN_PREDICTIONS} that work",
            got=f"{sum(map(len, job.values))} of {n}; {job.failure or 'too few were asked for'}",
            fix="raise n, or simulate at a draw of the posterior to see what fails",
        )  # fmt: skip
    return Predictions(observed[0], np.concatenate(job.values), names, job.n_failed, job.failure)


def default_statistics(shape: tuple[int, ...]) -> dict[str, Callable[[Any], Any]]:
    """What is compared if the user names nothing, for observed fields of this shape.

    The entries of a data vector up to 64 long; of a field its mean, standard deviation, skewness,
    minimum and maximum, and, of a cube, log10 of the power in at most eight bands.
    """
    if int(np.prod(shape)) <= _SHORT:
        return {"x": lambda x: x.reshape(len(x), -1)}
    functions: dict[str, Callable[[Any], Any]] = {
        "mean": lambda x: _moments(x)[0], "standard deviation": lambda x: _moments(x)[1],
        "skewness": lambda x: _moments(x)[2], "minimum": lambda x: _flat(x).min(1),
        "maximum": lambda x: _flat(x).max(1),
    }  # fmt: skip
    if len(shape) == 3 and len(set(shape)) == 1:
        functions["log10 P, band"] = _log_power
    return functions


def _flat(x: Any) -> np.ndarray:
    return np.asarray(x, dtype=np.float64).reshape(len(x), -1)


def _moments(x: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values = _flat(x)
    mean, sd = values.mean(1), values.std(1)
    third = ((values - mean[:, None]) ** 3).mean(1)
    return mean, sd, third / np.maximum(sd, 1e-300) ** 3


def _log_power(x: Any) -> np.ndarray:
    """log10 of the power in bands of wavenumber of ratio sqrt(2) or one shell, (B, bands)."""
    from sbitools.statistics import power_spectrum

    n = x.shape[-1]
    shells = np.geomspace(1, n // 2 + 1, _MAX_BANDS + 1).round()
    edges = (np.unique(shells) - 0.5) * 2 * np.pi / n
    power = power_spectrum(np.asarray(x), float(n), edges=edges).power
    return np.log10(np.maximum(power, 1e-300))


class _Job:
    """Simulates and evaluates batch by batch; a batch that fails is taken apart."""

    def __init__(self, posterior: Any, simulator: Any, functions: Statistics) -> None:
        self.posterior, self.simulator, self.functions = posterior, simulator, functions
        self.values: list[np.ndarray] = []
        self.n_failed, self.failure = 0, ""

    def batch(self, theta: Any, seeds: list[int], noise: list[int]) -> None:
        import torch

        try:
            made = self.simulator.simulate(theta, torch.tensor(seeds))
            x = torch.as_tensor(made[0] if isinstance(made, tuple) else made)
            x = self.posterior.observe(x, torch.tensor(noise))
        except Exception as error:  # a simulator may raise anything
            if len(seeds) == 1:
                self._fail(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
                return
            for i in range(len(seeds)):
                self.batch(theta[i : i + 1], seeds[i : i + 1], noise[i : i + 1])
            return
        finite = torch.isfinite(x).reshape(len(x), -1).all(1)
        if int(finite.sum()):
            values, names = _evaluate(self.functions, x[finite])
            bad = ~np.isfinite(values)
            self.values.append(values[~bad.any(1)])
            for row in bad[bad.any(1)]:
                self._fail(f"{names[int(row.argmax())]} is not finite")
        for _ in range(int((~finite).sum())):
            self._fail("a field that is not finite")

    def _fail(self, reason: str) -> None:
        self.n_failed += 1
        self.failure = self.failure or reason


def _evaluate(functions: Statistics, x: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """Statistics (B, S) of fields, and their names."""
    columns, names = [], []
    for name, function in functions.items():
        values = np.asarray(function(x), dtype=np.float64)
        if values.ndim not in (1, 2) or len(values) != len(x):
            raise ShapeError(
                f"statistic {name!r}", expected=f"shape ({len(x)},) or ({len(x)}, K)",
                got=f"shape {values.shape}", fix="map fields (B, *shape) to one row each",
            )  # fmt: skip
        several = values.ndim == 2
        names += [f"{name} {i}" for i in range(values.shape[1])] if several else [name]
        columns.append(values if several else values[:, None])
    return np.concatenate(columns, axis=1), tuple(names)


def _check_simulator(posterior: Any, simulator: Any) -> None:
    pairs = (
        ("output", posterior.output, simulator.output),
        ("inferred parameters", posterior.parameters, simulator.parameters.inferred),
    )
    for what, expected, got in pairs:
        if expected.to_dict() != got.to_dict():
            raise PosteriorError(
                f"{what} of the simulator", expected=f"{expected.to_dict()}",
                got=f"{got.to_dict()}", fix="use the simulator the posterior was trained on, or "
                "one of the same specification",
            )  # fmt: skip
