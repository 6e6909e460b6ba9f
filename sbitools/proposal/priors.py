"""Priors that a column of parameters may have been drawn from: proposals, to be confirmed."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

__all__ = ["ColumnPrior", "propose_prior", "round_bounds", "stratified"]

_REACH = 5.0  # mean gaps between samples by which a bound may lie beyond the outermost one
_CLEAR = 1e-3  # p-value below which a column is not uniform
_FEW = 12  # distinct whole numbers that may be categories


class ColumnPrior(NamedTuple):
    """A proposal for one column.

    Attributes:
        prior: kind and arguments, as `sbitools.priors.from_dict` takes them.
        doubt: why another prior may be right, one sentence; empty if nothing speaks for that.
    """

    prior: dict[str, Any]
    doubt: str


def propose_prior(values: np.ndarray) -> ColumnPrior:
    """The uniform prior over the range of a column, and what speaks against it.

    Args:
        values: finite and not all equal, float64, (n,).
    """
    low, high = round_bounds(values)
    return ColumnPrior({"kind": "uniform", "low": low, "high": high}, _doubt(values, low, high))


def round_bounds(values: np.ndarray) -> tuple[float, float]:
    """The roundest numbers just outside of all values.

    The range of n draws from a uniform prior is short of the prior's by one mean gap at each end,
    on average; bounds of priors are round numbers. The roundest within five gaps is taken.
    """
    least, most = float(values.min()), float(values.max())
    reach = _REACH * (most - least) / max(1, len(values) - 1)
    return _roundest(least - reach, least), _roundest(most, most + reach)


def _roundest(low: float, high: float) -> float:
    """The number with the fewest digits in [low, high]; of these the middlemost."""
    if low <= 0 <= high:
        return 0.0
    size = max(abs(low), abs(high))
    for digits in range(1, 18):
        step = 10.0 ** (math.floor(math.log10(size)) + 1 - digits)
        first, last = math.ceil(low / step), math.floor(high / step)
        if first <= last:
            return float(f"{(first + last) // 2 * step:.{digits}g}")
    return low if abs(low) > abs(high) else high


def _doubt(values: np.ndarray, low: float, high: float) -> str:
    from scipy.stats import kstest

    distinct = np.unique(values)
    if len(distinct) <= _FEW and np.all(distinct == np.round(distinct)):
        return (
            f"only {len(distinct)} whole numbers occur: if they name kinds, use "
            'kind = "categorical" with probabilities'
        )
    if len(distinct) < len(values) / 2:
        return f"only {len(distinct)} distinct values occur: if they are a grid, the prior is not"
    if kstest(values, "uniform", (low, high - low)).pvalue > _CLEAR:
        return ""
    if values.min() > 0:
        first, last = round_bounds(np.log10(values))
        logs = np.log(values)
        if kstest(logs / np.log(10), "uniform", (first, last - first)).pvalue > _CLEAR:
            return (
                'its logarithm is spread evenly: kind = "log_uniform", '
                f"low = {10**first:.4g}, high = {10**last:.4g}"
            )
        if kstest((logs - logs.mean()) / logs.std(), "norm").pvalue > _CLEAR:
            return (
                f'its logarithm looks normal: kind = "log_normal", loc = {logs.mean():.4g}, '
                f"scale = {logs.std():.4g}"
            )
    if kstest((values - values.mean()) / values.std(), "norm").pvalue > _CLEAR:
        return (
            f'it looks normal: kind = "normal", loc = {values.mean():.4g}, '
            f"scale = {values.std():.4g}"
        )
    return "it is not spread evenly over this range: the prior must be another one"


def stratified(table: np.ndarray, bounds: list[tuple[float, float]]) -> bool:
    """Whether every column has exactly one value in each of n equal parts of its range.

    Independent draws never do; Latin hypercubes and Sobol sequences always.

    Args:
        table: (n, P).
        bounds: of each column.
    """
    n = len(table)
    if n < _FEW or not bounds:
        return False
    cells = [np.floor((column - low) / (high - low) * n)
             for column, (low, high) in zip(table.T, bounds, strict=True)]  # fmt: skip
    # Bounds are guesses: one in fifty strata may be missed at the edges.
    return all(len(np.unique(np.clip(c, 0, n - 1))) >= 0.98 * n for c in cells)
