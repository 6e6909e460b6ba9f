"""Posteriors of categorical parameters, alone or together with continuous ones.

The loss is -log p(d | x) - log q(u | x, d), see `mixed`: a proper score (Gneiting & Raftery 2007),
whose minimum over all networks is the true posterior, probabilities and densities alike.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbitools import seeds as seeds_
from sbitools.errors import ParameterError, PosteriorError
from sbitools.gate.plain import whole
from sbitools.networks.precision import single_precision
from sbitools.parameters import Parameter, ParameterSpace
from sbitools.priors import Categorical
from sbitools.priors.normal_mixture import checked_weights

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
    @single_precision()
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

        Warns:
            MisspecificationWarning: if an x is unlike the simulations of training: of models none
                of which makes such x, one still gets the largest probability.
        """
        return self._log_table(x, names).exp()

    @one_or_many
    @single_precision()
    @torch.no_grad()
    def log_bayes_factor(
        self, x: Tensor | np.ndarray, first: str | int, second: str | int, *,
        parameter: str | None = None,
    ) -> Tensor:  # fmt: skip
        """log p(x | first) - log p(x | second), natural logarithms, of two categories.

        The odds of their posterior probabilities, divided by those of the prior: it does not
        depend on prior probabilities of the categories. All other parameters are integrated out.

        Args:
            x: observed fields, shape (B, *observed.shape), or one field.
            first: a category, by name or code.
            second: another one.
            parameter: whose categories they are; may be None if only one has any.

        Returns:
            float64 of shape (B,), or one number for one field.

        Raises:
            ObservationError: if x has another shape or is not finite.
            PosteriorError: for categories that do not exist, or have no prior probability.

        Warns:
            MisspecificationWarning: if an x is unlike the simulations of training.
        """
        named = [self.parameters[i] for i in self.estimator.discrete]
        chosen = [p for p in named if p.name == (parameter or named[0].name)]
        if not chosen or (parameter is None and len(named) > 1):
            raise PosteriorError(
                "parameter of log_bayes_factor", expected=f"one of {[p.name for p in named]}",
                got=repr(parameter), fix="name the one whose categories are compared",
            )  # fmt: skip
        codes = [_code(chosen[0], which) for which in (first, second)]
        prior = torch.tensor(_probabilities_of(chosen[0]), dtype=torch.float64).log()
        evidence = self._log_table(x, (chosen[0].name,)) - prior
        return evidence[:, codes[0]] - evidence[:, codes[1]]

    def with_prior(
        self, probabilities: Mapping[str, float] | Sequence[float]
    ) -> DiscretePosterior:
        """The same posterior for other prior probabilities, exactly: nothing is trained again.

        Args:
            probabilities: of the categories, by name or in order; positive, with the sum 1.

        Raises:
            PosteriorError: if there are other parameters than one with categories.
            ParameterError: for other numbers.
        """
        if len(self.parameters) != 1:
            raise PosteriorError(
                "with_prior", expected="a posterior of one categorical parameter alone",
                got=f"one of {self.parameters.names}",
                fix="train again, with the other prior in the parameters of the store",
            )  # fmt: skip
        parameter = self.parameters[0]
        before = _probabilities_of(parameter)
        if min(before) <= 0:
            raise PosteriorError(
                "with_prior", expected="categories that were all trained", got=f"{before}",
                fix="train again, with simulations of all categories",
            )  # fmt: skip
        numbers = self.checked_prior(probabilities, parameter.categories or ())
        space = ParameterSpace([replace(parameter, prior=Categorical(numbers))])
        estimator = copy.deepcopy(self.estimator)
        estimator.set_prior(numbers)
        other = type(self)(
            estimator, self.options, space, self.output, self.observation, dict(self.info),
            training_seeds=self.training_seeds,
        )  # fmt: skip
        other.familiarity = self.familiarity
        return other

    @staticmethod
    def checked_prior(
        probabilities: Mapping[str, float] | Sequence[float], names: Sequence[str]
    ) -> tuple[float, ...]:
        """Positive probabilities of categories, in order.

        Args:
            probabilities: by name, or in order.
            names: of the categories.

        Raises:
            ParameterError: for other names, another number of them, or no such probabilities.
        """
        given = probabilities
        if isinstance(given, Mapping):
            fits = set(given) == set(names)
            given = [given[name] for name in names] if fits else ()
        else:
            fits = np.shape(given) == (len(names),)
        if not fits:
            raise ParameterError(
                "prior probabilities", expected=f"one for each of {list(names)}",
                got=f"{probabilities!r}"[:200], fix="give them by name",
            )  # fmt: skip
        return checked_weights(given, "prior probabilities")

    def _log_table(self, x: Tensor | np.ndarray, names: Sequence[str]) -> Tensor:
        """Log of `probabilities`."""
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
        self._warn_of(x, features)
        tables = [
            _marginal(self.estimator.log_table(features[i : i + per], n), axes).cpu()
            for i in range(0, len(x), per)
        ]
        return torch.cat(tables)

    def _probe_at(self, x: Tensor, seeds: list[int]) -> Tensor:
        u = seeds_.normal(seeds, (1, len(self.parameters)))
        for i, size in zip(self.estimator.discrete, self.estimator.sizes, strict=True):
            u[..., i] = torch.tensor(seeds, dtype=u.dtype)[:, None] % size
        return self.estimator.log_prob(u, self.estimator.features(x))


def _marginal(table: Tensor, axes: list[int]) -> Tensor:
    """Of log probabilities (B, K_1, ...): these axes, in this order; the others summed over."""
    others = [1 + i for i in range(table.ndim - 1) if i not in axes]
    table = table.logsumexp(others) if others else table
    return table.permute(0, *(1 + sorted(axes).index(i) for i in axes))


def _probabilities_of(parameter: Parameter) -> tuple[float, ...]:
    prior: Any = parameter.prior
    return prior.probabilities


def _code(parameter: Parameter, which: str | int) -> int:
    """Code of a category that has a prior probability."""
    names = list(parameter.categories or ())
    expected = f"a category of {parameter.name!r}, one of {names}, or its code"
    if isinstance(which, str):
        code = names.index(which) if which in names else -1
    else:
        what = "category of log_bayes_factor"
        code = whole(which, what, least=0, most=len(names) - 1, error=PosteriorError)
    if code < 0 or _probabilities_of(parameter)[code] <= 0:
        raise PosteriorError(
            "category of log_bayes_factor", expected=expected,
            got=repr(which) if code < 0 else f"{which!r}, whose prior probability is 0",
            fix="correct the name",
        )  # fmt: skip
    return code


def _coordinates(parameters: ParameterSpace, theta: Tensor) -> Tensor:
    return CodedSpace(parameters).to_unconstrained(theta)


METHODS = {
    "discrete": Method(
        "discrete", "discrete posteriors", DiscreteEstimatorOptions, DiscreteOptions,
        MixedEstimator, DiscretePosterior, fit_network, _coordinates, categorical=True,
        adapt=vector_options,
    )
}  # fmt: skip
