"""What the ten tasks have in common: a simulator, a prior, a likelihood and exact draws."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Distribution

from sbitools import FieldSpec, Parameter, ParameterSpace
from sbitools.priors import Prior

from .smc import tempered_draws

__all__ = ["Array", "Task", "generators", "space"]

Array = NDArray[Any]


class Task(ABC):
    """A simulator of `sbitools` with what is needed to judge a posterior.

    Theta of `parameters` is what a store holds; `natural` turns it into the coordinates in which
    the task is defined and posteriors are compared. They differ only where the task's prior is
    correlated, since the parameters of a `ParameterSpace` are independent.

    Args:
        name: of the task, as published.
        parameters: the prior; all parameters are dimensionless.
        n_data: D, numbers in one observation.
    """

    source: FieldSpec | None = None
    group_size = 1

    def __init__(self, name: str, parameters: ParameterSpace, n_data: int) -> None:
        self.name, self.parameters = name, parameters
        self.output = FieldSpec("x", ("i",), (n_data,))

    def simulate(self, theta: Tensor, seeds: Tensor) -> Tensor:
        """Data (B, D) float32 for theta (B, P) float64; row i depends on seed i alone."""
        data = self.draw(self.natural(theta.numpy()), seeds.tolist())
        return torch.from_numpy(data.astype(np.float32))

    @abstractmethod
    def draw(self, theta: Array, seeds: Sequence[int]) -> Array:
        """Data (B, D) for natural theta (B, P), one generator per seed."""

    @abstractmethod
    def log_likelihood(self, theta: Array, x: Array) -> Array:
        """log p(x | theta), up to a constant of x, shape (n,) for natural theta (n, P)."""

    @abstractmethod
    def prior(self) -> Distribution:
        """The prior of natural theta, for packages that take one of `torch.distributions`."""

    def natural(self, theta: Array) -> Array:
        """Natural coordinates (n, P) of theta (n, P)."""
        return theta

    def reference(self, x: Array, n: int, seed: int) -> Array:
        """Natural theta (n, P) of the posterior given x (D,).

        Exact where a task says so; here a tempered sequential Monte Carlo of the exact likelihood.
        """
        u = tempered_draws(self._of_unconstrained(x), len(self.parameters), n, seed)
        return self.natural(self.parameters.from_unconstrained(torch.from_numpy(u)).numpy())

    def _of_unconstrained(self, x: Array) -> Callable[[Array], Array]:
        def log_likelihood(u: Array) -> Array:
            theta = self.parameters.from_unconstrained(torch.from_numpy(u)).numpy()
            return self.log_likelihood(self.natural(theta), x)

        return log_likelihood


def space(names: Sequence[str], priors: Sequence[Prior]) -> ParameterSpace:
    """Parameters `names`, all dimensionless, with these priors."""
    return ParameterSpace([Parameter(n, p) for n, p in zip(names, priors, strict=True)])


def generators(seeds: Sequence[int]) -> Iterator[np.random.Generator]:
    """One generator per simulation, so that no simulation depends on its batch."""
    return (np.random.Generator(np.random.PCG64(int(seed))) for seed in seeds)
