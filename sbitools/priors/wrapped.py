"""Any univariate continuous distribution of `torch.distributions` as a prior."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from sbitools.errors import ParameterError

from .base import REACH, Prior, ndtr, probit

__all__ = ["TORCH_NAMES", "TorchPrior"]

TORCH_NAMES = (
    "Beta", "Cauchy", "Chi2", "Exponential", "FisherSnedecor", "Gamma", "Gumbel", "HalfCauchy",
    "HalfNormal", "InverseGamma", "Kumaraswamy", "Laplace", "LogNormal", "Normal", "Pareto",
    "StudentT", "Uniform", "Weibull",
)  # fmt: skip


_SMALLEST = 2.0**-53  # probability that float64 tells from 0 and from 1


class TorchPrior(Prior):
    """Any univariate continuous distribution of `torch.distributions`.

    The real line is reached by torch's bijection for the support (log, logit or identity), so the
    prior of u is not normal but is known exactly.

    Args:
        distribution: an instance with scalar arguments, e.g. ``Gamma(2.0, 1.0)``.
    """

    kind: ClassVar[str] = "torch"

    def __init__(self, distribution: torch.distributions.Distribution) -> None:
        name = type(distribution).__name__
        if name not in TORCH_NAMES or distribution.batch_shape or distribution.event_shape:
            raise ParameterError(
                "prior torch", expected=f"a scalar distribution of {', '.join(TORCH_NAMES)}",
                got=repr(distribution), fix="use one parameter per scalar distribution",
            )  # fmt: skip
        self.name = name
        names = [k for k in distribution.arg_constraints if k not in ("logits", "probs")]
        self.args = {k: float(getattr(distribution, k)) for k in names if hasattr(distribution, k)}
        self._require(all(map(math.isfinite, self.args.values())), "finite arguments")
        self._dist = self.build(name, self.args)
        support = self._dist.support
        self.low = float(getattr(support, "lower_bound", -math.inf))
        self.high = float(getattr(support, "upper_bound", math.inf))
        self._map = torch.distributions.biject_to(support)

    @staticmethod
    def build(name: str, args: dict[str, float]) -> torch.distributions.Distribution:
        """The distribution of one of `TORCH_NAMES`, in float64."""
        values = {k: torch.tensor(float(v), dtype=torch.float64) for k, v in args.items()}
        kind = getattr(torch.distributions, name)
        kind(**values, validate_args=True)  # raises ValueError for arguments out of range
        return kind(**values, validate_args=False)

    def __repr__(self) -> str:
        return f"TorchPrior({self.name}, {self.args})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TorchPrior) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.name, *self.args.items()))

    def contains(self, theta: Tensor) -> Tensor:
        """True inside the support; a bound where u or the density is infinite is outside."""
        inside = torch.isfinite(theta) & (theta >= self.low) & (theta <= self.high)
        safe = theta.where(inside, self.from_unconstrained(torch.zeros_like(theta)))
        u = self._map.inv(safe)
        return inside & torch.isfinite(u) & torch.isfinite(self._dist.log_prob(safe))

    def to_dict(self) -> dict[str, Any]:
        """Name and scalar arguments."""
        return {"kind": self.kind, "name": self.name, "args": self.args}

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        return self._map.inv(theta)

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """See `Prior`."""
        return self._map(u)

    def log_prob(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        inside = self.contains(theta)
        safe = theta.where(inside, self.from_unconstrained(torch.zeros_like(theta)))
        value = self._dist.log_prob(safe)
        return value.where(inside, torch.tensor(-math.inf, dtype=torch.float64))

    def log_prob_unconstrained(self, u: Tensor) -> Tensor:
        """Density of u by the change of variables."""
        theta = self.from_unconstrained(u)
        return self._dist.log_prob(theta) + self._map.log_abs_det_jacobian(u, theta)

    def reach(self) -> tuple[float, float]:
        """See `Prior`."""
        tail = ndtr(torch.tensor(-REACH, dtype=torch.float64))
        low, high = self.to_unconstrained(self.icdf(torch.stack([tail, 1 - tail]))).tolist()
        return (low if math.isfinite(low) else -math.inf,
                high if math.isfinite(high) else math.inf)  # fmt: skip

    def normal_score(self, theta: Tensor) -> Tensor:
        """Phi^-1(F(theta)), to 1e-9 within five standard deviations; u is another number here."""
        p = self.cdf(theta)
        try:
            q = torch.as_tensor(_in_scipy(self.name, self.args).sf(theta.numpy()))
        except KeyError:  # those whose probabilities torch has
            q = 1 - p
        return probit(p.to(torch.float64), q.to(torch.float64))

    def from_normal_score(self, s: Tensor) -> Tensor:
        """See `Prior`; beyond 8.1 standard deviations it is the end of what float64 tells."""
        p = ndtr(s).clamp(_SMALLEST, 1 - _SMALLEST)
        try:
            q = ndtr(-s).clamp(_SMALLEST, 1 - _SMALLEST)
            above = torch.as_tensor(_in_scipy(self.name, self.args).isf(q.numpy()))
            return torch.where(s < 0, self.icdf(p), above)
        except KeyError:
            return self.icdf(p)

    def cdf(self, theta: Tensor) -> Tensor:
        """From torch where it has it, else from scipy's distribution."""
        try:
            return self._dist.cdf(theta)
        except NotImplementedError:
            return torch.as_tensor(_in_scipy(self.name, self.args).cdf(theta.numpy()))

    def icdf(self, p: Tensor) -> Tensor:
        """Quantiles from torch where it has them, else from scipy's distribution."""
        try:
            return self._dist.icdf(p)
        except NotImplementedError:
            return torch.as_tensor(_in_scipy(self.name, self.args).ppf(p.numpy()))


def _in_scipy(name: str, args: dict[str, float]) -> Any:
    from scipy import stats

    a = args
    frozen = {
        "Beta": lambda: stats.beta(a["concentration1"], a["concentration0"]),
        "Chi2": lambda: stats.chi2(a["df"]),
        "FisherSnedecor": lambda: stats.f(a["df1"], a["df2"]),
        "Gamma": lambda: stats.gamma(a["concentration"], scale=1 / a["rate"]),
        "InverseGamma": lambda: stats.invgamma(a["concentration"], scale=a["rate"]),
        "StudentT": lambda: stats.t(a["df"], a["loc"], a["scale"]),
    }
    return frozen[name]()
