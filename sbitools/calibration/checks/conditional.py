"""Ranks given x: errors that come and go with x, which averages over tests cannot see.

A bias of 0.3 cos(6 m) sigma, with m the posterior mean, leaves ranks uniform, coverage right, and
no linear trend. It is found by asking whether the truth's rank follows a smooth function of what x
says: of the posterior mean of a parameter, or of a leading component of the summaries of x.

The test is exact. The rank of an exact posterior's truth, made a normal score s, is N(0, 1) and
independent of x and of the truth and its draws taken together, whatever their order. So the means
are those of draws and truth together; in the order of any input, the N scores are N independent
normal numbers, and so are their coefficients in an orthonormal basis, here of cosines. Nothing is
fitted that would have to be tried on other tests. How rough a function may be is left open: the
first 3, 6, 12 and 24 coefficients are looked at, by Bonferroni's rule, in the manner of Neyman's
smooth test with a chosen number of components.

References:
    | Data-driven version of Neyman's smooth test of fit (Ledwina 1994)
    | Nonparametric Smoothing and Lack-of-Fit Tests (Hart 1997), chapter 7
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sbitools.calibration.check import Check
from sbitools.calibration.drawing.draws import CalibrationDraws, as_draws

from .latent import WIDTH_SLOPE, basis

__all__ = ["FEWEST", "conditional"]

FEWEST = 20
"""Fewer independent tests than this have no functions to speak of."""

_ORDERS = (3, 6, 12, 24)
_MAX_COMPONENTS = 8
_SCORES = 41  # key of the seed
_BINS = 20
_FLOOR = 1e-12


@dataclass(frozen=True)
class _Pair:
    """One kind of error, and the number it may follow."""

    name: str
    label: str
    scores: np.ndarray
    order: np.ndarray
    slope: float
    p_value: float
    terms: int
    square: float
    coefficients: np.ndarray

    @property
    def effect(self) -> float:
        """Root mean square of the error over tests, without what chance adds."""
        return (max(0.0, self.square - self.terms) / len(self.scores)) ** 0.5 / self.slope


def conditional(
    draws: CalibrationDraws | np.ndarray,
    theta: np.ndarray | None = None,
    *,
    false_alarm: float = 0.01,
    seed: int | None = None,
) -> Check:
    """Do bias or width depend on x, in any smooth way?

    Half the level is for each parameter's bias as a function of its own posterior mean; the other
    half for its width as such a function, and for its bias as one of the other means and of the
    leading summaries; Bonferroni's rule within each.

    Statistic: sum of the squared coefficients of the worst pair. Effect: root mean square, over x,
    of the bias in posterior sigmas (or of the relative error of the width), without what chance
    adds. Band: where it lies for an exact posterior, with probability 1 - `false_alarm`.

    Args:
        draws: posterior draws, shape (N, L, P), or `CalibrationDraws`; N >= 20.
        theta: true parameters, shape (N, P), if draws are an array.
        false_alarm: of the check as a whole.
        seed: of scores within a rank, and of chosen members of groups.

    Raises:
        ShapeError: if shapes disagree or a value is not finite.
    """
    d = as_draws(draws, theta, seed=seed)
    first, second = _pairs(d)
    halves = [2 * len(half) * min(p.p_value for p in half) for half in (first, second)]
    p_value = float(np.clip(min(halves), _FLOOR, 1.0))
    half = (first, second)[int(np.argmin(halves))]
    worst = min(half, key=lambda p: p.p_value)
    limit = _limit(worst, false_alarm / (2 * len(half) * len(_orders(len(worst.scores)))))
    rows = [{"name": f"{p.name} with {p.label}", "effect": p.effect, "p_value": p.p_value,
             "statistic": p.square, "terms": p.terms} for p in (*first, *second)]  # fmt: skip
    return Check(
        name="conditional", kind="conditional", statistic=worst.square, p_value=p_value,
        effect=worst.effect, band=(0.0, limit), passed=p_value >= false_alarm,
        false_alarm=false_alarm, summary=_in_words(worst), note=d.note(),
        details={"parameters": rows, "names": [r["name"] for r in rows], "n_tests": d.n_tests,
                 "n_independent": len(d.members)} | _curve(worst),
    )  # fmt: skip


def _in_words(p: _Pair) -> str:
    size = "a width wrong by {:.0%} rms" if p.slope != 1 else "a bias of {:.2f} sigma rms"
    return f"{p.name} has {size.format(p.effect)} that follows {p.label}"


def _pairs(d: CalibrationDraws) -> tuple[list[_Pair], list[_Pair]]:
    """Each parameter's bias with its own mean; and the others."""
    scores, own = _rank_scores(d), d.members
    total = d.draws.sum(1, dtype=np.float64) + d.theta
    inputs = [(f"the posterior mean of {n}", total[own, i]) for i, n in enumerate(d.names)]
    widths = _width_scores(scores)
    first = [_pair(n, *inputs[i], scores[:, i], 1.0) for i, n in enumerate(d.names)]
    second = [_pair(f"width of {n}", *inputs[i], widths[:, i], WIDTH_SLOPE)
              for i, n in enumerate(d.names)]  # fmt: skip
    columns = None if d.summary is None else basis(d.summary[own])
    if columns is not None:
        inputs += [(f"component {j + 1} of the summaries", column)
                   for j, column in enumerate(columns.T[:_MAX_COMPONENTS])]  # fmt: skip
    second += [
        _pair(n, *given, scores[:, i], 1.0)
        for i, n in enumerate(d.names) for j, given in enumerate(inputs) if i != j
    ]  # fmt: skip
    return first, second


def _rank_scores(d: CalibrationDraws) -> np.ndarray:
    """Normal scores of the ranks of independent tests, at random within a rank, (n, P)."""
    from scipy.special import ndtri

    ranks = d.ranks[d.members]
    return ndtri((ranks + d.rng(_SCORES).random(ranks.shape)) / (d.n_draws + 1))


def _width_scores(scores: np.ndarray) -> np.ndarray:
    """Normal scores of the absolute values of normal numbers."""
    from scipy.special import ndtr, ndtri

    return ndtri(np.clip(2 * ndtr(-np.abs(scores)), 1e-15, 1 - 1e-15))


def _orders(n: int) -> list[int]:
    return [q for q in _ORDERS if q == _ORDERS[0] or 4 * q <= n]


def _pair(name: str, label: str, given: np.ndarray, scores: np.ndarray, slope: float) -> _Pair:
    from scipy.special import chdtrc

    order = np.argsort(given, kind="stable")
    orders = _orders(len(scores))
    coefficients = _cosines(len(scores), orders[-1]) @ scores[order]
    squares = np.cumsum(coefficients**2)[np.array(orders) - 1]
    p = chdtrc(orders, squares)
    best = int(p.argmin())
    return _Pair(
        name, label, scores, order, slope, float(np.clip(len(orders) * p[best], _FLOOR, 1.0)),
        orders[best], float(squares[best]), coefficients[: orders[best]],
    )  # fmt: skip


def _cosines(n: int, terms: int) -> np.ndarray:
    """The first cosines without the constant, orthonormal on n points, (terms, n)."""
    middle = (np.arange(n) + 0.5) / n
    return np.sqrt(2 / n) * np.cos(np.pi * np.arange(1, terms + 1)[:, None] * middle)


def _limit(p: _Pair, level: float) -> float:
    """The effect that chance exceeds with this probability."""
    from scipy.special import chdtri

    excess = max(0.0, float(chdtri(p.terms, level)) - p.terms)
    return (excess / len(p.scores)) ** 0.5 / p.slope


def _curve(p: _Pair) -> dict[str, Any]:
    """Mean score in bins of the input, with errors, and the function that was found."""
    n, bins = len(p.scores), min(_BINS, len(p.scores) // 5)
    groups = np.array_split(p.scores[p.order], bins)
    return {
        "at": (np.arange(bins) + 0.5) / bins, "mean": np.array([g.mean() for g in groups]),
        "error": np.array([len(g) ** -0.5 for g in groups]),
        "function": p.coefficients @ _cosines(n, p.terms), "xlabel": f"share of tests, in the "
        f"order of {p.label}", "ylabel": f"{p.name}: normal score of the rank",
    }  # fmt: skip
