"""Posteriors of categorical parameters, alone or together with continuous ones.

The loss is -log p(d | x) - log q(u | x, d), see `mixed`: a proper score (Gneiting & Raftery 2007),
whose minimum over all networks is the true posterior, probabilities and densities alike.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbitools import seeds as seeds_
from sbitools.errors import PosteriorError
from sbitools.parameters import ParameterSpace

from .coded import CodedSpace
from .job import fit_network
from .methods import Method
from .mixed import DiscreteEstimatorOptions, MixedEstimator
from .one_or_many import one_or_many
from .options import CommonOptions
from .posterior import Posterior
from .vectors.training import vector_options

__all__ = ["METHODS", "DiscreteOptions", "DiscretePosterior"]

# Numbers in a table of joint probabilities: 8 MB for one observation.
_TABLE_NUMBERS = 1 << 20


class DiscreteOptions(DiscreteEstimatorOptions, CommonOptions):
    """Options of discrete and mixed posteriors: the network and its training, in one table."""


class DiscretePosterior(Posterior):
    """A posterior whose parameters, or some of them, are categorical.

    Draws hold codes as float64 in the columns of categorical parameters. ``log_prob`` is a log
    probability for these and a log density for the others, the log of their product if both.
    """

    estimator: MixedEstimator

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        # Codes are their own coordinates: with that, everything of `Posterior` holds.
        self.parameters = CodedSpace(self.parameters)

    @one_or_many
    @torch.no_grad()
    def probabilities(self, x: Tensor | np.ndarray, *names: str) -> Tensor:
        """Posterior probabilities of categories.

        Args:
            x: observed fields, shape (B, *observed.shape), or one field.
            names: categorical parameters, whose joint probabilities are asked for; none for all.

        Returns:
            float64 of shape (B, K) for one parameter, (B, K_1, K_2, ...) for several in the order
            of `names`, without B for one field; each row sums to 1.

        Raises:
            ObservationError: if x has another shape or is not finite.
            PosteriorError: for a parameter without categories, one named twice, or a table of
                more than a million numbers.
        """
        x = self._check(x)
        order = [self.parameters.names[i] for i in self.estimator.discrete]
        wanted = list(names) or order
        if not set(wanted) <= set(order) or len(set(wanted)) < len(wanted):
            raise PosteriorError(
                "probabilities", expected=f"categorical parameters out of {order}, each once",
                got=f"{wanted}", fix="use sample for continuous parameters",
            )  # fmt: skip
        axes = [order.index(name) for name in wanted]
        n = max(axes) + 1
        numbers = math.prod(self.estimator.sizes[:n])
        if numbers > _TABLE_NUMBERS:
            raise PosteriorError(
                "probabilities", expected=f"a table of {_TABLE_NUMBERS} numbers at most",
                got=f"{numbers} for {order[:n]}", fix="count the codes of draws from sample",
            )  # fmt: skip
        shape = [self.estimator.sizes[i] for i in axes]
        if not len(x):
            return torch.empty(0, *shape, dtype=torch.float64)
        features, per = self._features(x), max(1, _TABLE_NUMBERS // numbers)
        tables = [
            _marginal(self.estimator.table(features[i : i + per], n), axes).cpu()
            for i in range(0, len(x), per)
        ]
        return torch.cat(tables)

    def _probe_at(self, x: Tensor, seeds: list[int]) -> Tensor:
        u = seeds_.normal(seeds, (1, len(self.parameters)))
        for i, size in zip(self.estimator.discrete, self.estimator.sizes, strict=True):
            u[..., i] = torch.tensor(seeds, dtype=u.dtype)[:, None] % size
        return self.estimator.log_prob(u, self.estimator.features(x))


def _marginal(table: Tensor, axes: list[int]) -> Tensor:
    """Of a table (B, K_1, ...): these axes, in this order; the others are summed over."""
    others = [1 + i for i in range(table.ndim - 1) if i not in axes]
    table = table.sum(others) if others else table
    return table.permute(0, *(1 + sorted(axes).index(i) for i in axes))


def _coordinates(parameters: ParameterSpace, theta: Tensor) -> Tensor:
    return CodedSpace(parameters).to_unconstrained(theta)


METHODS = {
    "discrete": Method(
        "discrete", "discrete posteriors", DiscreteEstimatorOptions, DiscreteOptions,
        MixedEstimator, DiscretePosterior, fit_network, _coordinates, categorical=True,
        adapt=vector_options,
    )
}  # fmt: skip
