"""Posteriors that are known up to a constant for each x, and sampled by Markov chains.

For neural likelihoods and ratios. emcee moves the walkers (`sbitools.inference.walkers`), ArviZ
judges them: rank-normalised split R-hat across independent ensembles, bulk and tail effective
sample sizes (Vehtari et al. 2021, arXiv:1903.08008).
"""

from __future__ import annotations

import math
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sbitools import seeds as seeds_
from sbitools.display.bars import Bar, counting
from sbitools.display.brief import Brief
from sbitools.errors import (
    ConvergenceWarning,
    ExtrapolationWarning,
    FailedSimulationsWarning,
    PosteriorError,
    TimeLimitError,
)
from sbitools.parameters import ParameterSpace

from .posterior import Posterior

__all__ = ["ChainDiagnostics", "MCMCPosterior", "Unnormalised"]

# Independent ensembles per observation, for R-hat: the walkers of one are not independent.
_ENSEMBLES = 4
# Steps of the first stage; each further one doubles what there is.
_FIRST, _MOST = 128, 4096
# Autocorrelation times that are thrown away as warm-up.
_WARM_UP = 5
# R-hat above this, or fewer effective draws than this, and nobody should trust the draws
# (arXiv:1903.08008, section 4).
_R_HAT, _EFFECTIVE = 1.01, 400
# Effective draws in the chains for each draw that is asked for: those handed out are nearly
# independent then.
_PER_DRAW = 2
# Share of draws where nothing was simulated that is told of.
_OUTSIDE = 0.01
# Walkers that are moved at once: their longest chains fill 300 MB a parameter.
_WALKERS_AT_ONCE = 1 << 13
# Positions whose likelihood is worked out between two looks at the clock.
_AT_ONCE = 1 << 15


@dataclass(frozen=True, repr=False)
class ChainDiagnostics(Brief):
    """What chains say about themselves, for each observation.

    Args:
        r_hat: across ensembles, rank-normalised and split, (B, P).
        ess_bulk: effective number of draws for the centre, of all steps kept, (B, P).
        ess_tail: the same for the 5 % and 95 % quantiles, (B, P).
        autocorrelation: integrated time in steps, the largest of all parameters, (B,).
        acceptance: fraction of accepted moves, (B,).
        steps: after the walkers had been brought to the posterior, (B,).
        warm_up: of them, thrown away, (B,).
        stepping_stones: log of the likelihood's mean over the prior, up to its constant, by each
            ensemble on its way from the prior, (B, ensembles).
    """

    r_hat: np.ndarray
    ess_bulk: np.ndarray
    ess_tail: np.ndarray
    autocorrelation: np.ndarray
    acceptance: np.ndarray
    steps: np.ndarray
    warm_up: np.ndarray
    stepping_stones: np.ndarray

    @property
    def converged(self) -> np.ndarray:
        """Whether R-hat and both effective sizes are as they should be, (B,)."""
        effective = np.minimum(self.ess_bulk, self.ess_tail)
        return np.all((self.r_hat <= _R_HAT) & (effective >= _EFFECTIVE), axis=1)


class Unnormalised(nn.Module, ABC):
    """A posterior of u known up to a constant for each x: `log_ratio`, of the subclass, and prior.

    Args:
        parameters: the inferred parameters.
    """

    def __init__(self, parameters: ParameterSpace) -> None:
        super().__init__()
        self.space = parameters

    @abstractmethod
    def log_ratio(self, u: Tensor, features: Tensor) -> Tensor:
        """log p(x | u) up to a constant, (B, n), for u (B, n, P) and features (B, F)."""

    def log_prob(self, u: Tensor, features: Tensor) -> Tensor:
        """log p(x | u) + log p(u), (B, n), up to a constant for each x."""
        prior = self.space.log_prob_unconstrained(u.double().cpu())
        return self.log_ratio(u, features).double().cpu() + prior


class MCMCPosterior(Posterior):
    """An amortised posterior that is known up to a constant: sampled by emcee.

    `log_prob` and the densities of `sample_and_log_prob` lack a constant that depends on x: draws
    of one observation can be compared, observations cannot.

    Attributes:
        diagnostics: of the latest sampling; None before.
        members: observations of one theta that each x holds, see `together`.
    """

    normalised = False
    members = 1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.diagnostics: ChainDiagnostics | None = None
        excluded = self.info.get("excluded", {})
        lost = {k: excluded[k] for k in ("failed", "rejected") if excluded.get(k)}
        if lost:
            text = " and ".join(f"{n} {k}" for k, n in lost.items())
            warnings.warn(
                f"{text} simulations were left out: {self.options.method} learns p(x | theta, "
                "success), and its posterior lacks the factor p(success | theta), which is not 1; "
                "npe has it by construction", FailedSimulationsWarning, stacklevel=2,
            )  # fmt: skip

    def _draw(
        self, x: Tensor | np.ndarray, n: int, seed: int, limit: float | None,
        density: bool = True,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """u (B, n, P) and the log posterior of u, up to a constant, (B, n)."""
        x, size, n_parameters = self._check(x), max(n, 0), len(self.parameters)
        u = torch.empty(len(x), size, n_parameters, dtype=torch.float64)
        log_q = torch.empty(len(x), size, dtype=torch.float64)
        if not len(x) or not size:
            return u, log_q
        deadline = math.inf if limit is None else time.monotonic() + limit
        asked = f"{len(x)} x {n} draws in {limit} s"
        features = self._features(x, deadline, asked)
        self._warn_of(x, features)
        walkers = _walkers(n, n_parameters)
        per = max(1, _WALKERS_AT_ONCE // (_ENSEMBLES * walkers))
        found = []
        with counting("chains", len(x)) as bar:
            for first in range(0, len(x), per):
                rows = slice(first, min(first + per, len(x)))
                block = _Block(self, features[rows], first, walkers, seed, deadline, asked)
                values, log_p, diagnostics = block.draw(n, bar)
                u[rows], log_q[rows] = torch.from_numpy(values), torch.from_numpy(log_p)
                found.append(diagnostics)
        self.diagnostics = ChainDiagnostics(
            *(np.concatenate([getattr(d, f.name) for d in found]) for f in fields(found[0]))
        )
        self._warn(n)
        self._warn_of_extrapolation(u)
        return u, log_q

    def _warn_of_extrapolation(self, u: Tensor) -> None:
        """Warn if more than 1 % of an observation's draws lie where nothing was simulated."""
        known = self.info.get("simulated", {})
        if set(known) != set(self.parameters.names):
            return
        ends = torch.tensor([known[name] for name in self.parameters.names], dtype=torch.float64)
        theta = self.parameters.from_unconstrained(u)
        outside = (theta < ends[:, 0]) | (theta > ends[:, 1])
        share = outside.any(-1).double().mean(1)
        bad = (share > _OUTSIDE).nonzero()[:, 0].tolist()
        if not bad:
            return
        row = int(share.argmax())
        name = self.parameters.names[int(outside[row].double().mean(0).argmax())]
        warnings.warn(
            f"{100 * float(share[row]):.2g} % of the draws of observation {row} (and more than "
            f"{100 * _OUTSIDE:g} % of those of {len(bad)} of {len(u)}) lie where nothing was "
            f"simulated, most of them in {name} (simulated from {known[name][0]:g} to "
            f"{known[name][1]:g}): what {self.options.method} says there is a guess; simulate "
            "with theta of the whole prior, or more of them", ExtrapolationWarning, stacklevel=4,
        )  # fmt: skip

    def _warn(self, n: int) -> None:
        assert self.diagnostics is not None  # noqa: S101  (set by the only caller)
        bad = np.flatnonzero(~self.diagnostics.converged)
        if not len(bad):
            return
        d = self.diagnostics
        effective = np.minimum(d.ess_bulk, d.ess_tail)[bad].min()
        warnings.warn(
            f"chains of {len(bad)} of {len(d.steps)} observations have not converged (rows "
            f"{bad[:10].tolist()}): R-hat up to {d.r_hat[bad].max():.3f} (expected at most "
            f"{_R_HAT}), {effective:.0f} effective draws (at least {_EFFECTIVE}); see "
            "posterior.diagnostics, and check that these observations are like the simulations",
            ConvergenceWarning, stacklevel=6,
        )  # fmt: skip


def _walkers(n: int, n_parameters: int) -> int:
    """Walkers of one ensemble: even, eight or more per parameter, more for more draws."""
    wanted = max(32, 8 * n_parameters, min(n // (4 * _ENSEMBLES), 256))
    return 2 * -(-wanted // 2)


class _Block:
    """Observations that are sampled together."""

    def __init__(
        self, posterior: MCMCPosterior, features: Tensor, first: int, walkers: int, seed: int,
        deadline: float, asked: str,
    ) -> None:  # fmt: skip
        from .walkers import Walkers

        self.posterior, self.features, self.first = posterior, features, first
        self.deadline, self.asked, self.done = deadline, asked, 0
        count = len(features)
        self.seeds = [seeds_.derive(seed, first + i) for i in range(count)]
        self.generators = [np.random.default_rng(s) for s in self.seeds]
        self.walkers = Walkers(
            self._log_likelihood, self._log_prior, self.generators, _ENSEMBLES, walkers,
            len(posterior.parameters),
        )  # fmt: skip

    def check_time(self) -> None:
        """Raise `TimeLimitError` if the time ran out; asked between any two pieces of work."""
        if time.monotonic() > self.deadline:
            raise TimeLimitError(
                "sampling", expected=self.asked,
                got=f"{self.first + self.done} observations, and chains of the next unfinished",
                fix="raise time_limit, or ask for fewer observations at a time",
            )  # fmt: skip

    def _log_likelihood(self, rows: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Of u (R, n, P), a few at a time: no piece takes much longer than another."""
        parts, per = [], max(1, _AT_ONCE // (len(u) * self.posterior.members))
        for one in np.array_split(u, -(-u.shape[1] // per), axis=1):
            self.check_time()
            value = self.posterior.estimator.log_ratio(torch.from_numpy(one), self.features[rows])
            parts.append(value.double().cpu().numpy())
        out = np.concatenate(parts, axis=1)
        return np.where(np.isfinite(out), out, -np.inf)

    def _log_prior(self, rows: np.ndarray, u: np.ndarray) -> np.ndarray:
        at = torch.from_numpy(u)
        value = self.posterior.parameters.log_prob_unconstrained(at).numpy()
        return np.where(self.posterior.reach.inside(at).numpy(), value, -np.inf)

    def _candidates(self) -> np.ndarray:
        """Draws of the prior of u, (R, candidates, P)."""
        space, n = self.posterior.parameters, self.walkers.n_candidates
        return np.stack([space.to_unconstrained(space.design(n, s)).numpy() for s in self.seeds])

    def draw(self, n: int, bar: Bar) -> tuple[np.ndarray, np.ndarray, ChainDiagnostics]:
        """u (R, n, P), their log posterior (R, n), and what the chains say."""
        u, hopeless = self.walkers.start(self._candidates())
        if len(hopeless):
            raise PosteriorError(
                "sampling", expected="a finite likelihood somewhere in the prior",
                got=f"none for observations {(self.first + hopeless[:10]).tolist()}",
                fix="these fields are far from the training set: check their units and content",
            )  # fmt: skip
        total = len(u)
        chains: list[list[tuple[np.ndarray, np.ndarray, float]]] = [[] for _ in range(total)]
        result: list[Any] = [None] * total
        active, steps = np.arange(total), _FIRST
        while len(active):
            chain, density, accepted = self.walkers.run(active, u, steps)
            u = chain[-1]
            last = steps + sum(len(c[0]) for c in chains[active[0]]) >= _MOST
            going = []
            for j, row in enumerate(active):
                chains[row].append((chain[:, j], density[:, j], float(accepted[j])))
                result[row] = _judge(chains[row], n, self.check_time)
                if result[row].good or last:
                    self.done += 1
                    chains[row] = []
                else:
                    going.append(j)
            bar.add(len(active) - len(going), f"{steps} steps")
            u, active = u[going], active[going]
            steps = max(_FIRST, sum(len(c[0]) for c in chains[active[0]])) if len(active) else 0
        drawn = [r.draw(n, g) for r, g in zip(result, self.generators, strict=True)]
        columns = {
            f.name: np.stack([getattr(r, f.name) for r in result])
            for f in fields(ChainDiagnostics) if f.name != "stepping_stones"
        }  # fmt: skip
        told = ChainDiagnostics(**columns, stepping_stones=self.walkers.stepping_stones)
        return np.stack([d[0] for d in drawn]), np.stack([d[1] for d in drawn]), told


@dataclass(frozen=True)
class _Judged:
    """The chains of one observation, without their warm-up, and what is known of them."""

    u: np.ndarray
    density: np.ndarray
    r_hat: np.ndarray
    ess_bulk: np.ndarray
    ess_tail: np.ndarray
    autocorrelation: float
    acceptance: float
    steps: int
    warm_up: int
    good: bool

    def draw(self, n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """`n` of the positions, evenly spaced in steps, in random order."""
        kept, walkers = self.density.shape
        at = np.linspace(0, kept - 1, min(kept, -(-n // walkers))).round().astype(int)
        u, density = self.u[at].reshape(-1, self.u.shape[-1]), self.density[at].reshape(-1)
        order = generator.permutation(len(u))
        chosen = np.resize(order, n)  # again from the start if there are too few
        return u[chosen], density[chosen]


def _judge(
    parts: list[tuple[np.ndarray, np.ndarray, float]], n: int, check_time: Callable[[], None]
) -> _Judged:
    """Cut off the warm-up, and ask whether the rest is enough for `n` draws."""
    from emcee.autocorr import integrated_time

    chain = np.concatenate([p[0] for p in parts])
    density = np.concatenate([p[1] for p in parts])
    steps, ensembles, walkers, n_parameters = chain.shape
    flat = chain.reshape(steps, ensembles * walkers, n_parameters)
    with np.errstate(invalid="ignore"):  # walkers that never moved have no time: nan
        time_ = integrated_time(flat, tol=0, quiet=True)
    tau = float(max(1.0, np.nan_to_num(time_, nan=steps).max()))
    warm_up = min(steps // 2, math.ceil(_WARM_UP * tau))
    kept = chain[warm_up:]
    bulk, tail, r_hat = (np.empty(n_parameters) for _ in range(3))
    for i in range(n_parameters):
        r_hat[i], bulk[i], tail[i] = _arviz(kept[..., i], check_time)
    effective = min(bulk.min(), tail.min())
    good = bool((r_hat <= _R_HAT).all() and effective >= max(_PER_DRAW * n, _EFFECTIVE))
    acceptance = float(np.average([p[2] for p in parts], weights=[len(p[0]) for p in parts]))
    return _Judged(
        flat[warm_up:], density[warm_up:].reshape(steps - warm_up, -1), r_hat, bulk, tail, tau,
        acceptance, steps, warm_up, good,
    )  # fmt: skip


def _arviz(
    values: np.ndarray, check_time: Callable[[], None]
) -> tuple[float, float, float]:  # fmt: skip
    """R-hat, bulk and tail effective size of one parameter, (steps, ensembles, walkers)."""
    with warnings.catch_warnings():
        # ArviZ 0.23 announces its successor once a day, when it is imported.
        warnings.simplefilter("ignore", FutureWarning)
        import arviz

    whole = np.ascontiguousarray(np.moveaxis(values, 0, 1).reshape(values.shape[1], -1))
    single = np.ascontiguousarray(values.reshape(len(values), -1).T)
    sizes = []
    for kind in ("bulk", "tail"):
        check_time()
        sizes.append(float(arviz.ess(single, method=kind)))
    check_time()
    return float(arviz.rhat(whole)), *sizes
