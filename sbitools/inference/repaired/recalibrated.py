"""Recalibrated posteriors: each marginal is moved, widened and bent by a monotone map.

An exact posterior gives truths standard normal scores s = Phi^-1(F(u | x)). The distribution of
the scores of N reference truths is fitted within a family of four numbers (`shape`), and the
posterior's own scores are mapped to that distribution. The copula of the posterior, and how it
follows x, stay as they were. In the manner of
rank recalibration (Kuleshov et al. 2018, arXiv:1807.00263; Dey et al. 2022, arXiv:2205.14568).
"""

from __future__ import annotations

import time
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from sbitools.errors import PosteriorError
from sbitools.inference.one_or_many import one_or_many
from sbitools.inference.reach import Reach
from sbitools.inference.request import checked_request
from sbitools.seeds import derive

from .posterior import RepairedPosterior, inside_support
from .shape import ScoreShape

__all__ = ["RecalibratedPosterior"]

# Farther out than any draw: the map beyond is a straight line, and this keeps its ends finite.
_FARTHEST = 30.0
_AGAIN = 80


class RecalibratedPosterior(RepairedPosterior):
    """A posterior whose marginals were mapped to agree with reference truths.

    Draws are draws of the base, carried along a bijection of u for each parameter and observation;
    `log_prob` is the density of these draws by the change of variables, exactly. What is
    approximate is the bijection: the base's marginals are known from 1,000 draws.

    Args:
        base: what was repaired.
        shape: of the truths' scores.
        info: provenance.
        training_seeds: of all simulations that were used.
    """

    method: ClassVar[str] = "recalibrate"

    def __init__(self, base: Any, shape: ScoreShape, **common: Any) -> None:
        super().__init__(base, **common)
        self.shape = shape
        self._reach = Reach(self.parameters)

    @one_or_many
    def sample_and_log_prob(
        self,
        x: Tensor | np.ndarray,
        n: int,
        seed: int | None = None,
        time_limit: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See `Posterior.sample_and_log_prob`."""
        n, seed, time_limit = checked_request(n, seed, time_limit)
        begun, space = time.monotonic(), self.parameters
        draws, log_q = self.base.sample_and_log_prob(x, n, seed, time_limit)
        if not draws.numel():
            return draws, log_q
        left = None if time_limit is None else begun + time_limit - time.monotonic()
        scores, _ = self.marginals(x, left)
        u = self._finite(space.to_unconstrained(draws))
        s, first = scores.forward(u)
        moved, second = self.shape.forward(s)
        v, third = scores.inverse(moved)
        v = self._finite(v)
        stretched = (first + second + third).sum(-1)  # log dv/du
        log_q = log_q - space.log_abs_det_at(u, draws) - stretched
        self._keep(v, log_q, derive(seed, _AGAIN))
        theta = space.from_unconstrained(v)
        return theta, log_q + space.log_abs_det_at(v, theta) - self._log_mass(x)

    def _keep(self, v: Tensor, log_q: Tensor, seed: int) -> None:
        """Put others in the place of draws that were carried beyond the prior's reach."""
        outside = ~self._reach.inside(v)
        for i in outside.any(1).nonzero()[:, 0].tolist():
            good, rng = (~outside[i]).nonzero()[:, 0], np.random.default_rng(derive(seed, i))
            if not len(good):
                v[i] = v[i].clamp(self._reach.low, self._reach.high)
                continue
            picks = good[torch.from_numpy(rng.integers(len(good), size=int(outside[i].sum())))]
            v[i, outside[i]], log_q[i, outside[i]] = v[i, picks], log_q[i, picks]

    def _log_mass(self, x: Tensor | np.ndarray) -> Tensor:
        """log of the mass that stays within the prior's reach, (B, 1): densities lack it."""
        if not self._reach.bounded:
            return torch.zeros(1, 1, dtype=torch.float64)
        scores, s = self.marginals(x)
        share = self._reach.inside(scores.inverse(self.shape.forward(s)[0])[0]).double().mean(1)
        return share.clamp(min=0.5 / s.shape[1]).log()[:, None]

    @one_or_many
    def log_prob(self, theta: Tensor | np.ndarray, x: Tensor | np.ndarray) -> Tensor:
        """See `Posterior.log_prob`."""
        values, x = self._pair(theta, x)
        flat, inside, flatten = inside_support(values, x, self.parameters)
        back, stretched = self._back(flat, x)
        origin = self.parameters.from_unconstrained(back)
        log_q = self.base.log_prob(origin, x) - self.parameters.log_abs_det_at(back, origin)
        log_q = log_q + stretched + self.parameters.log_abs_det(flat) - self._log_mass(x)
        inside &= self._reach.inside(self.parameters.to_unconstrained(flat))
        return flatten(log_q.where(inside, torch.tensor(-torch.inf, dtype=torch.float64)))

    @one_or_many
    def latent(self, theta: Tensor | np.ndarray, x: Tensor | np.ndarray, seed: int = 0) -> Tensor:
        """See `Posterior.latent`."""
        if not hasattr(self.base, "latent"):
            raise PosteriorError(
                "latent", expected="a base that maps theta to a normal latent",
                got=repr(self.base), fix="recalibrate a posterior of npe, fmpe or npse",
            )  # fmt: skip
        values, x = self._pair(theta, x)
        flat, _, _ = inside_support(values, x, self.parameters)
        origin = self.parameters.from_unconstrained(self._back(flat, x)[0])[:, 0]
        return self.base.latent(origin, x, seed)

    def _back(self, theta: Tensor, x: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
        """u of the base's draw that was carried to theta (B, n, P), and log |det du/dv| (B, n)."""
        scores, _ = self.marginals(x)
        v = self._finite(self.parameters.to_unconstrained(theta))
        moved, first = scores.forward(v)
        s, second = self.shape.inverse(moved)
        u, third = scores.inverse(s)
        return self._finite(u), (first + second + third).sum(-1)

    @staticmethod
    def _finite(u: Tensor) -> Tensor:
        return u.clamp(-_FARTHEST, _FARTHEST)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """See `RepairedPosterior.state`."""
        return {}, {"shape": torch.from_numpy(self.shape.numbers)}

    @classmethod
    def from_state(
        cls, base: Any, values: dict[str, Any], tensors: dict[str, Tensor], **common: Any
    ) -> Self:
        """See `RepairedPosterior.from_state`."""
        return cls(base, ScoreShape(tensors["shape"].numpy()), **common)
