"""Multivariate distributions of `torch.distributions` as joint priors.

What is a normal vector, brought into its support number by number, is a Gaussian copula of the
priors that this gives each of them: sampled, evaluated and marginalised exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributions
from torch.distributions import transforms as tt

from sbitools.errors import ParameterError
from sbitools.priors.base import Prior
from sbitools.priors.standard import LogNormal, Normal, Uniform
from sbitools.priors.transformed import Step, Transformed
from sbitools.priors.wrapped import TORCH_NAMES, TorchPrior

from .copula import Copula
from .matrices import covariance_of, rows_of

__all__ = ["joint_of"]

_PLAIN = {
    tt.ExpTransform: "exp", tt.SigmoidTransform: "sigmoid", tt.TanhTransform: "tanh",
    tt.SoftplusTransform: "softplus",
}  # fmt: skip
_KNOWN = (
    "MultivariateNormal, LowRankMultivariateNormal, Independent of univariate ones, or "
    "TransformedDistribution of a normal one by affine, exp, sigmoid, tanh, softplus and power"
)


def joint_of(names: Sequence[str], distribution: distributions.Distribution) -> Copula:
    """A joint prior from a distribution of k numbers; its parameters need no other priors.

    Args:
        names: of k parameters, in the order of the distribution.
        distribution: one of ``MultivariateNormal``, ``LowRankMultivariateNormal``,
            ``Independent`` of univariate distributions, and ``TransformedDistribution`` of a
            normal one by transforms that act on each number by itself.

    Raises:
        ParameterError: for any other one: its density, or its support (a simplex, a matrix), has
            no exact map here.
    """
    names = tuple(names)
    if not isinstance(distribution, distributions.Distribution):
        raise _refused(f"{type(distribution).__name__}")
    shape = tuple(distribution.batch_shape), tuple(distribution.event_shape)
    if shape != ((), (len(names),)):
        raise ParameterError(
            f"distribution of {', '.join(map(str, names))}",
            expected=f"batch shape () and event shape ({len(names)},)",
            got=f"{shape[0]} and {shape[1]}", fix="wrap scalar ones in Independent(..., 1)",
        )  # fmt: skip
    inner = distribution
    while isinstance(inner, distributions.Independent):
        inner = inner.base_dist
    name = type(inner).__name__
    if name in TORCH_NAMES and tuple(inner.batch_shape) == (len(names),):
        eye = rows_of(torch.eye(len(names), dtype=torch.float64))
        laws = tuple(_univariate(inner, j) for j in range(len(names)))
        return Copula(names, eye, marginals=laws)
    mean, covariance, steps = _normal(inner, len(names))
    scale, correlation = covariance_of(covariance, len(names), f"covariance of {names}")
    signs, laws = [], []
    for m, s, own in zip(mean.tolist(), scale.tolist(), steps, strict=True):
        sign = _sign(own)
        signs.append(sign)
        laws.append(_law(m, s, own) if sign > 0 else _law(-m, s, [("affine", 0.0, -1.0), *own]))
    flip = torch.tensor(signs, dtype=torch.float64)
    return Copula(names, rows_of(correlation * flip * flip[:, None]), marginals=tuple(laws))


def _univariate(d: Any, j: int) -> Prior:
    args = [k for k in d.arg_constraints if k not in ("logits", "probs") and hasattr(d, k)]
    values = {k: float(getattr(d, k).double().expand(d.batch_shape)[j]) for k in args}
    own = {"Normal": Normal, "LogNormal": LogNormal, "Uniform": Uniform}.get(type(d).__name__)
    if own is not None:
        return own(*values.values())
    return TorchPrior(TorchPrior.build(type(d).__name__, values))


def _normal(d: Any, k: int) -> tuple[Tensor, Tensor, list[list[Step]]]:
    """Mean, covariance, and what is done to each of the k numbers."""
    if isinstance(d, distributions.Independent):
        return _normal(d.base_dist, k)
    if type(d) in (distributions.MultivariateNormal, distributions.LowRankMultivariateNormal):
        if tuple(d.batch_shape):
            raise _refused(f"{d} with a batch shape")
        # From the factors, in float64: a covariance that was put together in float32 is rounded.
        if isinstance(d, distributions.MultivariateNormal):
            factor = d.scale_tril.double()
            covariance = factor @ factor.T
        else:
            factor = d.cov_factor.double()
            covariance = factor @ factor.T + d.cov_diag.double().diag()
        return d.loc.double().expand(k), covariance, [[] for _ in range(k)]
    if type(d) is distributions.Normal:
        scale = d.scale.double().expand(k)
        return d.loc.double().expand(k), (scale**2).diag(), [[] for _ in range(k)]
    if type(d) in (distributions.TransformedDistribution, distributions.LogNormal):
        mean, covariance, steps = _normal(d.base_dist, k)
        for transform in d.transforms:
            steps = [a + b for a, b in zip(steps, _steps(transform, k), strict=True)]
        return mean, covariance, steps
    raise _refused(repr(d))


def _steps(f: Any, k: int) -> list[list[Step]]:
    """What a transform does to each of k numbers."""
    if isinstance(f, tt.ComposeTransform):
        out: list[list[Step]] = [[] for _ in range(k)]
        for part in f.parts:
            out = [a + b for a, b in zip(out, _steps(part, k), strict=True)]
        return out
    if isinstance(f, tt.IndependentTransform):
        return _steps(f.base_transform, k)
    if isinstance(f, tt.StackTransform) and len(f.transforms) == k:
        return [_steps(part, 1)[0] for part in f.transforms]
    if isinstance(f, tt.CatTransform) and sum(f.lengths) == k:
        parts = zip(f.transforms, f.lengths, strict=True)
        return [steps for part, n in parts for steps in _steps(part, n)]
    if isinstance(f, tt.AffineTransform):
        return [
            [("affine", a, b)] for a, b in zip(_each(f.loc, k), _each(f.scale, k), strict=True)
        ]
    if isinstance(f, tt.PowerTransform):
        return [[("power", e)] for e in _each(f.exponent, k)]
    if type(f) in _PLAIN:
        return [[(_PLAIN[type(f)],)] for _ in range(k)]
    if isinstance(f.inv, tt.ExpTransform):
        return [[("log",)] for _ in range(k)]
    raise _refused(f"{f}")


def _each(value: Any, k: int) -> list[float]:
    return torch.as_tensor(value, dtype=torch.float64).expand(k).tolist()


def _sign(steps: Sequence[Step]) -> int:
    """Whether a function increases or decreases: factors and powers may be negative."""
    return -1 if sum(len(step) > 1 and step[-1] < 0 for step in steps) % 2 else 1


def _law(loc: float, scale: float, steps: Sequence[Step]) -> Prior:
    """The plainest prior that is this one."""
    if not steps:
        return Normal(loc, scale)
    if list(steps) == [("exp",)]:
        return LogNormal(loc, scale)
    return Transformed(loc, scale, tuple(steps))


def _refused(got: str) -> ParameterError:
    return ParameterError(
        "joint distribution", expected=_KNOWN, got=got if len(got) < 200 else got[:197] + "...",
        fix="write it as a Copula of the priors of its parameters, or give joint_of_draws samples",
    )  # fmt: skip
