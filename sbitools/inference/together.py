"""Several independent observations of one theta, by a likelihood or ratio learned of one.

p(theta | x_1 ... x_n) is p(theta) times the product of p(x_i | theta): logarithms are added, and
chains explore the sum as they do one of them.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbitools import seeds as seeds_
from sbitools.embeddings.members import in_own_order, own_order, reordered
from sbitools.errors import ObservationError, PosteriorError
from sbitools.gate.arrays import real_tensor
from sbitools.gate.plain import whole
from sbitools.observation.entry import in_dtype

from .mcmc import MCMCPosterior, Unnormalised
from .one_or_many import one_or_many

__all__ = ["TogetherPosterior"]

# Pairs of a theta and a member whose likelihood is worked out at once.
_AT_ONCE = 1 << 15
_MEMBER_NOISE = 91  # key of the seeds of each member's noise


class _Sum(Unnormalised):
    """The sum of the members' log ratios.

    Args:
        single: of one observation.
        members: how many there are.
    """

    def __init__(self, single: Any, members: int) -> None:
        super().__init__(single.space)
        self.single, self.members = single, members

    def features(self, x: Tensor) -> Tensor:
        """Features (B, n, F) of sets (B, n, *shape)."""
        return self.single.features(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def log_ratio(self, u: Tensor, features: Tensor) -> Tensor:
        """Sum of log p(x_i | u) up to a constant, (B, n), for u (B, n, P)."""
        per = max(1, _AT_ONCE // max(1, u.shape[0] * u.shape[1]))
        total = torch.zeros(u.shape[:2], dtype=torch.float64)
        for some in features.split(per, dim=1):
            k = some.shape[1]
            value = self.single.log_ratio(u.repeat_interleave(k, 0), some.flatten(0, 1))
            for one in value.double().cpu().unflatten(0, (-1, k)).unbind(1):
                total += one  # one by one: rounding does not depend on how many fit at once
        return total


class TogetherPosterior(MCMCPosterior):
    """A posterior of theta given n independent observations: x is a set of n fields.

    It is asked like any other posterior; `log_prob` lacks a constant for each set.

    Args:
        single: the posterior of one observation.
        members: observations in a set.

    Raises:
        PosteriorError: for a number of members below 1, or a posterior of sets already.
    """

    def __init__(self, single: MCMCPosterior, members: int) -> None:
        members = whole(members, "members of together", least=1, error=PosteriorError)
        if isinstance(single, TogetherPosterior) or single.output.member is not None:
            raise PosteriorError(
                "together", expected="a posterior of single observations",
                got=f"one of sets of {single.output.shape[0]}",
                fix="ask the posterior of one observation for all of them together",
            )  # fmt: skip
        super().__init__(
            _Sum(single.estimator, members), single.options, single.parameters, single.output,
            single.observation, dict(single.info), training_seeds=single.training_seeds,
        )  # fmt: skip
        self.single, self.members = single, members
        self.output, self.observed = single.output.set_of(members), single.observed.set_of(members)

    @partial(one_or_many, field="output")
    def observe(self, x: Tensor | np.ndarray, seeds: Tensor) -> Tensor:
        """See `Posterior.observe`: every member has noise of its own."""
        x = in_dtype(real_tensor(x, "simulated x", ObservationError, self.output), self.output)
        self.output.check(x, what="simulated x")
        numbers = torch.as_tensor(seeds).reshape(-1)
        own = [seeds_.mix(numbers, seeds_.derive(i, _MEMBER_NOISE)) for i in range(self.members)]
        found = self.observation(x.flatten(0, 1), torch.stack(own, 1).flatten())
        return found.unflatten(0, x.shape[:2])

    def save(self, path: str | Path) -> Path:
        """Refused: nothing was learned but the posterior of one observation.

        Raises:
            PosteriorError: always.
        """
        raise PosteriorError(
            "save of a posterior of several observations", expected="the posterior of one",
            got=f"one of {self.members} together",
            fix="save that one, and call Posterior.load(path).together(n)",
        )  # fmt: skip

    def _features(self, x: Tensor, deadline: float = math.inf, asked: str = "") -> Tensor:
        """Of members, a few at a time, (B, n, F), in their own order."""
        found = self.single._features(in_own_order(x).flatten(0, 1), deadline, asked)
        return found.unflatten(0, x.shape[:2]) if len(x) else found

    def _warn_of(self, x: Tensor, features: Tensor, level: int = 7) -> bool:
        back = own_order(x).argsort(1)
        flat = reordered(features.cpu(), back).flatten(0, 1)
        return self.single._warn_of(x.flatten(0, 1), flat, level + 1)
