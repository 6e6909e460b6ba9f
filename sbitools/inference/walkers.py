"""Ensembles of emcee walkers for many observations at once, in unconstrained coordinates.

`emcee` (Foreman-Mackey et al. 2013, arXiv:1202.3665) explores one target at a time, and a network
is asked most cheaply about thousands of rows at a time. So one emcee sampler holds the walkers of
all observations of a block, in separate ensembles, and one emcee move proposes for all of them:
within its own ensemble, each walker takes a differential-evolution step (ter Braak 2006) or a
snooker step (ter Braak & Vrugt 2008), which jump between modes without tuning.

Walkers start as draws of the prior that are brought to the posterior by sequential Monte Carlo:
the likelihood is switched on by degrees, with resampling (Del Moral et al. 2006), separately in
each ensemble, so that ensembles which found different modes give themselves away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from emcee import EnsembleSampler, State
from emcee.moves import Move

__all__ = ["Walkers"]

Density = Callable[[np.ndarray, np.ndarray], np.ndarray]

# Candidates from the prior per walker.
_CANDIDATES = 8
# Effective walkers that a step in temperature leaves, as a fraction, and moves that follow it.
_LEFT, _MOVES = 0.6, 4
# Temperatures at most; a likelihood that is still not switched on then is switched on at once.
_TEMPERATURES = 60
# Fraction of snooker steps, and of differential-evolution steps of full length between modes.
_SNOOKER, _JUMP = 0.15, 0.1


class Walkers:
    """Walkers of several observations: `n_ensembles` independent ensembles for each.

    Args:
        log_likelihood: (rows of observations (R,), u (R, n, P)) to values (R, n).
        log_prior: the same for the prior of u.
        generators: one for each observation; nothing else is random.
        n_ensembles: for each observation.
        n_walkers: of one ensemble; an even number.
        n_parameters: P.

    Attributes:
        stepping_stones: after `start`, of each ensemble the log of the likelihood's mean over the
            prior, by the steps in temperature that it took, (R, n_ensembles): stepping stones
            (Xie et al. 2011), whose exponential is unbiased (Del Moral et al. 2006).
    """

    def __init__(
        self, log_likelihood: Density, log_prior: Density,
        generators: Sequence[np.random.Generator], n_ensembles: int, n_walkers: int,
        n_parameters: int,
    ) -> None:  # fmt: skip
        self.log_likelihood, self.log_prior = log_likelihood, log_prior
        self.generators = list(generators)
        self.shape = n_ensembles, n_walkers, n_parameters
        self.stepping_stones = np.full((len(self.generators), n_ensembles), np.nan)

    def start(self, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Walkers brought from the prior to the posterior.

        Args:
            candidates: draws of the prior, (R, `n_candidates`, P).

        Returns:
            u (R, n_ensembles, n_walkers, P), and the rows without any finite likelihood.
        """
        ensembles, walkers, n_parameters = self.shape
        rows = np.arange(len(candidates))
        values = self.log_likelihood(rows, candidates)
        hopeless = ~np.isfinite(values).any(1)
        u = candidates.reshape(len(rows), ensembles, -1, n_parameters)
        values = values.reshape(u.shape[:3])
        heat = np.zeros((len(rows), ensembles))
        self.stepping_stones = np.zeros_like(heat)
        if hopeless.any():
            return u[:, :, :walkers], rows[hopeless]
        for i in range(_TEMPERATURES):
            new = _next_heat(values, heat, _LEFT * walkers)
            if i == _TEMPERATURES - 1:
                new = np.ones_like(new)
            self.stepping_stones += _log_mean(values, new - heat)
            u, values = self._resample(u, values, new - heat)
            heat = new
            if (heat == 1).all():
                break
            u, _, _ = self.run(rows, u, _MOVES, heat=heat, keep=False)
            values = self.log_likelihood(rows, u.reshape(len(rows), -1, n_parameters))
            values = values.reshape(u.shape[:3])
        return u, rows[:0]

    @property
    def n_candidates(self) -> int:
        """Draws of the prior that `start` wants for each observation."""
        return self.shape[0] * self.shape[1] * _CANDIDATES

    def _resample(
        self, u: np.ndarray, values: np.ndarray, step: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Systematic resampling to the number of walkers, weights exp(step * values)."""
        ensembles, walkers, _ = self.shape
        total = np.cumsum(_weights(values, step), axis=-1)
        out, kept = np.empty((len(u), *self.shape)), np.empty((len(u), ensembles, walkers))
        for b, generator in enumerate(self.generators):
            for e, offset in enumerate(generator.random(ensembles)):
                at = (np.arange(walkers) + offset) / walkers * total[b, e, -1]
                chosen = np.searchsorted(total[b, e], at).clip(max=total.shape[-1] - 1)
                generator.shuffle(chosen)  # the halves of an ensemble must be alike
                out[b, e], kept[b, e] = u[b, e, chosen], values[b, e, chosen]
        return out, kept

    def run(
        self, rows: np.ndarray, u: np.ndarray, steps: int, heat: np.ndarray | None = None,
        keep: bool = True,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
        """Let emcee move the walkers of the observations `rows`.

        Args:
            rows: which observations, (R,).
            u: where their walkers are, (R, n_ensembles, n_walkers, P).
            steps: how many.
            heat: powers of the likelihood, (R, n_ensembles); 1 if None.
            keep: False returns the last position alone.

        Returns:
            u (steps, R, n_ensembles, n_walkers, P), log posterior of u of one axis less, and the
            accepted fraction (R,). Without `keep`, the first has no axis of steps.
        """
        n_parameters = self.shape[2]
        power: Any = np.ones(u.shape[:2]) if heat is None else heat

        def log_prob(flat: np.ndarray) -> np.ndarray:
            at: Any = flat.reshape(len(rows), -1, n_parameters)
            times = np.repeat(power, at.shape[1] // power.shape[1], axis=1)
            value = self.log_prior(rows, at) + times * self.log_likelihood(rows, at)
            return value.reshape(-1)

        move = _BlockMove([self.generators[r] for r in rows], u.shape)
        n_walkers = int(np.prod(u.shape[:3]))
        # emcee's own generator is not used: the one move there is brings its own.
        sampler: Any = EnsembleSampler(
            n_walkers, n_parameters, log_prob, moves=move, vectorize=True
        )
        sampler.log_prob_fn = log_prob  # emcee's wrapper prints a traceback when the time is up
        start = State(u.reshape(n_walkers, n_parameters))
        last: Any = sampler.run_mcmc(start, steps, skip_initial_state_check=True, store=keep)
        if not keep:
            return last.coords.reshape(u.shape), last.log_prob.reshape(u.shape[:3]), np.empty(0)
        accepted = sampler.acceptance_fraction.reshape(len(rows), -1).mean(1)
        chain = np.asarray(sampler.get_chain()).reshape(steps, *u.shape)
        return chain, np.asarray(sampler.get_log_prob()).reshape(steps, *u.shape[:3]), accepted


class _BlockMove(Move):
    """One step of every walker, each within its own ensemble, one half after the other."""

    def __init__(self, generators: list[np.random.Generator], shape: tuple[int, ...]) -> None:
        self.generators, self.shape = generators, shape
        half = np.zeros(shape[:3], dtype=bool)
        half[:, :, : shape[2] // 2] = True
        self.halves = half.reshape(-1), ~half.reshape(-1)

    def propose(self, model: Any, state: Any) -> tuple[Any, np.ndarray]:
        """What emcee asks of a move: the new state, and who accepted."""
        accepted = np.zeros(len(state.coords), dtype=bool)
        rows, ensembles, walkers, n_parameters = self.shape
        for moving, waiting in (self.halves, self.halves[::-1]):
            shape = rows * ensembles, walkers // 2, n_parameters
            random = self._uniforms(walkers // 2)
            q, factor = _proposal(
                state.coords[moving].reshape(shape), state.coords[waiting].reshape(shape), random
            )
            new, _ = model.compute_log_prob_fn(q.reshape(-1, n_parameters))
            with np.errstate(invalid="ignore"):  # from nowhere to nowhere: not accepted
                gain = factor.reshape(-1) + new - state.log_prob[moving]
            accepted[moving] = np.log(random[..., 0].reshape(-1)) < gain
            state = self.update(state, State(q.reshape(-1, n_parameters), log_prob=new),
                                accepted, moving)  # fmt: skip
        return state, accepted

    def _uniforms(self, n: int) -> np.ndarray:
        """Numbers in (0, 1), (ensembles of all observations, n, 6)."""
        ensembles = self.shape[1]
        parts = [1 - g.random((ensembles, n, 6)) for g in self.generators]
        return np.concatenate(parts)


def _proposal(
    s: np.ndarray, others: np.ndarray, random: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where walkers s (G, n, P) might go, given those of the waiting half, and log factors."""
    _, kind, length, *picks = np.moveaxis(random, -1, 0)
    n, n_parameters = others.shape[1:]
    a = np.minimum((picks[0] * n).astype(int), n - 1)
    b = (a + 1 + np.minimum((picks[1] * (n - 1)).astype(int), n - 2)) % n
    z = np.take_along_axis(others, np.minimum((picks[2] * n).astype(int), n - 1)[..., None], 1)
    first, second = (np.take_along_axis(others, i[..., None], 1) for i in (a, b))
    difference = first - second
    # Lengths vary by a factor of 3, as no single one fits every shape of posterior.
    spread = 0.5 + length
    gamma = np.where(kind > 1 - _JUMP, 1.0, spread * 2.38 / np.sqrt(2 * n_parameters))
    q = s + gamma[..., None] * difference
    # Snooker: along the line through z, by the difference's projection onto it.
    ray = s - z
    distance = np.linalg.norm(ray, axis=-1)
    snooker = (kind < _SNOOKER) & (distance > 0)
    unit = ray / np.where(distance > 0, distance, 1)[..., None]
    along = spread * 1.7 * (unit * difference).sum(-1)
    q = np.where(snooker[..., None], s + along[..., None] * unit, q)
    ratio = np.abs(distance + along) / np.where(distance > 0, distance, 1)
    with np.errstate(divide="ignore", invalid="ignore"):  # onto z itself: never accepted
        factor = np.where(snooker, (n_parameters - 1) * np.log(ratio), 0.0)
    return q, np.nan_to_num(factor, nan=0.0)


def _weights(values: np.ndarray, step: np.ndarray) -> np.ndarray:
    """exp(step * values), the largest 1, for values (..., n) and step (...)."""
    finite = np.where(np.isfinite(values), values, -np.inf)
    best = finite.max(-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        exponent = np.where(np.isfinite(finite), step[..., None] * (finite - best), -np.inf)
    return np.exp(exponent)


def _log_mean(values: np.ndarray, step: np.ndarray) -> np.ndarray:
    """log of the mean of exp(step * values) over the last axis; -inf if none is finite."""
    best = np.where(np.isfinite(values), values, -np.inf).max(-1)
    # A step of 0 from -inf is none.
    far = np.where(step > 0, step * np.where(step > 0, best, 0), 0.0)
    with np.errstate(divide="ignore"):
        return far + np.log(_weights(values, step).mean(-1))


def _next_heat(values: np.ndarray, heat: np.ndarray, least: float) -> np.ndarray:
    """The largest power, at most 1, that leaves `least` effective draws; by bisection in log."""

    def enough(step: np.ndarray) -> np.ndarray:
        w = _weights(values, step)
        return w.sum(-1) ** 2 / (w**2).sum(-1) >= least

    low, high = np.full(heat.shape, -40.0), np.log(np.maximum(1 - heat, np.exp(-40.0)))
    whole = enough(1 - heat)
    for _ in range(30):
        middle = 0.5 * (low + high)
        fine = enough(np.exp(middle))
        low, high = np.where(fine, middle, low), np.where(fine, high, middle)
    return np.where(whole, 1.0, np.minimum(heat + np.exp(low), 1.0))
