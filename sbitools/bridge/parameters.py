"""Priors of other packages as a `ParameterSpace`: of torch, `sbi` and scipy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, LogNormal, Normal, Uniform

from sbitools import priors
from sbitools.errors import ParameterError
from sbitools.parameters import Parameter, ParameterSpace
from sbitools.priors import TORCH_NAMES, Prior, TorchPrior

from .rounding import shortest

__all__ = ["parameters_from"]


def parameters_from(
    prior: Any, names: Sequence[str] | None = None, units: Sequence[str] | None = None
) -> ParameterSpace:
    """The `ParameterSpace` of a prior that another package made.

    Numbers of float32 become the decimal numbers that were meant: 0.1, not 0.10000000149.

    Args:
        prior: `BoxUniform` or `MultipleIndependent` of `sbi`; a univariate distribution of
            `torch.distributions`, of any batch shape, or `Independent` of one; a
            `MultivariateNormal` without correlations; a frozen univariate distribution of
            `scipy.stats`; or a list of these, one after the other.
        names: of the parameters; ``theta_0``, ``theta_1``, ... if None.
        units: of the parameters; dimensionless if None.

    Raises:
        ParameterError: for correlated parameters, which are a joint prior: see
            `sbitools.priors.multivariate_normal` and `joint_of`; for distributions that it does
            not know; for names or units that are too many or too few.

    Example:
        >>> import torch
        >>> parameters_from(torch.distributions.Uniform(torch.zeros(2), torch.ones(2)), ["a", "b"])
        ParameterSpace(['a', 'b'])
    """
    found = _priors(prior)
    n = len(found)
    names = [f"theta_{i}" for i in range(n)] if names is None else list(names)
    units = [""] * n if units is None else list(units)
    for what, given in (("names", names), ("units", units)):
        if len(given) != n:
            raise ParameterError(
                f"{what} of the parameters", expected=f"{n}, one for each of {found}",
                got=f"{len(given)}: {given}", fix="name them in the order of the prior's columns",
            )  # fmt: skip
    return ParameterSpace(
        [Parameter(a, p, unit=u) for a, p, u in zip(names, found, units, strict=True)]
    )


def _priors(prior: Any) -> list[Prior]:
    """Priors of the columns, in their order."""
    if isinstance(prior, list | tuple):
        return [one for part in prior for one in _priors(part)]
    if hasattr(prior, "dists"):  # of sbi's MultipleIndependent
        return _priors(list(prior.dists))
    if isinstance(prior, Independent):
        return _priors(prior.base_dist)
    if hasattr(prior, "covariance_matrix"):
        return _normals(prior.mean, prior.covariance_matrix)
    if isinstance(prior, Distribution):
        # What sbi puts around a prior to change the dtype or shape of what it returns.
        inner = getattr(prior, "prior", None)
        return _priors(inner) if isinstance(inner, Distribution) else _of_torch(prior)
    if hasattr(prior, "dist") and hasattr(prior, "kwds"):
        return _of_scipy(prior)
    if hasattr(prior, "cov_object") or (hasattr(prior, "mean") and hasattr(prior, "cov")):
        return _normals(torch.as_tensor(prior.mean), torch.as_tensor(prior.cov))
    raise _unknown(repr(prior))


def _unknown(got: str) -> ParameterError:
    return ParameterError(
        "foreign prior", expected=f"univariate distributions of torch ({', '.join(TORCH_NAMES)}), "
        f"frozen ones of scipy ({', '.join(sorted(_SCIPY))}), or several of them, independent",
        got=got, fix="give the ParameterSpace by priors of sbitools.priors",
    )  # fmt: skip


def _normals(mean: Tensor, covariance: Tensor) -> list[Prior]:
    """Normal priors of a covariance (P, P) without correlations."""
    if mean.ndim != 1 or covariance.ndim != 2:
        raise _unknown(f"a normal distribution of batch shape {tuple(mean.shape[:-1])}")
    if bool((covariance - torch.diag(covariance.diagonal())).any()):
        raise ParameterError(
            "foreign prior", expected="independent parameters",
            got="a normal distribution with correlations, which are not supported here",
            fix="ParameterSpace(parameters, joint=[priors.multivariate_normal(names, mean, "
            "covariance)])",
        )  # fmt: skip
    scale = covariance.diagonal().sqrt()
    return [priors.Normal(_meant(m), _meant(s)) for m, s in zip(mean, scale, strict=True)]


def _of_torch(prior: Distribution) -> list[Prior]:
    """Those of a univariate distribution, one for each element of its batch."""
    name = type(prior).__name__
    if name not in TORCH_NAMES or prior.event_shape or len(prior.batch_shape) > 1:
        raise _unknown(f"{prior} of batch shape {tuple(prior.batch_shape)}")
    args = [k for k in prior.arg_constraints if k not in ("logits", "probs") and hasattr(prior, k)]
    columns = [torch.as_tensor(getattr(prior, k)).expand(prior.batch_shape) for k in args]
    rows = [
        {k: _meant(column.reshape(-1)[i]) for k, column in zip(args, columns, strict=True)}
        for i in range(prior.batch_shape.numel())
    ]
    plain: Callable[..., Prior] | None = {
        Uniform: priors.Uniform, Normal: priors.Normal, LogNormal: priors.LogNormal,
    }.get(type(prior))  # fmt: skip
    if plain is not None:
        return [plain(**row) for row in rows]
    return [TorchPrior(TorchPrior.build(name, row)) for row in rows]


def _meant(value: Tensor) -> float:
    number = float(value)
    return shortest(number) if value.dtype == torch.float32 else number


def _torch(name: str, **args: float) -> Prior:
    return TorchPrior(TorchPrior.build(name, args))


# A frozen distribution of scipy as a prior, by its shapes, loc and scale.
_SCIPY: dict[str, Callable[..., Prior]] = {
    "uniform": lambda loc, scale: priors.Uniform(loc, loc + scale),
    "norm": priors.Normal,
    "truncnorm": lambda a, b, loc, scale: priors.TruncatedNormal(
        loc, scale, loc + a * scale, loc + b * scale),
    "loguniform": lambda a, b, loc, scale: _at(0, loc, priors.LogUniform, a * scale, b * scale),
    "lognorm": lambda s, loc, scale: _at(0, loc, priors.LogNormal, float(np.log(scale)), s),
    "expon": lambda loc, scale: _at(0, loc, _torch, "Exponential", rate=1 / scale),
    "gamma": lambda a, loc, scale: _at(
        0, loc, _torch, "Gamma", concentration=a, rate=1 / scale),
    "invgamma": lambda a, loc, scale: _at(
        0, loc, _torch, "InverseGamma", concentration=a, rate=scale),
    "beta": lambda a, b, loc, scale: _at(
        1, scale, _at, 0, loc, _torch, "Beta", concentration1=a, concentration0=b),
    "halfnorm": lambda loc, scale: _at(0, loc, _torch, "HalfNormal", scale=scale),
    "halfcauchy": lambda loc, scale: _at(0, loc, _torch, "HalfCauchy", scale=scale),
    "cauchy": lambda loc, scale: _torch("Cauchy", loc=loc, scale=scale),
    "laplace": lambda loc, scale: _torch("Laplace", loc=loc, scale=scale),
    "gumbel_r": lambda loc, scale: _torch("Gumbel", loc=loc, scale=scale),
    "t": lambda df, loc, scale: _torch("StudentT", df=df, loc=loc, scale=scale),
    "weibull_min": lambda c, loc, scale: _at(
        0, loc, _torch, "Weibull", scale=scale, concentration=c),
}  # fmt: skip
_SCIPY["reciprocal"] = _SCIPY["loguniform"]


def _at(
    expected: float, value: float, build: Callable[..., Prior], *args: Any, **more: Any
) -> Any:
    """`build(...)`, if loc is 0 or scale is 1 where a prior of ours has neither."""
    if value != expected:
        raise ParameterError(
            "foreign prior", expected=f"loc=0, and scale=1 for beta: here {expected}",
            got=f"{value}", fix="shift and scale the parameter in the simulator",
        )  # fmt: skip
    return build(*args, **more)


def _of_scipy(prior: Any) -> list[Prior]:
    """Those of a frozen distribution of scipy, one for each element of its arguments."""
    name = getattr(prior.dist, "name", type(prior.dist).__name__)
    if name not in _SCIPY:
        raise _unknown(f"{name} of scipy.stats")
    shapes, loc, scale = prior.dist._parse_args(*prior.args, **prior.kwds)
    columns = np.broadcast_arrays(*shapes, loc, scale)
    if columns[0].ndim > 1:
        raise _unknown(f"{name} of scipy.stats with arguments of shape {columns[0].shape}")
    rows = np.stack([np.atleast_1d(c).astype(np.float64) for c in columns], axis=1)
    return [_SCIPY[name](*row.tolist()) for row in rows]
