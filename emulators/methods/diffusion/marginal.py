"""One channel of a field to numbers that are about normal, and back; chosen by what is held out.

The candidates are maps of the real line that can be inverted: nothing, a signed logarithm (asinh)
of several widths, the logarithm of the distance from a bound, the power of Yeo & Johnson (2000,
Biometrika 87, 954), and ranks. What counts is the density of the cells of held-out simulations,
if the transformed cells of each are normal with their own mean and spread: parameters move these,
and the distribution over all simulations is none that a field of one theta has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import ndtri

from .terms import choose

__all__ = ["Marginal", "fit_marginal"]

_FEWEST = 1e-3  # share of cells at 0 from which on they are a channel of their own
_TIES = 0.05  # values, to cells, below which they are taken for counts
_NODES = 201  # of a map by ranks
_BEYOND = 0.25  # of the range of transformed cells: so much farther emulated ones may lie
_WIDTHS = (1e-4, 10.0)  # of signed logarithms, in standard deviations
_GAPS = (1e-3, 10.0)  # from the extreme cell to the bound of a logarithm, in the same unit


@dataclass(frozen=True)
class Marginal:
    """An increasing map of cells, in float64.

    Args:
        kind: ``"none"``, ``"asinh"``, ``"log"``, ``"power"`` or ``"rank"``.
        center: subtracted first.
        scale: divides then: 1e-30 and 1e30 become 1.
        number: width of the signed logarithm, bound of the logarithm, or power.
        sign: -1 for a logarithm of the distance from an upper bound.
        x: nodes of ranks.
        y: their values.
        low: smallest transformed cell.
        high: largest one.
        least: below it there is no cell: 0 where none is negative.
        most: above it there is none.
        zeros: cells that are exactly 0 are a channel of their own.
    """

    kind: str
    center: float = 0.0
    scale: float = 1.0
    number: float = 1.0
    sign: float = 1.0
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    low: float = -np.inf
    high: float = np.inf
    least: float = -np.inf
    most: float = np.inf
    zeros: bool = False

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Cells to about normal ones, float64 of the same shape."""
        u = (x.astype(np.float64) - self.center) / self.scale
        if self.kind == "asinh":
            return np.arcsinh(u / self.number)
        if self.kind == "log":
            least = 1e-12 * max(1.0, abs(self.number))
            return self.sign * np.log(np.maximum(self.sign * u - self.number, least))
        if self.kind == "power":
            return _power(u, self.number)
        return _by_nodes(u, self.x, self.y) if self.kind == "rank" else u

    def inverse(self, y: np.ndarray) -> np.ndarray:
        """Inverse of `forward`, of values no farther than a little beyond those of the fit."""
        reach = _BEYOND * (self.high - self.low) if np.isfinite(self.high - self.low) else 0.0
        y = np.clip(y.astype(np.float64), self.low - reach, self.high + reach)
        if self.kind == "asinh":
            y = np.sinh(y) * self.number
        elif self.kind == "log":
            y = self.sign * (np.exp(self.sign * y) + self.number)
        elif self.kind == "power":
            y = _unpower(y, self.number)
        elif self.kind == "rank":
            y = _by_nodes(y, self.y, self.x)
        return np.clip(y * self.scale + self.center, self.least, self.most)

    def log_slope(self, x: np.ndarray) -> np.ndarray:
        """Logarithm of the derivative, without the constant of `scale`."""
        u = (x.astype(np.float64) - self.center) / self.scale
        if self.kind == "asinh":
            return -0.5 * np.log(u**2 + self.number**2)
        if self.kind == "log":
            return -np.log(np.maximum(self.sign * u - self.number, 1e-12))
        if self.kind == "power":
            p = np.where(u >= 0, self.number, 2 - self.number)
            return (p - 1) * np.log1p(np.abs(u))
        return _log_slope(u, self.x, self.y) if self.kind == "rank" else np.zeros_like(u)

    def reaching(self, x: np.ndarray) -> Marginal:
        """The same, for values as far as those of `x`."""
        shown = x[x != 0] if self.zeros else x
        ends = self.forward(np.array([shown.min(), shown.max()], dtype=np.float64))
        low, high = min(self.low, float(ends[0])), max(self.high, float(ends[1]))
        least, most = float(shown.min()), float(shown.max())
        width = most - least  # the tails of a steep map, beyond what was seen, end here
        return replace(
            self, low=low, high=high, least=0.0 if least >= 0 else least - width,
            most=0.0 if most <= 0 else most + width,
        )  # fmt: skip

    def straight(self, x: np.ndarray) -> Marginal:
        """The straight line of the same center and scale, for values as far as those of `x`."""
        return Marginal("none", self.center, self.scale, low=np.inf, high=-np.inf).reaching(x)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"x": list(self.x), "y": list(self.y)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Marginal:
        """Inverse of `to_dict`."""
        return cls(**{**values, "x": tuple(values["x"]), "y": tuple(values["y"])})


def fit_marginal(cells: np.ndarray, held_out: np.ndarray) -> Marginal:
    """The map that leaves held-out cells most nearly normal.

    Args:
        cells: of one channel and some simulations, (n, cells), float64.
        held_out: of others, (m, cells).
    """
    cells, held_out = _dithered(cells), _dithered(held_out)
    every = np.concatenate([cells.ravel(), held_out.ravel()])
    share = float((every == 0).mean())
    zeros = _FEWEST < share < 1 - _FEWEST
    shown = every[every != 0] if zeros else every
    center, scale = _size(shown)
    tried = [Marginal("none", center, scale), *_others(center, scale, shown, cells, zeros)]

    best = choose(tried, lambda candidate: _scores(candidate, held_out, zeros))
    seen = best.forward(shown)
    return replace(best, low=float(seen.min()), high=float(seen.max()), zeros=zeros)


def _dithered(x: np.ndarray) -> np.ndarray:
    """Values of which many are the same, as counts, moved by up to half their distance.

    No density is compared at single values. Zeros stay what they are.
    """
    values = np.unique(x)
    shown = x[x != 0]
    if len(values) > _TIES * max(shown.size, 1) or len(values) < 3:
        return x
    gap = float(np.diff(values).min())
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, x.shape) * gap
    return np.where(x == 0, x, x + noise)


def _size(x: np.ndarray) -> tuple[float, float]:
    """Median and standard deviation, in range; for no spread, the size itself."""
    unit = float(np.abs(x).max()) or 1.0
    y = x / unit  # squares of 1e-30 and 1e30 are out of range in other precisions
    center, scale = float(np.median(y)), float(y.std())
    if scale <= 1e-12 * max(abs(center), 1e-300):
        return float(center * unit), abs(center * unit) or 1.0
    return center * unit, scale * unit


def _others(
    center: float, scale: float, shown: np.ndarray, cells: np.ndarray, zeros: bool
) -> list[Marginal]:  # fmt: skip
    """One of every kind, the best for `cells`; bounds are beyond all that are shown."""
    u = (shown - center) / scale
    if float(u.std()) < 1e-6:
        return []

    def fitted(make: Callable[[float], Marginal], low: float, high: float) -> Marginal:
        found = minimize_scalar(
            lambda v: -_scores(make(v), cells, zeros).mean(), bounds=(low, high),
            method="bounded", options={"xatol": 0.02, "maxiter": 20},
        )  # fmt: skip
        return make(float(found.x))  # pyright: ignore[reportAttributeAccessIssue]

    def logarithm(sign: float, edge: float) -> Callable[[float], Marginal]:
        return lambda v: Marginal("log", center, scale, edge - float(np.exp(v)), sign)

    out = [Marginal("log", 0.0, scale, 0.0)] if (shown > 0).all() else []
    widths, gaps = np.log(_WIDTHS), np.log(_GAPS)
    out.append(fitted(lambda v: Marginal("asinh", center, scale, float(np.exp(v))), *widths))
    out.append(fitted(lambda v: Marginal("power", center, scale, v), 0.0, 2.0))
    out += [fitted(logarithm(s, float((s * u).min())), *gaps) for s in (1.0, -1.0)]
    known = cells[cells != 0] if zeros else cells.ravel()
    return [*out, _ranks(center, scale, (known - center) / scale)] if known.size else out


def _ranks(center: float, scale: float, u: np.ndarray) -> Marginal:
    share = np.linspace(0.5 / _NODES, 1 - 0.5 / _NODES, _NODES)
    tail = np.array([1e-3, 1e-2 / 4])  # a node farther out than the inner ones
    share = np.sort(np.concatenate([share[1:-1], tail, 1 - tail]))
    x, first = np.unique(np.quantile(u, share), return_index=True)
    y = ndtri(share)[first]
    if len(x) < 3:
        return Marginal("none", center, scale)
    return Marginal("rank", center, scale, x=tuple(x.tolist()), y=tuple(y.tolist()))


def _scores(candidate: Marginal, rows: np.ndarray, zeros: bool) -> np.ndarray:
    return np.array([_score(candidate, row[row != 0] if zeros else row) for row in rows])


def _score(candidate: Marginal, x: np.ndarray) -> float:
    """Mean log density of the cells of one simulation."""
    if len(x) < 2:
        return 0.0
    y = candidate.forward(x)
    spread = float(y.std()) + 1e-9
    return float(candidate.log_slope(x).mean() - np.log(spread))


def _power(u: np.ndarray, p: float) -> np.ndarray:
    up, down, q = np.maximum(u, 0), np.maximum(-u, 0), 2 - p
    high = np.log1p(up) if p == 0 else ((1 + up) ** p - 1) / p
    low = np.log1p(down) if q == 0 else ((1 + down) ** q - 1) / q
    return high - low


def _unpower(y: np.ndarray, p: float) -> np.ndarray:
    up, down, q = np.maximum(y, 0), np.maximum(-y, 0), 2 - p
    high = np.expm1(up) if p == 0 else (1 + p * up) ** (1 / p) - 1
    low = np.expm1(down) if q == 0 else (1 + q * down) ** (1 / q) - 1
    return high - low


def _by_nodes(u: np.ndarray, x: Any, y: Any) -> np.ndarray:
    """Piecewise linear, with the slope of the last pieces beyond them."""
    x, y = np.asarray(x), np.asarray(y)
    i = np.clip(np.searchsorted(x, u) - 1, 0, len(x) - 2)
    return y[i] + (u - x[i]) * (y[i + 1] - y[i]) / (x[i + 1] - x[i])


def _log_slope(u: np.ndarray, x: Any, y: Any) -> np.ndarray:
    x, y = np.asarray(x), np.asarray(y)
    i = np.clip(np.searchsorted(x, u) - 1, 0, len(x) - 2)
    return np.log((y[i + 1] - y[i]) / (x[i + 1] - x[i]))
