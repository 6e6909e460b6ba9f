"""A `ParameterSpace` as a prior that `sbi` takes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, biject_to, constraints

from sbitools import priors
from sbitools.errors import ParameterError
from sbitools.parameters import ParameterSpace, as_space
from sbitools.priors import TorchPrior

from .rounding import ends, from_single, in_order, to_single

__all__ = ["SpacePrior", "prior_for_sbi"]

_POINTS = 1 << 14  # whose mean and variance are those of the prior, to some 1e-3


def prior_for_sbi(parameters: ParameterSpace) -> Distribution:
    """A prior of the inferred parameters for `sbi`, float32, columns in their order.

    Args:
        parameters: of which those with ``inferred=False`` are left out.

    Returns:
        A `BoxUniform` if all are `priors.Uniform` and independent, else a `SpacePrior`.

    Raises:
        ParameterError: for categorical parameters, and for no parameters.

    Example:
        >>> from sbi.inference import NPE  # doctest: +SKIP
        >>> inference = NPE(prior_for_sbi(store.parameters))  # doctest: +SKIP
    """
    space = as_space(parameters).inferred
    prior = SpacePrior(space)
    if space.blocks or not all(isinstance(p.prior, priors.Uniform) for p in space):
        return prior
    from sbi.utils import BoxUniform

    low, high = ends(space)
    return BoxUniform(low.float(), high.float())


class SpacePrior(Distribution):
    """The prior of a `ParameterSpace` as a distribution of torch: batched, with its support.

    Draws come from torch's global generator, as those of every distribution of torch do, and are
    float32 inside the support; densities are worked out in float64.

    Args:
        space: continuous parameters, one at least.

    Raises:
        ParameterError: for categorical parameters, and for no parameters.
    """

    def __init__(self, space: ParameterSpace) -> None:
        codes = [p.name for p in space if p.categories]
        if codes or not len(space):
            raise ParameterError(
                "prior for sbi", expected="one inferred parameter or more, all continuous",
                got=f"{space.names}, categorical: {codes}",
                fix="set inferred=False for the others",
            )  # fmt: skip
        self.space = space
        table = space.design(_POINTS, 0, "sobol")
        self._mean, self._variance = table.mean(0).float(), table.var(0).float()
        super().__init__(event_shape=torch.Size([len(space)]), validate_args=False)

    def __repr__(self) -> str:
        return f"SpacePrior({self.space!r})"

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """None: it has no tensors as arguments."""
        return {}

    @property
    def support(self) -> constraints.Constraint:
        """Intervals, half lines and lines, one for each parameter; of these, what is in order."""
        each = [_constraint(p.prior) for p in self.space]
        every = constraints.independent(constraints.cat(each, -1, [1] * len(each)), 1)
        return _InOrder(self.space, every) if in_order(self.space) else every

    @property
    def mean(self) -> Tensor:
        """Of each parameter, from a Sobol set, shape (P,)."""
        return self._mean

    @property
    def variance(self) -> Tensor:
        """Of each parameter, from a Sobol set, shape (P,)."""
        return self._variance

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008  (as torch has it)
        """Theta of shape (*sample_shape, P), float32."""
        shape, seed = torch.Size(sample_shape), int(torch.randint(1 << 62, ()))
        theta = to_single(self.space.design(shape.numel(), seed), self.space)
        return theta.reshape(*shape, len(self.space)).to(self._mean.device)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density, shape (...,) for theta (..., P), minus infinity outside the support."""
        theta = from_single(torch.as_tensor(value).cpu(), self.space)
        return self.space.log_prob(theta).float().to(self._mean.device)

    def to(self, device: str | torch.device) -> None:
        """Put draws and densities on a device, as `sbi` asks its priors to."""
        self._mean, self._variance = self._mean.to(device), self._variance.to(device)


class _InOrder(constraints.Constraint):
    """The support of parameters that bound each other, as a <= b do.

    Args:
        space: of the parameters.
        every: the support if they did not.
    """

    event_dim = 1

    def __init__(self, space: ParameterSpace, every: Any) -> None:
        self.space, self.every = space, every
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Whether theta (..., P) have a density, (...,)."""
        inside = torch.isfinite(self.space.log_prob(from_single(value.cpu(), self.space)))
        return inside.to(value.device)


# Chains of sbi run in coordinates without the bounds of each parameter.
biject_to.register(_InOrder, lambda constraint: biject_to(constraint.every))


def _constraint(prior: Any) -> Any:
    if isinstance(prior, TorchPrior):
        return prior._dist.support
    low, high = (torch.tensor(v, dtype=torch.float32) for v in (prior.low, prior.high))
    if bool(low.isfinite() & high.isfinite()):
        return constraints.interval(low, high)
    if bool(low.isfinite()):
        return constraints.greater_than(low)
    return constraints.less_than(high) if bool(high.isfinite()) else constraints.real
