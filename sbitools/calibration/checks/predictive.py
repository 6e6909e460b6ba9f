"""Posterior-predictive check: do simulations from the posterior look like the observation?

Parameters are drawn from the posterior of x_o, simulated and observed again; statistics of these
fields are compared with those of x_o. A posterior that is right in a model that is wrong fails
here, and nowhere in calibration.

The p-values are ranks of x_o among the simulations. They are conservative: x_o has already drawn
the posterior to itself, so that for a right model they gather around 1/2 (Meng 1994).

References:
    | Posterior predictive assessment of model fitness via realized discrepancies
      (Gelman, Meng & Stern 1996)
    | Posterior predictive p-values (Meng 1994), section 4: p <= a has probability 2 a at most
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sbitools.calibration.check import Check
from sbitools.errors import ShapeError
from sbitools.observation.familiarity import whitening
from sbitools.seeds import derive

from .gate import checked
from .local import combined
from .predictions import MIN_PREDICTIONS, Statistics, predict

__all__ = ["predictive", "predictive_check"]

_TIES = 105  # key of the random numbers
_QUANTILES = (0.025, 0.16, 0.5, 0.84, 0.975)


@checked
def predictive_check(
    posterior: Any,
    simulator: Any,
    x: Any,
    *,
    statistics: Statistics | None = None,
    n: int = 500,
    seed: int = 0,
    false_alarm: float = 0.01,
    batch_size: int = 32,
) -> Check:
    """Simulate from the posterior of x and compare: `predict`, then `predictive`.

    Args:
        posterior: from `sbitools.train`.
        simulator: of the posterior's output and parameters.
        x: one observed field, shape (1, *posterior.observed.shape).
        statistics: see `predict`.
        n: simulations.
        seed: of draws, simulations, noise and ties.
        false_alarm: of the check.
        batch_size: simulations at a time.
    """
    found = predict(posterior, simulator, x, statistics=statistics, n=n, seed=seed,
                    batch_size=batch_size)  # fmt: skip
    return predictive(*found, false_alarm=false_alarm, seed=seed)


@checked
def predictive(
    observed: np.ndarray,
    draws: np.ndarray,
    names: tuple[str, ...] = (),
    n_failed: int = 0,
    failure: str = "",
    *,
    false_alarm: float = 0.01,
    seed: int = 0,
) -> Check:
    """Is the observation one of its posterior's predictions?

    Each statistic has a two-sided p-value, the randomised rank of the observed value among the M
    predicted ones. The check as a whole looks at the largest standard score and at the Mahalanobis
    distance (covariance shrunk to its diagonal mean, so that S may exceed M); the smaller of
    their p-values is ranked among those that each prediction has in the observation's place. So
    the p-value is exact if observation and predictions are exchangeable, and conservative because
    the posterior has seen the observation.

    Statistic and effect: the standard score of the statistic that is farthest out. Band: where the
    farthest standard score of a prediction lies, with probability 1 - `false_alarm`.

    Args:
        observed: statistics of the observation, shape (S,).
        draws: of simulations from its posterior, shape (M, S), M >= 20.
        names: of the statistics.
        n_failed: simulations that gave no row.
        failure: why the first of them failed.
        false_alarm: of the check.
        seed: of broken ties.

    Raises:
        ShapeError: if shapes disagree, values are not finite, or M is too small.
    """
    observed, draws = (np.asarray(v, dtype=np.float64) for v in (observed, draws))
    names = tuple(names) or tuple(f"statistic {i}" for i in range(observed.size))
    _check_arrays(observed, draws, names)
    pool = np.concatenate([observed[None], draws])
    unit = pool.std(0)
    # Rounding is no scatter: what all agree on says nothing.
    real = unit > 1e-12 * np.abs(pool).max(0)
    scores = np.where(real, (pool - pool.mean(0)) / np.where(real, unit, 1.0), 0.0)
    farthest = np.abs(scores).max(1)
    p_value, _, _ = combined(
        np.stack([farthest, np.linalg.norm(scores @ whitening(scores), axis=1)])
    )
    p = _two_sided(observed, draws, np.random.default_rng(derive(seed, _TIES)))
    # For the reader: in units of the predictions alone.
    own = np.where(real, np.maximum(draws.std(0), 1e-9 * unit), 1.0)
    z = np.where(real, (observed - draws.mean(0)) / own, 0.0)
    worst, passed = int(np.abs(z).argmax()), p_value >= false_alarm
    limit = float(np.quantile(farthest[1:], 1 - false_alarm))
    quantiles = np.quantile(draws, _QUANTILES, axis=0)
    rows = [
        {"name": name, "effect": float(z_), "p_value": float(p_), "observed": float(o),
         "low": float(low), "high": float(high)}
        for name, z_, p_, o, low, high in zip(
            names, z, p, observed, quantiles[0], quantiles[-1], strict=True
        )
    ]  # fmt: skip
    return Check(
        name="predictive", kind="predictive", statistic=float(z[worst]), p_value=p_value,
        effect=float(z[worst]), band=(-limit, limit), passed=passed, false_alarm=false_alarm,
        summary=f"{names[worst]} is {z[worst]:+.1f} sigma from the {len(draws)} predictions "
        f"(of {len(names)} statistics, simulations reach {limit:.1f})",
        note=_note(len(draws), n_failed, failure),
        details={"parameters": rows, "names": list(names), "z": z, "n_failed": n_failed,
                 "quantiles": (quantiles - draws.mean(0)) / own},
    )  # fmt: skip


def _two_sided(observed: np.ndarray, draws: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two-sided p-value of each column's randomised rank: uniform on multiples of 2 / (M + 1)."""
    below, ties = (draws < observed).sum(0), (draws == observed).sum(0)
    rank = below + rng.integers(0, ties + 1)
    n = len(draws) + 1
    return np.minimum(1.0, 2 * np.minimum(rank + 1, n - rank) / n)


def _note(n: int, n_failed: int, failure: str) -> str:
    notes = ["p-values are conservative: the posterior has seen the observation"]
    if n_failed:
        notes.append(f"{n_failed} of {n + n_failed} simulations failed ({failure})")
    return "; ".join(notes)


def _check_arrays(observed: np.ndarray, draws: np.ndarray, names: tuple[str, ...]) -> None:
    fits = draws.ndim == 2 and observed.shape == draws.shape[1:] == (len(names),)
    if not fits or len(draws) < MIN_PREDICTIONS or not len(names):
        raise ShapeError(
            "predictions", expected=f"shapes (S,), (M, S) and S names, M >= {MIN_PREDICTIONS}",
            got=f"{observed.shape}, {draws.shape}, {len(names)} names",
            fix="one row per simulation",
        )  # fmt: skip
    if not (np.isfinite(observed).all() and np.isfinite(draws).all()):
        raise ShapeError(
            "predictions", expected="finite values", got="NaN or infinity",
            fix="leave out simulations that failed, and count them in n_failed",
        )  # fmt: skip
