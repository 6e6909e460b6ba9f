"""How the closed form of a data vector is fitted: first its maps, by what they predict."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .coordinates import Coordinates
from .entries import Entries
from .modes import Modes
from .response import Polynomial, Response
from .shape import Shape
from .shrinkage import Regression, choose_correlation
from .smoothing import Smoother, neighbours

__all__ = ["SPREAD_DEGREE", "Places", "fit_response", "folds"]

SPREAD_DEGREE = 2
_FOLDS = 4
_ROUNDS, _STEPS = 2, 4  # of mean and spread in turn, and within the fit of a spread
_FAR = 6.0  # of e^2 / s^2 in one step of the fit of a spread
_LOGS = (-7.0, 3.0)
_WEIGHTS = (-3.0, 3.0)  # logarithms
_TRIED = 3000  # simulations by which maps are chosen


class Places(NamedTuple):
    """Where the entries that vary lie: `at` (n,) of the flattened vector, its last axis."""

    at: Tensor
    length: int


class _Told(NamedTuple):
    """What simulations are told from: coordinates, and their numbers (N, Q)."""

    coordinates: Coordinates
    c: Tensor

    def some(self, rows: Tensor | slice) -> _Told:
        return _Told(self.coordinates, self.c[rows])


def folds(group: Tensor) -> Tensor:
    """The fold of each simulation: members of a group are in one."""
    number = torch.unique(group, return_inverse=True)[1]
    return number % min(_FOLDS, max(2, int(number.max()) + 1))


@torch.no_grad()
def fit_response(
    x: Tensor, numbers: list[tuple[Coordinates, Tensor]], group: Tensor, places: Places
) -> tuple[Coordinates, Response]:
    """The response whose maps predict held-out simulations best, fitted to all of them.

    Args:
        x: simulations (N, n) of entries that vary, float64.
        numbers: possible coordinates of theta, and their numbers (N, Q).
        group: of each simulation, (N,).
        places: of the entries.
    """
    few = slice(None, None, -(-len(x) // _TRIED))
    fold = folds(group)
    told, kind = _chosen(x[few], [_Told(*n).some(few) for n in numbers], fold[few], places)
    told = next(_Told(*n) for n in numbers if n[0] == told.coordinates)
    response = _regressed(Entries.fit(x, kind), x, told, places, fold)
    e = response.standard(x, told.c)
    response.shape = _shape(e, fold)
    some = slice(None, None, -(-len(x) // _TRIED))
    z = response.shape.normal(e)[some]
    response.factor.copy_(torch.linalg.cholesky(choose_correlation(z, fold[some])))
    return told.coordinates, response


def _chosen(
    x: Tensor, possible: list[_Told], fold: Tensor, places: Places
) -> tuple[_Told, Tensor]:  # fmt: skip
    """The coordinates and kinds of entries (n,) that predict best.

    Entries are of one kind, but those that are clearly better otherwise.
    """
    kinds: list[Tensor] = []
    for kind in Entries.possible(x):
        if not any(torch.equal(kind, other) for other in kinds):
            kinds.append(kind)
    if len(kinds) * len(possible) == 1:
        return possible[0], kinds[0]
    every = [[_predicted(x, told, k, fold, places) for k in kinds] for told in possible]
    best = max(range(len(possible)), key=lambda i: max(float(s.sum()) for s in every[i]))
    scores = every[best]
    first = max(range(len(kinds)), key=lambda i: float(scores[i].sum()))
    kind, value = kinds[first], scores[first]
    for other, score in zip(kinds, scores, strict=True):
        gain = score - value
        clear = gain.mean(0) > 4 * gain.std(0) / len(x) ** 0.5
        kind, value = torch.where(clear, other, kind), torch.where(clear, score, value)
    return possible[best], kind


def _predicted(x: Tensor, told: _Told, kind: Tensor, fold: Tensor, places: Places) -> Tensor:
    """Log density (N, n) of entries of held-out simulations."""
    out = torch.empty_like(x)
    for k in fold.unique().tolist():
        held = fold == k
        response = _regressed(Entries.fit(x[~held], kind), x[~held], told.some(~held), places)
        response.shape = Shape.fit(response.standard(x[~held], told.c[~held]), own=False)
        out[held] = response.marginals(x[held], told.c[held])
    return out


def _shape(e: Tensor, fold: Tensor) -> Shape:
    """One shape for all entries, or each its own if that predicts better."""
    gain = 0.0
    for k in fold.unique().tolist():
        held = fold == k
        common, own = (Shape.fit(e[~held], own=which) for which in (False, True))
        gain += float((own.log_density(e[held]) - common.log_density(e[held])).sum())
    return Shape.fit(e, own=gain > 0)


def _regressed(
    entries: Entries, x: Tensor, told: _Told, places: Places, fold: Tensor | None = None
) -> Response:
    """Mean and spread: by polynomials alone, or the mean by processes if there are folds (N,)."""
    coordinates, c = told
    y, a, terms = entries(x), coordinates.multiplied(c), coordinates.terms
    spread = Polynomial(coordinates, SPREAD_DEGREE, y.shape[1])
    polynomial = Polynomial(coordinates, len(terms), y.shape[1])
    bends = neighbours(*places, entries.kind)
    # Curves are smooth in the units of the entries, and ratios of spreads whatever the unit.
    scale = entries.scale
    curves, ratios = Smoother(bends, scale), Smoother(bends, torch.ones_like(scale))
    weight = torch.ones(len(y), dtype=y.dtype)
    b = a[:, : sum(spread.terms)]
    plain, mean = Regression(b, spread.terms, weight, ratios), polynomial
    for i in range(_ROUNDS):
        regression = Regression(a, terms, weight, curves)
        if fold is not None and i == _ROUNDS - 1:
            mean, beyond = Modes.fit(regression, a, c, y, weight, fold)
            e = y - mean(c)
            # Fitted residuals are too small, predicted ones too large: of their product, neither.
            e = e * (beyond.square().mean(0) / e.square().mean(0).clamp(min=1e-300)) ** 0.25
        else:
            polynomial.set(*regression.fit(y))
            e = y - polynomial(c)
        weights, constant = _spread(e, b, plain)
        # So are spreads themselves; each is known to this part of itself.
        noise = torch.full_like(scale, (2 * len(y)) ** -0.5)
        smooth = ratios((constant + scale.log())[None], noise)[0]
        spread.set(weights, smooth - scale.log())
        logs = spread(c)
        weight = (-2 * (logs - logs.mean(0)).mean(1)).clamp(*_WEIGHTS).exp()
    response = Response(y.shape[1], mean, spread)
    response.entries = entries
    return response


def _spread(e: Tensor, b: Tensor, regression: Regression) -> tuple[Tensor, Tensor]:
    """Coefficients and constants of ln s for residuals e (N, n), by Fisher scoring."""
    const = 0.5 * e.square().mean(0).clamp(min=1e-12).log()
    u = torch.zeros(b.shape[1], e.shape[1], dtype=e.dtype)
    for _ in range(_STEPS):
        logs = (const + b @ u).clamp(*_LOGS)
        excess = ((e / logs.exp()) ** 2).clamp(max=_FAR)
        # Cut at `_FAR`, its mean is not 1; the constant is set below.
        working = logs + 0.5 * (excess / excess.mean(0).clamp(min=1e-12) - 1)
        u, const = regression.fit(working)
        const = const + 0.5 * ((e / (const + b @ u).exp()) ** 2).mean(0).clamp(min=1e-12).log()
    return u, const
