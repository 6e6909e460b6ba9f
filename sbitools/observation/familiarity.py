"""Is an observation like the simulations that a posterior was trained on?

A network answers for any x, also where it has never been. `Familiarity` is a small record of
simulated x, saved with a posterior, that gives each new x an exact p-value (split conformal
inference): how far it is from the simulations, among the distances of other simulations. It looks
at what the network sees of x (its features) and at x itself, because a network may saturate and
give an x far outside the features of a common one.

References:
    | Algorithmic learning in a random world (Vovk, Gammerman & Shafer 2005), section 4.1
    | Detecting model misspecification in amortized Bayesian inference with neural networks
      (Schmitt et al. 2023, arXiv:2112.08866)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from sbitools.display.brief import Brief
from sbitools.errors import ShapeError
from sbitools.seeds import derive

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FEWEST", "Familiarity", "data_statistics", "statistic_names", "whitening"]

_SHORT = 32  # data vectors up to this length are looked at entry by entry
_MAX_ROWS = 2000  # simulations used
FEWEST = 100
_SHARES = (0.35, 0.45)  # of the rows: place and shape, then units of the distances, then ranks
_POINTS = 500  # simulations kept for nearest-neighbour distances,
_DIRECTIONS = 16  # in the directions of largest variance,
_NEIGHBOURS = 5  # to the neighbour of this number
_FAR = 1e6  # standard scores are cut here, so that a distance is finite
_TAIL = 0.1  # share of the distances that the tail is fitted to
_THICKEST = 0.65  # of that tail: thicker ones than powers make are rare (see `_location`)
_ERRORS = 2.0  # standard errors by which it may be thicker than it looks
_EDGE = 1.96  # of a normal column's 95 % range, in its standard deviation
_RATIO = 1.35  # 99 % range of a column of normal tails, in its 95 % range, and a little more
_POWERS = (0.3, 1.5)
_LAST_PLACES = 8  # a column that varies by less, in units in the last place, is constant
_SPLIT = 71  # key of the seed


def statistic_names(shape: tuple[int, ...]) -> list[str]:
    """Names of the columns of `data_statistics` for x of this shape (without the batch axis)."""
    if math.prod(shape) <= _SHORT:
        return [f"x{list(index)}" if index else "x" for index in np.ndindex(*shape)]
    return ["mean", "standard deviation", "minimum", "maximum", "roughness"]


def data_statistics(x: Tensor | np.ndarray) -> np.ndarray:
    """A few numbers that say where x lies: its entries, or five statistics of a larger field.

    Roughness is the root mean square difference of neighbours on the last axis; smoothing, pixel
    size and noise level show there.

    Args:
        x: fields, shape (B, *shape).

    Returns:
        float64, shape (B, S); names by `statistic_names`.
    """
    values = _array(x, None)
    flat = values.reshape(len(values), math.prod(values.shape[1:]))
    if flat.shape[1] <= _SHORT:
        return flat.astype(np.float64)
    if values.dtype.kind != "f":  # differences of unsigned integers would wrap around
        values, flat = values.astype(np.float64), flat.astype(np.float64)
    steps = np.diff(values, axis=-1)
    steps = steps.reshape(len(values), math.prod(steps.shape[1:]))
    with np.errstate(over="ignore", invalid="ignore"):
        columns = [
            flat.mean(1, dtype=np.float64), flat.std(1, dtype=np.float64), flat.min(1),
            flat.max(1), _rms(steps),
        ]  # fmt: skip
        return np.stack(columns, 1).astype(np.float64)


def _rms(steps: np.ndarray) -> np.ndarray:
    if not steps.shape[1]:  # the last axis has one cell
        return np.zeros(len(steps))
    return np.sqrt(np.square(steps, dtype=np.float64).mean(1))


@dataclass(frozen=True, repr=False)
class Familiarity(Brief):
    """Where simulated x lie, in features and in the data, and how far simulations stray.

    A standard score of each column uses the 95 % range of the simulations, above and below the
    median apart; beyond that range it grows with a power, below 1 where the column's tail is
    thick, so that one such column does not set the scale for all. The distance of an x is the
    largest of three, each in units of its own spread among simulations: the Mahalanobis distance
    of all columns, the distance to the fifth nearest simulation in the 16 widest directions, the
    largest single standard score.

    Attributes:
        shape: of one x, int64.
        centre: medians of the D columns (features, then data statistics).
        below: unit of a standard score below the median, (D,).
        above: unit above it, (D,).
        power: of the scores beyond the 95 % range, (D,).
        low: smallest value of each column among the simulations, (D,).
        high: largest, (D,).
        whiten: standard scores to independent coordinates, widest first, (D, D).
        points: of simulations in these coordinates, (n, R).
        units: median and spread of the three distances, (2, 3).
        distances: of simulations that nothing above was made of, ascending, (C,).
    """

    shape: np.ndarray
    centre: np.ndarray
    below: np.ndarray
    above: np.ndarray
    power: np.ndarray
    low: np.ndarray
    high: np.ndarray
    whiten: np.ndarray
    points: np.ndarray
    units: np.ndarray
    distances: np.ndarray

    @classmethod
    def fit(
        cls,
        features: Tensor | np.ndarray,
        statistics: np.ndarray,
        shape: tuple[int, ...],
        *,
        seed: int = 0,
    ) -> Familiarity:
        """Learn from simulations.

        Those held out for validation serve best: a network may treat the simulations it learnt
        from differently, and then p-values hold for those only.

        Args:
            features: of simulated x after the observation model, shape (N, F); F may be 0.
            statistics: `data_statistics` of the same x, shape (N, S).
            shape: of one x.
            seed: of the split, and of the choice of 2,000 simulations if there are more.

        Raises:
            ShapeError: if there are fewer than 100 simulations, shapes disagree, or a value is not
                finite.
        """
        names = statistic_names(shape)
        values = _columns(features, statistics, len(names))
        if len(values) < FEWEST or not np.isfinite(values).all():
            raise ShapeError(
                "simulations of Familiarity", expected=f"{FEWEST} or more, finite",
                got=f"{len(values)}, {int((~np.isfinite(values)).sum())} values not finite",
                fix="give more simulations, without those that failed",
            )  # fmt: skip
        rng = np.random.default_rng(derive(seed, _SPLIT))
        values = values[rng.permutation(len(values))[:_MAX_ROWS]]
        first, second, third = np.split(values, [int(s * len(values)) for s in _SHARES])
        columns = _location(first, len(names))
        scores = np.clip(_scores(first, *columns), -8, 8)
        whiten = whitening(scores)
        points = (scores @ whiten)[:_POINTS, :_DIRECTIONS]
        parts = {
            "shape": np.array(shape, dtype=np.int64), "low": values.min(0),
            "high": values.max(0), "whiten": whiten, "points": points.astype(np.float32),
            **dict(zip(("centre", "below", "above", "power"), columns, strict=True)),
        }  # fmt: skip
        raw = cls(**parts, units=np.array([[0.0] * 3, [1.0] * 3]), distances=np.zeros(1))
        middle, far = np.quantile(raw._parts(second), (0.5, 0.95), axis=0)
        units = np.stack([middle, np.maximum(far - middle, 1e-9)])
        scaled = cls(**parts, units=units, distances=np.zeros(1))
        return cls(**parts, units=units, distances=np.sort(scaled._distance(third)))

    def distance(self, features: Tensor | np.ndarray, statistics: np.ndarray) -> np.ndarray:
        """Distance of each x from the simulations, (B,): 0 is usual, 1 is the 95 % quantile."""
        return self._distance(self._values(features, statistics))

    def p_value(self, features: Tensor | np.ndarray, statistics: np.ndarray) -> np.ndarray:
        """Share of simulations at least as far out, each x counted as one of them, (B,).

        Exact for a single x: under the null that it is such a simulation, p <= a with probability
        a at most, for any a and any number of simulations. Never below 1 / (C + 1).
        """
        return self._rank(self.distance(features, statistics))

    def tail_probability(
        self, features: Tensor | np.ndarray, statistics: np.ndarray
    ) -> np.ndarray:
        """p-value beyond the resolution of the ranks, (B,).

        Above the 90 % quantile u of the distances: 0.1 (1 + k (s - u) / b)^(-1/k), the generalised
        Pareto law of excesses (Pickands 1975) with mean b / (1 - k), and with k two standard
        errors above that of its moments, at most 0.65 and at least one error: a tail that is
        thought too thin makes false alarms. For a warning, not for a test: it is an
        extrapolation. Measured rates at 1e-4, on normal, exponential, log-normal and Student's t
        columns (2 and 3 degrees of freedom): 0 to 1.0e-4 with 2,000 simulations, to 2.5e-4 with
        300, to 4e-4 with 120 (2e-3 for exponential ones).
        """
        s = self.distance(features, statistics)
        edge = float(np.quantile(self.distances, 1 - _TAIL))
        excess = self.distances[self.distances > edge] - edge
        mean = max(float(excess.mean()) if len(excess) else 0.0, 1e-9)
        shape = 0.5 * (1 - mean**2 / max(float(excess.var()) if len(excess) else 0.0, 1e-18))
        error = len(excess) ** -0.5
        k = min(max(shape + _ERRORS * error, error), _THICKEST)
        tail = _TAIL * (1 + k * np.maximum(s - edge, 0) / (mean * (1 - k))) ** (-1 / k)
        return np.where(s > edge, tail, self._rank(s))

    def warning(
        self, features: Tensor | np.ndarray, statistics: np.ndarray, level: float = 1e-4
    ) -> str | None:
        """What to say about a batch of x, or None if all are as simulations are.

        Args:
            features: shape (B, F).
            statistics: `data_statistics` of x, shape (B, S).
            level: probability that a batch of simulated x is warned of, by `tail_probability`,
                which says how well it is kept; Bonferroni over rows.
        """
        values = self._values(features, statistics)
        if not len(values):
            return None
        p = self.tail_probability(features, statistics)
        worst, n = int(p.argmin()), int((p * len(p) < level).sum())
        if not n:
            return None
        which = "the observation is" if len(p) == 1 else f"{n} of {len(p)} observations are"
        row = "" if len(p) == 1 else f"row {worst}: "
        exact = self._rank(self._distance(values[worst : worst + 1]))[0]
        return (
            f"{which} unlike the simulations this posterior was trained on ({row}p <= {exact:.2g},"
            f" extrapolated {p[worst]:.0e}): {'; '.join(self._outside(values[worst])[:4])}. "
            "Its draws may mean nothing: check unit, mask, noise and content of x"
        )

    def outside(self, features: Tensor | np.ndarray, statistics: np.ndarray) -> list[list[str]]:
        """For each x, what is outside the simulations' range, farthest first."""
        return [self._outside(row) for row in self._values(features, statistics)]

    def _outside(self, row: np.ndarray) -> list[str]:
        names = statistic_names(tuple(self.shape.tolist()))
        labels = [f"feature {i}" for i in range(len(row) - len(names))] + names
        score = np.abs(self._scores(row[None])[0])
        # What a user can look at first: x itself before what a network makes of it.
        order = sorted(np.flatnonzero(~((row >= self.low) & (row <= self.high))).tolist(),
                       key=lambda i: (labels[i].startswith("feature"), -score[i]))  # fmt: skip
        found = [
            f"{labels[i]} is {row[i]:.4g}, simulated {self.low[i]:.4g} to {self.high[i]:.4g}"
            for i in order
        ]
        return found or ["each number is in its simulated range, but not their combination"]

    def to_tensors(self) -> dict[str, Tensor]:
        """The record as tensors, for a checkpoint."""
        import torch

        return {f.name: torch.from_numpy(np.array(getattr(self, f.name))) for f in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Familiarity:
        """Inverse of `to_tensors`.

        Raises:
            ShapeError: if an array is missing, foreign, or of another size.
        """
        wanted = [f.name for f in fields(cls)]
        if set(tensors) != set(wanted):
            raise _foreign(f"the arrays {wanted}", f"{sorted(tensors)}")
        arrays = {name: tensors[name].detach().cpu().numpy() for name in wanted}
        n, r = len(arrays["centre"]), arrays["points"].shape[-1]
        sizes = {
            **dict.fromkeys(("centre", "below", "above", "power", "low", "high"), (n,)),
            "whiten": (n, n), "units": (2, 3), "points": (len(arrays["points"]), r),
        }  # fmt: skip
        for name, size in sizes.items():
            if arrays[name].shape != size or not np.isfinite(arrays[name]).all():
                raise _foreign(f"{name} of shape {size}, finite", f"{arrays[name].shape}")
        return cls(**arrays)

    def _values(self, features: Tensor | np.ndarray, statistics: np.ndarray) -> np.ndarray:
        names = statistic_names(tuple(self.shape.tolist()))
        values = _columns(features, statistics, len(names))
        if values.shape[1] != len(self.centre):
            raise ShapeError(
                "features", expected=f"{len(self.centre) - len(names)} columns",
                got=f"{values.shape[1] - len(names)}", fix="use the posterior this was fitted to",
            )  # fmt: skip
        return values

    def _scores(self, values: np.ndarray) -> np.ndarray:
        return _scores(values, self.centre, self.below, self.above, self.power)

    def _parts(self, values: np.ndarray) -> np.ndarray:
        """The three distances, (B, 3)."""
        from scipy.spatial.distance import cdist

        scores = self._scores(values)
        w = scores @ self.whiten
        near = cdist(w[:, : self.points.shape[1]], self.points)
        k = min(_NEIGHBOURS, near.shape[1]) - 1
        near = np.partition(near, k, axis=1)[:, k]
        return np.stack([np.linalg.norm(w, axis=1), near, np.abs(scores).max(1)], 1)

    def _distance(self, values: np.ndarray) -> np.ndarray:
        if not len(values):
            return np.empty(0)
        return ((self._parts(values) - self.units[0]) / self.units[1]).max(1)

    def _rank(self, s: np.ndarray) -> np.ndarray:
        n = len(self.distances)
        return (1 + n - np.searchsorted(self.distances, s, side="left")) / (n + 1)


def _foreign(expected: str, got: str) -> ShapeError:
    return ShapeError("Familiarity", expected=expected, got=got, fix="fit it again")


def _array(values: Any, dtype: Any = np.float64) -> np.ndarray:
    detach = getattr(values, "detach", None)
    return np.asarray(values if detach is None else detach().cpu(), dtype=dtype)


def _columns(features: Any, statistics: Any, n_statistics: int) -> np.ndarray:
    first, second = _array(features), _array(statistics)
    if first.ndim != 2 or second.shape != (len(first), n_statistics):
        raise ShapeError(
            "features and statistics", expected=f"shapes (B, F) and (B, {n_statistics})",
            got=f"{first.shape} and {second.shape}", fix="compute both of the same x",
        )  # fmt: skip
    return np.concatenate([first, second], axis=1)


def _location(
    values: np.ndarray, n_statistics: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Median, the units below and above it (1 sd for a normal column), and the power.

    The last `n_statistics` columns are in the unit of x.
    """
    low, centre, high = np.quantile(values, (0.025, 0.5, 0.975), axis=0)
    deviation = (values - values[0]).std(0)  # of a constant exactly 0
    spread = np.maximum((high - low) / (2 * _EDGE), deviation * 0.1)
    varies = spread > _LAST_PLACES * np.finfo(np.float64).eps * np.abs(centre)
    # A constant column (a mask's fill) has no unit: a thousandth of that of the columns that have
    # one, above the rounding of float32. Nothing here depends on unit or zero point of x.
    least = np.finfo(np.float32).eps * _LAST_PLACES * np.abs(centre)
    cut = len(centre) - n_statistics
    for part in (slice(cut), slice(cut, None)):
        known = spread[part][varies[part]]
        typical = np.median(known) if len(known) else 1.0
        least[part] = np.maximum(least[part], 1e-3 * typical)
    least = np.where(varies, 0.1 * spread, least)
    below, above = np.maximum([centre - low, high - centre], _EDGE * least) / _EDGE
    far = np.abs(_scores(values, centre, below, above, np.ones(len(centre))))
    ratio = np.divide(*np.maximum(np.quantile(far, (0.99, 0.95), axis=0), 1e-9))
    power = np.log(_RATIO) / np.log(np.maximum(ratio, 1.01))
    return centre, below, above, power.clip(*_POWERS)


def _scores(
    values: np.ndarray,
    centre: np.ndarray,
    below: np.ndarray,
    above: np.ndarray,
    power: np.ndarray,
) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        z = (values - centre) / np.where(values > centre, above, below)
    z = np.nan_to_num(z, nan=_FAR, posinf=_FAR, neginf=-_FAR).clip(-_FAR, _FAR)
    beyond = np.maximum(np.abs(z) / _EDGE, 1.0)
    return z * beyond ** (power - 1)


def whitening(scores: np.ndarray) -> np.ndarray:
    """Columns are directions, widest first; the covariance is shrunk to its diagonal mean.

    Shrinkage: "A well-conditioned estimator for large-dimensional covariance matrices" (Ledoit &
    Wolf 2004), equation 14.
    """
    n, d = scores.shape
    centred = scores - scores.mean(0)
    covariance = centred.T @ centred / n
    mean = np.trace(covariance) / d
    spread = float(((covariance - mean * np.eye(d)) ** 2).sum())
    noise = float((np.square(centred).sum(1) ** 2).sum() - n * (covariance**2).sum())
    weight = min(1.0, noise / n**2 / spread) if spread > 0 else 1.0
    shrunk = (1 - weight) * covariance + weight * mean * np.eye(d)
    size, axes = np.linalg.eigh(shrunk)
    size, axes = size[::-1], axes[:, ::-1]
    return axes / np.sqrt(np.maximum(size, 1e-6 * max(mean, 1e-12)))
