"""What simulations are worth: learning curves in nats, and the augmentation factor.

The score of a posterior is the mean log density that it gives the truths of held-out reference
simulations: the exact posterior has the highest, and the difference is the expected Kullback-
Leibler divergence. As a function of the number n of training simulations it follows a power law,
a - b n^-c (Hestness et al. 2017, arXiv:1712.00409).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sbitools.calibration.statistics.bootstrap import bootstrap_means
from sbitools.display.brief import Brief
from sbitools.errors import ConfigError, ShapeError
from sbitools.seeds import derive

__all__ = ["AugmentationFactor", "LearningCurve", "augmentation_factor", "learning_curve"]

_BOOTSTRAP = 79
_RESAMPLES = 400

# Exponents that are tried, and their prior: a logarithm around 0.7, give or take a factor 1.7.
# Three sizes do not fix three numbers; scores over decades of n do, and then it does not matter.
_EXPONENTS = np.geomspace(0.1, 3.0, 120)
_USUAL, _SPREAD = 0.7, 0.5

# A power law is not believed farther out than so many times the largest size.
_FARTHEST = 100.0
# Scores are not known better than this, in nats: it keeps weights finite.
_LEAST_ERROR = 1e-3


@dataclass(frozen=True, repr=False)
class LearningCurve(Brief):
    """score(n) = a - b n^-c.

    Args:
        n: training simulations, shape (S,).
        score: mean log density of held-out truths in nats, shape (S,).
        error: of each score, what all sizes have in common left out, shape (S,).
        fit: a in nats, b, c.
        samples: the same for bootstrap samples of the held-out simulations, shape (R, 3).
    """

    n: np.ndarray
    score: np.ndarray
    error: np.ndarray
    fit: np.ndarray
    samples: np.ndarray

    def __call__(self, n: float | np.ndarray) -> np.ndarray:
        """Score in nats at n simulations."""
        return _power_law(self.fit, np.asarray(n, dtype=np.float64))

    def band(self, n: float | np.ndarray, mass: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the central bootstrap interval of the score at n."""
        values = _power_law(self.samples[:, :, None], np.atleast_1d(np.asarray(n, float)))
        low, high = np.quantile(values, ((1 - mass) / 2, (1 + mass) / 2), axis=0)
        return low, high

    def simulations_for(self, score: float) -> float:
        """The n at which the curve reaches a score; infinity if it never does."""
        return float(_invert(self.fit, score, _FARTHEST * float(self.n.max())))

    def next(self, more: int = 100, n: int | None = None) -> dict[str, float]:
        """What `more` simulations beyond n (the largest size if None) would buy.

        Returns:
            ``"gain"`` in nats, its bootstrap ``"error"``, and the ends ``"low"`` and ``"high"`` of
            its 95 % interval.
        """
        start = float(self.n.max() if n is None else n)
        gains = _power_law(self.samples, start + more) - _power_law(self.samples, start)
        low, high = np.quantile(gains, (0.025, 0.975))
        gain = float(self(start + more) - self(start))
        return {
            "n": start, "more": float(more), "gain": gain, "error": float(gains.std()),
            "low": float(low), "high": float(high),
        }  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {k: getattr(self, k).tolist() for k in self.__dataclass_fields__}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LearningCurve:
        """Inverse of `to_dict`."""
        return cls(**{k: np.asarray(v, dtype=np.float64) for k, v in values.items()})


@dataclass(frozen=True, repr=False)
class AugmentationFactor(Brief):
    """How many reference simulations alone are worth what few of them and an emulator are.

    Args:
        n_reference: reference simulations that were used with the emulator.
        score: mean log density of held-out truths with the emulator, in nats.
        equivalent: reference simulations alone that reach this score by the learning curve;
            None if it never does within 100 times the largest size.
        factor: equivalent / n_reference, or None.
        low: lower end of the factor's 95 % interval; None if it is beyond the curve as well.
        high: upper end, or None.
        extrapolated: the equivalent number is larger than any that was trained with.
        differences: score minus that of each size, with paired errors:
            ``{"n", "difference", "error"}``.
    """

    n_reference: int
    score: float
    equivalent: float | None
    factor: float | None
    low: float | None
    high: float | None
    extrapolated: bool
    differences: list[dict[str, float]]

    @property
    def summary(self) -> str:
        """The outcome in one sentence."""
        interval = f"95 %: {_number(self.low)} to {_number(self.high)}"
        value = _number(self.factor) if self.factor is not None else "more than can be measured"
        note = ", extrapolated" if self.extrapolated else ""
        return (
            f"{self.n_reference} reference simulations and the emulator are worth "
            f"{_number(self.equivalent)} reference simulations alone: factor {value} "
            f"({interval}{note})"
        )


def learning_curve(
    n: Sequence[int] | np.ndarray,
    score: np.ndarray,
    error: np.ndarray | None = None,
    *,
    training_error: float = 0.0,
    group: np.ndarray | None = None,
    seed: int = 0,
) -> LearningCurve:
    """Fit score(n) = a - b n^-c with b >= 0.

    Args:
        n: sizes of training sets, shape (S,), two or more of them different.
        score: log densities of the same held-out truths in nats, shape (S, N); or their means,
            shape (S,).
        error: of the means, shape (S,), where only these are given.
        training_error: standard deviation of a score over trainings with other seeds, in nats; it
            widens every interval.
        group: of the held-out simulations, shape (N,).
        seed: of the bootstrap.

    Raises:
        ShapeError: if shapes disagree, a value is not finite, or there are too few sizes.
    """
    sizes = np.asarray(n, dtype=np.float64)
    mean, errors, samples = _replicates(sizes, score, error, training_error, group, seed)
    fits = np.array([_fit(sizes, row, errors) for row in samples])
    return LearningCurve(sizes, mean, errors, _fit(sizes, mean, errors), fits)


def augmentation_factor(
    n: Sequence[int] | np.ndarray,
    score: np.ndarray,
    combined: np.ndarray,
    n_reference: int,
    *,
    training_error: float = 0.0,
    group: np.ndarray | None = None,
    seed: int = 0,
) -> AugmentationFactor:
    """How many reference simulations alone give the score of few of them and an emulator.

    Args:
        n: sizes of the reference-only training sets, shape (S,).
        score: their log densities of the held-out truths, shape (S, N).
        combined: log densities of the same truths by the posterior that had the emulator and
            `n_reference` reference simulations, shape (N,).
        n_reference: of them.
        training_error: see `learning_curve`.
        group: of the held-out simulations, shape (N,).
        seed: of the bootstrap: sizes and combination are resampled together.

    Raises:
        ShapeError: if shapes disagree, a value is not finite, or there are too few sizes.
        ConfigError: for n_reference below 1.
    """
    sizes, rows = np.asarray(n, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if n_reference < 1:
        raise ConfigError("n_reference", expected="1 or more", got=f"{n_reference}",
                          fix="count the simulations that trained the emulator")  # fmt: skip
    if rows.ndim != 2 or np.shape(combined) != rows.shape[1:]:
        raise ShapeError(
            "combined", expected=f"one value per held-out simulation, shape {rows.shape[1:]}",
            got=f"shape {np.shape(combined)}", fix="score both on the same simulations",
        )  # fmt: skip
    stacked = np.concatenate([rows, np.asarray(combined, dtype=np.float64)[None]])
    with_it = np.append(sizes, sizes[-1])
    mean, errors, samples = _replicates(with_it, stacked, None, training_error, group, seed)
    limit = _FARTHEST * sizes.max()
    fits = [_fit(sizes, row[:-1], errors[:-1]) for row in samples]
    found = [_invert(f, row[-1], limit) for f, row in zip(fits, samples, strict=True)]
    point = _invert(_fit(sizes, mean[:-1], errors[:-1]), mean[-1], limit)
    # Infinity sorts last, as it should; interpolating with it would give NaN.
    low, high = np.quantile(found, (0.025, 0.975), method="nearest") / n_reference
    shifted = samples[:, -1:] - samples[:, :-1]
    return AugmentationFactor(
        n_reference, float(mean[-1]), _finite(point), _finite(point / n_reference), _finite(low),
        _finite(high), bool(point > sizes.max()),
        [
            {"n": float(size), "difference": float(mean[-1] - m), "error": float(spread)}
            for size, m, spread in zip(sizes, mean[:-1], shifted.std(0), strict=True)
        ],
    )  # fmt: skip


def _replicates(
    n: np.ndarray, score: Any, error: Any, training_error: float, group: Any, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean scores (S,), their errors (S,), and bootstrap samples of the means (R, S)."""
    values = np.asarray(score, dtype=np.float64)
    known = values.ndim == 2 or (values.ndim == 1 and np.shape(error) == values.shape)
    usable = known and len(values) == len(n) and bool(np.isfinite(values).all())
    if not usable or len(np.unique(n)) < 2 or (n < 1).any():
        raise ShapeError(
            "scores", expected="finite values (sizes, held-out simulations), or (sizes,) with "
            "their errors, for two or more sizes",
            got=f"shape {values.shape} for sizes {n.tolist()}",
            fix="score every size on the same held-out simulations",
        )  # fmt: skip
    rng = np.random.default_rng(derive(seed, _BOOTSTRAP))
    if values.ndim == 2:
        group = np.arange(values.shape[1]) if group is None else np.asarray(group)
        mean = values.mean(1)
        samples = bootstrap_means(values.T, group, rng, _RESAMPLES)
        # What all sizes share, easy or hard held-out truths, moves the curve but not its shape.
        errors = (samples - samples.mean(1, keepdims=True)).std(0)
    else:
        mean, errors = values, np.asarray(error, dtype=np.float64)
        samples = mean + errors * rng.normal(size=(_RESAMPLES, len(mean)))
    samples = samples + training_error * rng.normal(size=samples.shape)
    return mean, np.sqrt(errors**2 + training_error**2 + _LEAST_ERROR**2), samples


def _fit(n: np.ndarray, score: np.ndarray, error: np.ndarray) -> np.ndarray:
    """a, b and c of the best curve: linear least squares in (a, b) for each c."""
    weight = 1 / error**2
    x = -(n[None] ** -_EXPONENTS[:, None])
    total = weight.sum()
    x0, y0 = (x @ weight) / total, score @ weight / total
    b = ((x - x0[:, None]) * (score - y0)) @ weight / (((x - x0[:, None]) ** 2) @ weight)
    b = np.maximum(b, 0.0)
    a = y0 - b * x0
    chi2 = ((a[:, None] + b[:, None] * x - score) ** 2) @ weight
    penalty = (np.log(_EXPONENTS / _USUAL) / _SPREAD) ** 2
    best = int(np.argmin(chi2 + penalty))
    return np.array([a[best], b[best], _EXPONENTS[best]])


def _power_law(fit: np.ndarray, n: Any) -> Any:
    """Score at n for fits (3,), (R, 3) or (R, 3, 1)."""
    a, b, c = np.moveaxis(fit, 1, 0) if fit.ndim > 1 else fit
    return a - b * n**-c


def _invert(fit: np.ndarray, score: float, limit: float) -> float:
    a, b, c = fit
    if score >= a or b <= 0:
        return np.inf if score >= a else 1.0
    n = (b / (a - score)) ** (1 / c)
    return float(n) if n <= limit else np.inf


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _number(value: float | None) -> str:
    return "beyond the curve" if value is None else f"{value:.3g}"
