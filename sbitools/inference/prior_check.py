"""Do the simulations' theta come from the stated prior? A posterior is that of theta's own.

Each parameter is tested by itself, on F(theta), uniform in [0, 1] for draws of the prior; each
pair for correlation; and what all of them cover together. Members of a joint prior are tested on
Phi(u) instead, which is uniform and independent of the others if the joint prior is right. Only
what draws of the prior never do is told of, with a false-alarm rate below 1e-6 for each parameter;
points that are more even than random ones (Sobol, Latin hypercube) are no reason.

References:
    | The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality (Massart 1990)
    | Statistical methods for research workers (Fisher 1932): one p-value of several
"""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch

from sbitools.errors import PriorMismatchWarning
from sbitools.parameters import Parameter, ParameterSpace
from sbitools.priors.base import ndtr

__all__ = ["prior_mismatch", "simulated_ranges", "warn_of_prior"]

_LEVEL = 1e-6
_TESTS = 6  # of each parameter: shape, range (an end, both, of all), far values, correlations
_FEWEST = 10  # simulations, to say that theta never changes, or comes again
# Of the simulations: theta that were rounded, in a text or to float32, repeat now and then.
_NEW = 0.9


def warn_of_prior(store: Any, indices: np.ndarray | None, of: str = "the store") -> None:
    """Warn if the planned theta of a store, or of the simulations chosen, are not the prior's.

    Planned ones: what failed or was rejected belongs to the prior's draws.

    Args:
        store: to train on.
        indices: simulations of it; all if None.
        of: what the warning calls the store.
    """
    if store.design == "truncated":  # rounds: within their region they are
        return
    rows = slice(None) if indices is None else indices
    theta, groups = np.asarray(store.theta, dtype=np.float64)[rows], np.asarray(store.groups)[rows]
    found = prior_mismatch(store.parameters, theta, groups)
    if found:
        warnings.warn(
            f"theta of {of} do not follow its stated prior: {'; '.join(found[:4])}. The "
            "posterior will be that of the prior they were drawn from: state that one in the "
            "store's parameters, or simulate with theta of the prior",
            PriorMismatchWarning, stacklevel=3,
        )  # fmt: skip


def prior_mismatch(
    space: ParameterSpace, theta: np.ndarray, groups: np.ndarray | None = None
) -> list[str]:
    """What is wrong with theta (n, P) as draws of a prior, in words; empty if nothing is.

    Args:
        space: of all P columns.
        theta: of simulations.
        groups: of simulations, (n,): members of a group may share their theta; each is a group of
            its own if None.
    """
    # Simulations that repeat a theta say nothing new of where theta come from.
    if len(theta) < 2 or not len(space):
        return []
    once = any(len(np.unique(column)) == len(column) for column in theta.T)
    rows = theta if once else np.unique(theta, axis=0)
    level, scores = _LEVEL / _TESTS, {}
    found = [] if once else _repeats(space, theta, groups)
    for parameter, column, score in zip(space, rows.T, _scores(space, rows), strict=True):
        if len(theta) >= _FEWEST and (column == column[0]).all() and not parameter.categories:
            found.append(f"{parameter.name} is {column[0]:g} in every simulation")
            continue
        text = None
        if not parameter.categories:
            text = _range(score, column, level)
            scores[score.name] = score.p
        text = text or _shape(score.name, score.p, level, bool(parameter.categories))
        found += [text] if text else []
    if not found and (text := _range_of_all(scores, level)):
        found.append(text)
    return found + _correlations(scores, level)


def simulated_ranges(space: ParameterSpace, theta: np.ndarray) -> dict[str, list[float]]:
    """Smallest and largest theta of each continuous parameter, by name."""
    return {
        p.name: [float(c.min()), float(c.max())]
        for p, c in zip(space, theta.T, strict=True) if len(c) and not p.categories
    }  # fmt: skip


def _repeats(space: ParameterSpace, theta: np.ndarray, groups: np.ndarray | None) -> list[str]:
    """Continuous theta that come again: draws never do."""
    free = theta[:, [not p.categories for p in space]]
    if not free.shape[1]:
        return []
    distinct, which = np.unique(free, axis=0, return_inverse=True)
    members = np.arange(len(theta)) if groups is None else groups
    # A theta counts once in each group that has it.
    drawn = len(np.unique(np.stack([members, which.reshape(-1)]), axis=1).T)
    if drawn < _FEWEST or len(distinct) == 1 or len(distinct) >= _NEW * drawn:
        return []
    of = f"{drawn} simulations" if drawn == len(theta) else f"{drawn} groups of simulations"
    return [f"{len(distinct)} different theta in {of}, where draws of a prior never repeat"]


class _Score(NamedTuple):
    """Numbers that are uniform for draws of the prior, and whether u has far ends."""

    name: str
    p: np.ndarray
    reach: np.ndarray


def _scores(space: ParameterSpace, theta: np.ndarray) -> list[_Score]:
    """Of each column of theta (n, P)."""
    found = [_score(p, column) for p, column in zip(space, theta.T, strict=True)]
    for prior, columns in space.blocks:
        u = prior.to_unconstrained(torch.from_numpy(np.ascontiguousarray(theta[:, columns])))
        for c, p, reach in zip(columns, ndtr(u).T.numpy(), prior.reach(), strict=True):
            found[c] = _Score(f"{space[c].name} in {prior.title}", p, np.isfinite(reach))
    return found


def _score(parameter: Parameter, column: np.ndarray) -> _Score:
    prior: Any = parameter.prior
    reach = np.isfinite(prior.reach())  # at an end of a support there may be points, of grids
    if parameter.categories:
        p = np.cumsum(prior.probabilities)[column.astype(np.int64)]
    else:
        p = prior.cdf(torch.from_numpy(np.ascontiguousarray(column))).numpy()
    return _Score(parameter.name, p, reach)


def _shape(name: str, p: np.ndarray, level: float, discrete: bool) -> str | None:
    """Largest difference of the distribution functions, by Massart's bound."""
    n, p = len(p), np.sort(p)
    above = np.arange(1, n + 1) / n
    if discrete:  # right of each code
        last = np.append(np.diff(p) > 0, True)
        at, high, low = p[last], (above - p)[last], (p - above)[last]
    else:
        high, low, at = above - p, p - (above - 1 / n), p
    more, i = (high, int(high.argmax())) if high.max() >= low.max() else (low, int(low.argmax()))
    if 2 * math.exp(-2 * n * float(more[i]) ** 2) >= level:
        return None
    share = at[i] + (high[i] if more is high else -low[i])
    return f"{100 * share:.0f} % of {name} lie where the prior has its lowest {100 * at[i]:.0f} %"


def _range(score: _Score, column: np.ndarray, level: float) -> str | None:
    """Ends of the prior where there is nothing, and values where it has no mass."""
    p, name = score.p, score.name
    n, low, high = len(p), float(p.min()), float(p.max())
    gap = max(low, 1 - high)
    if gap < 1 and min(2 * math.exp(n * math.log1p(-gap)), _span_probability(p)) < level:
        return f"theta covers {100 * (high - low):.2g} % of the prior of {name}"
    far = min(low if score.reach[0] else 1.0, 1 - high if score.reach[1] else 1.0)
    if 2 * n * far < level:
        value = column[p.argmin() if low <= 1 - high else p.argmax()]
        return f"{name} = {value:g} is where the prior has none of its mass"
    return None


def _span_probability(p: np.ndarray) -> float:
    """Probability that n uniform numbers span as little: their span is Beta(n - 1, 2)."""
    n, span = len(p), float(p.max() - p.min())
    return span ** (n - 1) * (n - (n - 1) * span)


def _range_of_all(scores: dict[str, np.ndarray], level: float) -> str | None:
    """Every parameter's span a little too small: Fisher's sum of their log probabilities."""
    from scipy.stats import chi2

    spans = {name: _span_probability(p) for name, p in scores.items()}
    if len(spans) < 2 or min(spans.values()) <= 0:
        return None
    if chi2.sf(-2 * sum(map(math.log, spans.values())), 2 * len(spans)) >= level:
        return None
    least = sorted(spans, key=lambda name: spans[name])[:8]
    covered = [f"{100 * float(np.ptp(scores[k])):.3g} % of {k}" for k in least]
    return f"theta covers too little of the prior: {', '.join(covered)}"


def _correlations(scores: dict[str, np.ndarray], level: float) -> list[str]:
    """Pairs of parameters that depend on each other, by the correlation of normal scores."""
    from scipy.special import ndtri, stdtr

    names, n = list(scores), len(next(iter(scores.values()), ()))
    if len(names) < 2 or n < _FEWEST:
        return []
    z = ndtri(np.clip(np.stack([scores[k] for k in names]), 1e-15, 1 - 1e-15))
    r = np.clip(np.corrcoef(z), -1 + 1e-12, 1 - 1e-12)
    t = np.abs(r) * np.sqrt((n - 2) / (1 - r**2))
    p = 2 * stdtr(n - 2, -t)
    return [
        f"{names[i]} and {names[j]} are correlated (r = {r[i, j]:+.2f})"
        for i, j in zip(*np.triu_indices(len(names), 1), strict=True)
        if p[i, j] < level / (len(names) - 1)
    ]  # fmt: skip
