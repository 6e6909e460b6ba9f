"""Posteriors of a learned likelihood: sampled by chains, and they know the evidence p(x)."""

from __future__ import annotations

import math
import time
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbitools.errors import ImportanceWarning, PosteriorError
from sbitools.networks.precision import single_precision
from sbitools.results.asked import as_batch
from sbitools.results.evidence import Evidence, bridge
from sbitools.seeds import derive

from .mcmc import MCMCPosterior
from .posterior import check_time
from .request import checked_request

__all__ = ["LikelihoodPosterior"]

_FEWEST = 1000  # draws: half of them are fitted to, and 200 different ones are needed there
_BRIDGE = 93
_ROWS = 1 << 13  # of proposal draws whose likelihood is worked out at once


class LikelihoodPosterior(MCMCPosterior):
    """A posterior of a density of x, which its estimator gives with its scale (`log_scale`)."""

    def evidence(
        self, x: Any, *, n: int = 4000, seed: int = 0, time_limit: float | None = None
    ) -> Evidence:
        """The evidence p(x) of the model, the prior's mean of the learned likelihood.

        By bridge sampling from the chains to a sum of normals fitted to half of them, see
        `sbitools.results.evidence`; and by the temperatures that the walkers pass on their way
        from the prior, to compare with. p(x) is a density in the unit of x, and for counts one
        per step of them. Simulations that failed are not in it: it is that of p(x | success).

        Args:
            x: observed fields (B, *observed.shape), or one field.
            n: draws for each observation.
            seed: of the chains and of the bridge.
            time_limit: seconds.

        Raises:
            ObservationError: if x does not fit.
            PosteriorError: for fewer than 1000 draws, or too few different ones for so many
                parameters.
            TimeLimitError: if the time ran out.

        Warns:
            ImportanceWarning: where the result is not `Evidence.trusted`.
            ConvergenceWarning: if chains have not converged.
            MisspecificationWarning: if an x is unlike the simulations: its density is a guess.

        Example:
            >>> a, b = (p.evidence(x) for p in (first, second))  # doctest: +SKIP
            >>> log_bayes_factor = a.log_evidence - b.log_evidence  # doctest: +SKIP
        """
        n, seed, time_limit = checked_request(n, seed, time_limit)
        if n < _FEWEST:
            raise PosteriorError(
                "n of evidence", expected=f"{_FEWEST} draws or more", got=f"{n}",
                fix="a sum of normals is fitted to half of them",
            )  # fmt: skip
        fields, alone = as_batch(self, x)
        found = self._evidence(fields, n, seed, time_limit)
        _warn(found)
        if not alone:
            return found
        return Evidence(*(getattr(found, name)[0] for name in Evidence.__dataclass_fields__))

    @single_precision()
    @torch.no_grad()
    def _evidence(self, x: Tensor, n: int, seed: int, limit: float | None) -> Evidence:
        deadline = math.inf if limit is None else time.monotonic() + limit
        u, log_p = self._draw(x, n, seed, limit)
        chains = self.diagnostics
        assert chains is not None  # noqa: S101  (set by _draw)
        features, scale = self._features(self._check(x)), self.estimator.log_scale
        found = []
        for b in range(len(x)):
            check_time(deadline, f"{len(x)} evidences in {limit} s", f"{b} of them")
            effective = float(chains.ess_bulk[b].min())
            # Draws handed out are nearly independent, if the chains have many more than n.
            found.append(bridge(
                u[b], log_p[b], lambda at, b=b: self._density(at, features[b : b + 1]),
                1 + n / max(effective, 1.0), derive(seed, _BRIDGE, b),
            ))  # fmt: skip
        value, error, overlap = np.array(found).reshape(-1, 3).T
        stones, scatter = _stones(chains.stepping_stones)
        return Evidence(value + scale, error, overlap, stones + scale, scatter)

    def _density(self, u: Tensor, features: Tensor) -> Tensor:
        """log p(x | u) p(u) up to the scale of x, (n,), of u (n, P)."""
        parts = [self.estimator.log_prob(at[None], features)[0] for at in u.split(_ROWS)]
        value = torch.cat(parts).double().cpu()
        return value.where(self.reach.inside(u), torch.tensor(-torch.inf, dtype=torch.float64))


def _stones(stones: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log of the mean over ensembles (B, E), which are unbiased and independent; its error."""
    top = stones.max(1, keepdims=True)
    ratio = np.exp(stones - top)
    mean = ratio.mean(1)
    error = ratio.std(1, ddof=1) / mean / math.sqrt(stones.shape[1])
    return top[:, 0] + np.log(mean), error


def _warn(found: Evidence) -> None:
    bad = np.flatnonzero(~found.trusted)
    if not len(bad):
        return
    b = int(bad[0])
    warnings.warn(
        f"evidence of observations {bad[:10].tolist()} cannot be trusted: observation {b} has "
        f"{found.log_evidence[b]:.2f} by bridge sampling, with an overlap of "
        f"{found.overlap[b]:.2g}, and {found.stepping_stones[b]:.2f} +- "
        f"{found.stepping_stones_error[b]:.2g} by the walkers' way from the prior; chains may "
        "have lost a mode: look at posterior.plot(x), and raise n",
        ImportanceWarning, stacklevel=3,
    )  # fmt: skip
