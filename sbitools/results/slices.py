"""Conditional posteriors: the density of one or two parameters where all others are known.

p(free | fixed, x) is the joint density along a slice, divided by its integral over the slice,
which is taken on a grid. Grids are even in unconstrained u, where densities fall off at every end,
and close in on where the mass is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbitools.display.brief import Brief
from sbitools.errors import PosteriorError
from sbitools.gate.plain import real, whole
from sbitools.parameters import Parameter, ParameterSpace

from .asked import AskedPosterior, as_batch

__all__ = ["ConditionalDensity", "conditional"]

_MOST_FREE = 2
_POINTS = {1: 513, 2: 101}  # of a grid, along each axis
_ENDS = 8.2  # of u: beyond, the priors have no mass that float64 could tell
# Nats below the highest: what is left out of a grid holds less than 1e-7 of a normal's mass.
_DEEP = 18.0
_ZOOMS = 12


@dataclass(frozen=True, repr=False)
class ConditionalDensity(Brief):
    """The density of one or two parameters, all others fixed, on a grid for each observation.

    Args:
        parameters: the free ones.
        fixed: values of the others, by name.
        grid: for each free parameter its values, ascending, not evenly spaced in theta, (B, G).
        density: in the units of the free parameters, (B, G) or (B, G, G); its integral is 1.
        mass: probability of each grid point, the same shape; sums to 1.

    For one field, arrays have no axis B.
    """

    parameters: ParameterSpace
    fixed: dict[str, float]
    grid: tuple[np.ndarray, ...]
    density: np.ndarray
    mass: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Of each free parameter, (B, F)."""
        return np.stack([self._expected(i, g) for i, g in enumerate(self.grid)], -1)

    @property
    def sd(self) -> np.ndarray:
        """Standard deviations, (B, F)."""
        centre = [self._expected(i, g)[..., None] for i, g in enumerate(self.grid)]
        square = [self._expected(i, (g - c) ** 2)
                  for i, (g, c) in enumerate(zip(self.grid, centre, strict=True))]  # fmt: skip
        return np.sqrt(np.stack(square, -1))

    def _expected(self, axis: int, values: np.ndarray) -> np.ndarray:
        others = tuple(range(self.mass.ndim - len(self.grid), self.mass.ndim))
        others = tuple(a for i, a in enumerate(others) if i != axis)
        return (self.mass.sum(others) * values).sum(-1)


def conditional(
    posterior: AskedPosterior, x: object, fixed: Mapping[str, Any], *, points: int | None = None
) -> ConditionalDensity:
    """The density of one or two parameters where all others are fixed, normalised numerically.

    Args:
        posterior: that has a density, up to a constant for each x.
        x: observed fields (B, *shape), or one field.
        fixed: value by name, in the parameters' units; of a categorical parameter its name or its
            code. All but one or two parameters.
        points: of the grid along each axis; 513 for one parameter and 101 for two if None.

    Raises:
        ObservationError: if x does not fit.
        PosteriorError: for names that are not parameters, values outside the prior, more than two
            free parameters or none, a free categorical parameter, and slices without density.
    """
    space = posterior.parameters
    values, free = _checked(space, fixed)
    count = _POINTS[len(free)] if points is None else points
    count = whole(count, "points of conditional", least=11, most=4001, error=PosteriorError)
    fields, alone = as_batch(posterior, x)
    found = []
    for b in range(len(fields)):
        one = _Slice(posterior, fields[b : b + 1], values, free, count)
        one.close_in(b)
        found.append(one.result())
    grids = tuple(np.stack([f[0][i] for f in found]) for i in range(len(free)))
    density, mass = (np.stack([f[i] for f in found]) for i in (1, 2))
    if alone:
        grids, density, mass = tuple(g[0] for g in grids), density[0], mass[0]
    kept = ParameterSpace([space[i] for i in free])
    return ConditionalDensity(kept, dict(zip(fixed, values[_columns(space, fixed)].tolist(),
                                             strict=True)), grids, density, mass)  # fmt: skip


def _columns(space: ParameterSpace, fixed: Mapping[str, Any]) -> list[int]:
    return [space.names.index(name) for name in fixed]


def _checked(space: ParameterSpace, fixed: Any) -> tuple[np.ndarray, list[int]]:
    """Theta (P,) with the fixed values, NaN elsewhere, and the columns that are free."""
    names = space.names
    unknown = [k for k in fixed if k not in names] if isinstance(fixed, Mapping) else [fixed]
    if unknown:
        raise PosteriorError(
            "fixed parameters", expected=f"values by name, out of {names}", got=f"{unknown}",
            fix=f'for example {{"{names[0]}": 0.3}}' if names else "name parameters",
        )  # fmt: skip
    free = [i for i, name in enumerate(names) if name not in fixed]
    if not 1 <= len(free) <= _MOST_FREE:
        raise PosteriorError(
            "free parameters", expected="one or two", got=f"{[names[i] for i in free]}",
            fix="fix all parameters but one or two; marginal densities are in plot and summary",
        )  # fmt: skip
    categorical = [names[i] for i in free if space[i].categories]
    if categorical:
        raise PosteriorError(
            "free parameters", expected="continuous ones", got=f"categorical {categorical}",
            fix="fix them; posterior.probabilities has those of categories",
        )  # fmt: skip
    values = np.full(len(names), np.nan)
    for name, value in fixed.items():
        values[names.index(name)] = _value(space[names.index(name)], value)
    return values, free


def _value(p: Parameter, value: Any) -> float:
    what = f"fixed {p.name}"
    if p.categories and isinstance(value, str) and value in p.categories:
        return float(p.categories.index(value))
    number = real(value, what, error=PosteriorError)
    prior: Any = p.prior
    if not bool(prior.contains(torch.tensor(number, dtype=torch.float64))):
        raise PosteriorError(
            what, expected=f"a value inside {p.categories or prior}", got=f"{number:g}",
            fix="there is no density outside the prior",
        )  # fmt: skip
    return number


class _Slice:
    """The slice of one observation, and the grid on it."""

    def __init__(
        self, posterior: AskedPosterior, x: Tensor, values: np.ndarray, free: list[int], count: int
    ) -> None:
        self.posterior, self.x, self.values, self.free = posterior, x, values, free
        self.space, self.count = posterior.parameters, count
        reaches = np.array([self._ends(self.space[i].prior) for i in free])
        self.low, self.high = reaches[:, 0], reaches[:, 1]

    @staticmethod
    def _ends(prior: Any) -> tuple[float, float]:
        low, high = prior.reach()
        return max(low, -_ENDS), min(high, _ENDS)

    def _axes(self) -> list[np.ndarray]:
        pairs = zip(self.low, self.high, strict=True)
        return [np.linspace(low, high, self.count) for low, high in pairs]

    def _theta(self, axes: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Theta (G, P) of all points of a grid, and log |du/dtheta| of the free columns (G,)."""
        columns = []
        priors: list[Any] = [self.space[i].prior for i in self.free]
        for prior, axis in zip(priors, np.meshgrid(*axes, indexing="ij"), strict=True):
            u = torch.from_numpy(axis.reshape(-1).copy())
            theta = prior.from_unconstrained(u)
            columns.append((theta, prior.log_prob(theta) - prior.log_prob_unconstrained(u)))
        full = torch.from_numpy(self.values).repeat(len(columns[0][0]), 1)
        for i, (theta, _) in zip(self.free, columns, strict=True):
            full[:, i] = theta
        return full, torch.stack([slope for _, slope in columns]).sum(0)

    def _log_density(self, axes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Log density of u on a grid, up to a constant, and log |du/dtheta|, each (G, ...)."""
        theta, slope = self._theta(axes)
        value = torch.as_tensor(self.posterior.log_prob(theta[None], self.x))[0].cpu().double()
        value = (value - slope).numpy().reshape([len(a) for a in axes])
        return np.where(np.isfinite(value), value, -np.inf), slope.numpy().reshape(value.shape)

    def close_in(self, row: int) -> None:
        """Shrink the grid, step by step, to where the density is."""
        for _ in range(_ZOOMS):
            axes = self._axes()
            value, _ = self._log_density(axes)
            if np.isneginf(value).all():
                raise PosteriorError(
                    "conditional", expected="density somewhere on the slice",
                    got=f"none for observation {row}", fix="fix values that the posterior allows",
                )  # fmt: skip
            before = self.high - self.low
            for i, axis in enumerate(axes):
                others = tuple(j for j in range(value.ndim) if j != i)
                high = np.flatnonzero(value.max(others) > value.max() - _DEEP)
                self.low[i] = axis[max(high[0] - 1, 0)]
                self.high[i] = axis[min(high[-1] + 1, len(axis) - 1)]
            if np.all(self.high - self.low > 0.7 * before):
                break

    def result(self) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """Values of theta along each axis, density in theta, and mass."""
        axes = self._axes()
        value, slope = self._log_density(axes)
        mass = np.exp(value - value.max())
        # Every end is 18 nats down, or where u ends: the sum is the trapezoidal rule.
        cell = float(np.prod([a[1] - a[0] for a in axes]))
        density = np.exp(value + slope - value.max() - np.log(mass.sum() * cell))
        priors: list[Any] = [self.space[i].prior for i in self.free]
        grid = [p.from_unconstrained(torch.from_numpy(a)).numpy()
                for p, a in zip(priors, axes, strict=True)]  # fmt: skip
        return grid, density, mass / mass.sum()
