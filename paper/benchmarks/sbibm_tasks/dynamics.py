"""Two systems of differential equations: an epidemic, and predators with their prey."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.distributions import Distribution, Independent, LogNormal

from sbitools import priors

from .task import Array, Task, generators, space

__all__ = ["SIR", "LotkaVolterra"]

Rate = Callable[..., Sequence[Array] | Sequence[float]]

_RTOL, _ATOL = 1e-8, 1e-10
_RTOL_TOGETHER, _ATOL_TOGETHER = 1e-6, 1e-6  # on average over the systems
_STEPS = 100_000  # between two times, at most
_TOGETHER = 200  # systems in one call of the batched solver


def _states(rate: Rate, start: Sequence[float], times: Array, theta: Array) -> Array:
    """Solutions (n, S, T) for theta (n, P), one by one: none depends on its neighbours.

    `scipy.integrate.odeint`, the LSODA solver of ODEPACK, which needs a tenth of the time of
    `solve_ivp` for systems as small as these.
    """
    from scipy.integrate import odeint

    return np.stack([
        odeint(lambda t, y, p=p: rate(*y, *p), start, times, tfirst=True, rtol=_RTOL, atol=_ATOL,
               mxstep=_STEPS).T
        for p in theta
    ])  # fmt: skip


def _states_together(rate: Rate, start: Sequence[float], times: Array, theta: Array) -> Array:
    """As `_states`, many systems with common steps: for likelihoods, a hundred times faster."""
    from scipy.integrate import solve_ivp

    limits: dict[str, Any] = {"rtol": _RTOL_TOGETHER, "atol": _ATOL_TOGETHER}
    parts = []
    for rows in np.array_split(theta, max(1, math.ceil(len(theta) / _TOGETHER))):
        shape = (len(start), len(rows))

        def flat(t: float, y: Array, rows: Array = rows, shape: tuple = shape) -> Array:
            return np.concatenate(rate(*y.reshape(shape), *rows.T))

        y0 = np.repeat(np.asarray(start, float), len(rows))
        done = solve_ivp(flat, (times[0], times[-1]), y0, "DOP853", times, **limits)
        parts.append(done.y.reshape(*shape, -1).transpose(1, 0, 2))
    return np.concatenate(parts)


class SIR(Task):
    """Infected among 1,000 people tested on each of ten days (appendix T.9).

    A million people, one of them infected on day 0; theta are contact rate and recovery rate per
    day. The tests are on days 0, 17, ..., 153, and their numbers are binomial.
    """

    people, tested = 1e6, 1000
    days = np.arange(0.0, 154.0, 17.0)

    def __init__(self) -> None:
        self._priors = [
            priors.LogNormal(math.log(0.4), 0.5),
            priors.LogNormal(math.log(0.125), 0.2),
        ]
        super().__init__("sir", space(["beta", "gamma"], self._priors), len(self.days))

    def rate(self, s: Array, i: Array, r: Array, beta: Array, gamma: Array) -> list[Array]:
        """Time derivatives of the susceptible, infected and recovered."""
        caught, healed = beta * s * i / self.people, gamma * i
        return [-caught, caught - healed, healed]

    @property
    def _start(self) -> tuple[float, ...]:
        return (self.people - 1.0, 1.0, 0.0)

    def draw(self, theta: Array, seeds: Sequence[int]) -> Array:
        """See `Task`."""
        share = self._share(_states(self.rate, self._start, self.days, theta))
        rows = zip(generators(seeds), share, strict=True)
        return np.stack([rng.binomial(self.tested, p).astype(float) for rng, p in rows])

    def log_likelihood(self, theta: Array, x: Array) -> Array:
        """See `Task`."""
        from scipy.stats import binom

        share = self._share(_states_together(self.rate, self._start, self.days, theta))
        return binom.logpmf(np.rint(x), self.tested, share).sum(1)

    def _share(self, states: Array) -> Array:
        return np.clip(states[:, 1] / self.people, 0.0, 1.0)

    def prior(self) -> Distribution:
        """See `Task`."""
        return _log_normal_prior(self._priors)


class LotkaVolterra(Task):
    """Prey and predators at ten times, with 10 % log-normal noise (appendix T.10).

    30 of the prey and 1 predator at time 0; theta are the rates of x' = alpha x - beta x y and
    y' = -gamma y + delta x y. The times are 0, 2.1, ..., 18.9; the prey come first.
    """

    times = np.arange(10) * 2.1
    noise = 0.1
    limits = (1e-10, 1e4)

    def __init__(self) -> None:
        self._priors = [priors.LogNormal(-0.125, 0.5), priors.LogNormal(-3.0, 0.5)] * 2
        names = ["alpha", "beta", "gamma", "delta"]
        super().__init__("lotka_volterra", space(names, self._priors), 2 * len(self.times))

    def rate(self, x: Array, y: Array, a: Array, b: Array, c: Array, d: Array) -> list[Array]:
        """Time derivatives of prey and predators."""
        return [a * x - b * x * y, -c * y + d * x * y]

    def draw(self, theta: Array, seeds: Sequence[int]) -> Array:
        """See `Task`."""
        centre = self._log(_states(self.rate, (30.0, 1.0), self.times, theta))
        noise = np.stack([rng.standard_normal(centre.shape[1]) for rng in generators(seeds)])
        return np.exp(centre + self.noise * noise)

    def log_likelihood(self, theta: Array, x: Array) -> Array:
        """See `Task`; the density of log x."""
        centre = self._log(_states_together(self.rate, (30.0, 1.0), self.times, theta))
        return -0.5 * (((np.log(x) - centre) / self.noise) ** 2).sum(1)

    def _log(self, states: Array) -> Array:
        return np.log(np.clip(states.reshape(len(states), -1), *self.limits))

    def prior(self) -> Distribution:
        """See `Task`."""
        return _log_normal_prior(self._priors)


def _log_normal_prior(of: Sequence[priors.LogNormal]) -> Distribution:
    loc, scale = (torch.tensor([getattr(p, key) for p in of]) for key in ("loc", "scale"))
    return Independent(LogNormal(loc, scale), 1)
