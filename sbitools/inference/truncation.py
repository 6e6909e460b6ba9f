"""What sequential rounds are made of: a truncated prior, and stores that are read as one."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbitools.errors import PosteriorError
from sbitools.gate.arrays import selection
from sbitools.parameters import ParameterSpace
from sbitools.seeds import derive
from sbitools.store import SimulationStore

from .posterior import Posterior

__all__ = ["JoinedStores", "Truncation"]

# Draws of the posterior that fix the region's edge: ten outside it, but not more than this.
_MOST_DRAWS = 100_000
# Candidates at once.
_BATCH = 1 << 14
# A smaller accepted fraction than this is hopeless.
_LEAST_ACCEPTED = 1e-6


class Truncation:
    """The prior, cut to where a posterior holds all but `epsilon` of its mass at one x.

    The region is {theta: q(theta | x) / p(theta) > t}: of all regions that hold this mass, the one
    with the least prior mass (Neyman & Pearson), whatever the coordinates. For uniform priors it
    is the highest-density region of arXiv:2210.04815. Draws are exact, by rejection from the
    prior, or from q where that is quicker: q is at least t times the prior inside.

    Args:
        posterior: of the round before.
        parameters: all of the simulator's; those that are not inferred follow their prior, given
            the others if it is a joint one.
        x: the observation, (1, *shape).
        epsilon: mass left out.
        seed: of the edge and of the draws.
    """

    def __init__(
        self, posterior: Posterior, parameters: ParameterSpace, x: Tensor, epsilon: float,
        seed: int,
    ) -> None:  # fmt: skip
        self.posterior, self.parameters, self.x = posterior, parameters, x
        self.epsilon, self.seed = epsilon, seed
        self._threshold: float | None = None

    @property
    def threshold(self) -> float:
        """log t, the epsilon-quantile of log q/p over draws of q.

        Raises:
            PosteriorError: if the posterior's density is not finite.
        """
        if self._threshold is None:
            n = min(max(10_000, math.ceil(10 / self.epsilon)), _MOST_DRAWS)
            _, ratio = self._from_posterior(n, derive(self.seed, 0))
            edge = float(torch.quantile(ratio, self.epsilon))
            if not math.isfinite(edge):
                raise _hopeless(f"edge of the region at log q/p = {edge}")
            self._threshold = edge
        return self._threshold

    def log_ratio(self, theta: Tensor) -> Tensor:
        """log q(theta | x) - log p(theta), (n,), for inferred theta (n, P)."""
        q = self.posterior.log_prob(theta[None], self.x)[0]
        return q - self.posterior.parameters.log_prob(theta)

    def draw(self, n: int) -> tuple[Tensor, dict[str, Any]]:
        """`n` rows of the whole theta, nuisance parameters too, and how they were found.

        Raises:
            PosteriorError: if hardly any candidate lies in the region.
        """
        edge = self.threshold
        inside = float((self.log_ratio(self._prior(derive(self.seed, 1))) > edge).double().mean())
        _, ratio = self._from_posterior(_BATCH, derive(self.seed, 2))
        from_q = float(((edge - ratio).exp() * (ratio > edge)).mean())
        source, accepted = max(("prior", inside), ("posterior", from_q), key=lambda v: v[1])
        if accepted < _LEAST_ACCEPTED:
            raise _hopeless(f"{inside:.1e} of the prior's draws and {from_q:.1e} of its own")
        kept, most = [], 10 + math.ceil(5 * n / (accepted * _BATCH))
        for i in range(most):
            kept.append(self._some(source, edge, derive(self.seed, 3, i)))
            if sum(map(len, kept)) >= n:
                break
        rows = torch.cat(kept)[:n]
        if len(rows) < n:
            raise _hopeless(f"{len(rows)} of {most * _BATCH} candidates")
        return self._whole(rows), {"from": source, "accepted": accepted, "log_edge": edge}

    def _some(self, source: str, edge: float, seed: int) -> Tensor:
        """Those of a batch of candidates that are accepted, (m, P)."""
        if source == "prior":
            theta = self._prior(seed)
            return theta[self.log_ratio(theta) > edge]
        theta, ratio = self._from_posterior(_BATCH, seed)
        luck = torch.from_numpy(np.random.default_rng(derive(seed, 1)).random(_BATCH))
        return theta[(ratio > edge) & (luck.log() < edge - ratio)]

    def _prior(self, seed: int) -> Tensor:
        return self.posterior.parameters.design(_BATCH, seed)

    def _from_posterior(self, n: int, seed: int) -> tuple[Tensor, Tensor]:
        theta, q = self.posterior.sample_and_log_prob(self.x, n, seed=seed)
        return theta[0], q[0] - self.posterior.parameters.log_prob(theta[0])

    def _whole(self, inferred: Tensor) -> Tensor:
        """Rows of all parameters, nuisance ones drawn given the inferred ones."""
        return self.parameters.completed(inferred, derive(self.seed, 4))


def _hopeless(got: str) -> PosteriorError:
    return PosteriorError(
        "region of the next round", expected=f"at least {_LEAST_ACCEPTED:.0e} of the candidates",
        got=got, fix="simulate more per round, so that the first posterior is better; raise "
        "epsilon; or check that the observation is like the simulations",
    )  # fmt: skip


class JoinedStores:
    """Several stores of one simulator, read as if they were one.

    Args:
        stores: of the same parameters and output.
    """

    design = "truncated"

    def __init__(self, stores: Sequence[SimulationStore]) -> None:
        self.stores = list(stores)
        self.parameters, self.output = stores[0].parameters, stores[0].output
        self.path = stores[0].path.parent.parent
        self._starts = np.cumsum([0, *map(len, stores)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def theta(self) -> Tensor:
        """Planned parameters, float64, (n, P)."""
        return torch.cat([s.theta for s in self.stores])

    @property
    def seeds(self) -> Tensor:
        """Seeds, int64, (n,)."""
        return torch.cat([s.seeds for s in self.stores])

    @property
    def groups(self) -> np.ndarray:
        """Group of each simulation, int64, (n,); groups of different stores are different."""
        parts, start = [], 0
        for store in self.stores:
            parts.append(store.groups + start)
            start += int(store.groups.max()) + 1
        return np.concatenate(parts)

    @property
    def done(self) -> np.ndarray:
        """Indices of finished simulations, int64, ascending."""
        starts = self._starts[:-1]
        return np.concatenate([s.done + a for s, a in zip(self.stores, starts, strict=True)])

    def counts(self) -> dict[str, int]:
        """Number of simulations in each state."""
        each = [store.counts() for store in self.stores]
        return {state: sum(c[state] for c in each) for state in each[0]}

    def digest(self) -> str:
        """sha256 over the digests of the stores."""
        return hashlib.sha256("".join(s.digest() for s in self.stores).encode()).hexdigest()

    def read(self, indices: np.ndarray) -> Tensor:
        """Fields of the simulations `indices`, in this order, (len(indices), *shape)."""
        rows = selection(indices, len(self))
        out = torch.empty((len(rows), *self.output.shape), dtype=self.output.torch_dtype)
        home = np.searchsorted(self._starts, rows, side="right") - 1
        for i, store in enumerate(self.stores):
            here = np.flatnonzero(home == i)
            if len(here):
                out[torch.from_numpy(here)] = store.read(rows[here] - self._starts[i])
        return out
