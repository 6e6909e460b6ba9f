"""Priors of single parameters, each with an exact map between its support and the real line.

The map is ``u = Phi^-1(F(theta))`` with F the prior's cumulative distribution and Phi the normal
one, so that the prior of u is a standard normal: a flow in u has exactly the prior's support,
needs no rejection, and starts from well-scaled numbers. All arithmetic is float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.special import erfc, ndtri

from .errors import ParameterError

__all__ = [
    "Categorical", "LogNormal", "LogUniform", "Normal", "Prior", "TorchPrior", "TruncatedNormal",
    "Uniform", "from_dict",
]  # fmt: skip

# Beyond |u| = 8.2 the normal cumulative cannot be told from 0 or 1 in float64; theta at a bound
# is mapped here instead of to infinity.
_U_MAX = 8.2
_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


def _ndtr(u: Tensor) -> Tensor:
    """Phi(u); torch's own ndtr loses all digits below u = -8."""
    return 0.5 * erfc(-u / math.sqrt(2))


def _log_normal_pdf(u: Tensor) -> Tensor:
    return -0.5 * u**2 - _LOG_SQRT_2PI


def _probit(p: Tensor, q: Tensor) -> Tensor:
    """Phi^-1(p) from p and q = 1 - p, exact in both tails."""
    small = _ndtr(torch.tensor(-_U_MAX, dtype=torch.float64))
    lower, upper = ndtri(p.clamp(min=small)), -ndtri(q.clamp(min=small))
    return torch.where(p < 0.5, lower, upper)


class Prior:
    """Base: a prior knows its support, its density and its map to the real line."""

    kind: ClassVar[str]
    low: float = -math.inf
    high: float = math.inf

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """u of any shape, for theta of the same shape."""
        raise NotImplementedError

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """Theta of any shape, for u of the same shape; always inside the support."""
        raise NotImplementedError

    def log_prob(self, theta: Tensor) -> Tensor:
        """Natural log of the density, minus infinity outside the support."""
        raise NotImplementedError

    def log_prob_unconstrained(self, u: Tensor) -> Tensor:
        """Log density of u: the standard normal, unless a prior says otherwise."""
        return _log_normal_pdf(u)

    def log_abs_det(self, theta: Tensor) -> Tensor:
        """log |du/dtheta|, from p(theta) = p(u) |du/dtheta|."""
        return self.log_prob(theta) - self.log_prob_unconstrained(self.to_unconstrained(theta))

    def icdf(self, p: Tensor) -> Tensor:
        """Quantiles for p in (0, 1): how designs and draws are made."""
        return self.from_unconstrained(_probit(p, 1 - p))

    def contains(self, theta: Tensor) -> Tensor:
        """True where theta is finite and inside the closed support."""
        return torch.isfinite(theta) & (theta >= self.low) & (theta <= self.high)

    def to_dict(self) -> dict[str, Any]:
        """Plain values with the registry name, for JSON and TOML."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.init}  # type: ignore[arg-type]
        return {"kind": self.kind} | values

    def _require(self, ok: bool, expected: str) -> None:
        values = {k: v for k, v in self.to_dict().items() if k != "kind"}
        finite = all(math.isfinite(v) for v in values.values() if isinstance(v, int | float))
        if not ok or not finite:
            raise ParameterError(
                f"prior {self.kind}", expected=f"{expected}, finite", got=f"{values}",
                fix="correct the prior's arguments",
            )  # fmt: skip


@dataclass(frozen=True)
class Uniform(Prior):
    """Constant density between `low` and `high`."""

    low: float
    high: float
    kind: ClassVar[str] = "uniform"

    def __post_init__(self) -> None:
        self._require(self.low < self.high, "low < high")

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        width = self.high - self.low
        return _probit((theta - self.low) / width, (self.high - theta) / width)

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """See `Prior`."""
        width = self.high - self.low
        theta = torch.where(u < 0, self.low + width * _ndtr(u), self.high - width * _ndtr(-u))
        return theta.clamp(self.low, self.high)

    def log_prob(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        inside = torch.full_like(theta, -math.log(self.high - self.low))
        return inside.where(self.contains(theta), torch.tensor(-math.inf, dtype=theta.dtype))


@dataclass(frozen=True)
class LogUniform(Prior):
    """Constant density of log theta between `low` > 0 and `high`."""

    low: float
    high: float
    kind: ClassVar[str] = "log_uniform"

    def __post_init__(self) -> None:
        self._require(0 < self.low < self.high, "0 < low < high")

    @property
    def _log(self) -> Uniform:
        return Uniform(math.log(self.low), math.log(self.high))

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        return self._log.to_unconstrained(theta.log())

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """See `Prior`."""
        return self._log.from_unconstrained(u).exp().clamp(self.low, self.high)

    def log_prob(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        inside = -theta.clamp(min=self.low).log() - math.log(math.log(self.high / self.low))
        return inside.where(self.contains(theta), torch.tensor(-math.inf, dtype=theta.dtype))


@dataclass(frozen=True)
class Normal(Prior):
    """Normal with mean `loc` and standard deviation `scale`."""

    loc: float
    scale: float
    kind: ClassVar[str] = "normal"

    def __post_init__(self) -> None:
        self._require(self.scale > 0, "scale > 0")

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        return (theta - self.loc) / self.scale

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """See `Prior`."""
        return self.loc + self.scale * u

    def log_prob(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        return _log_normal_pdf(self.to_unconstrained(theta)) - math.log(self.scale)


@dataclass(frozen=True)
class LogNormal(Prior):
    """log theta is normal with mean `loc` and standard deviation `scale` (natural log)."""

    loc: float
    scale: float
    kind: ClassVar[str] = "log_normal"
    low: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._require(self.scale > 0, "scale > 0")

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        return (theta.log() - self.loc) / self.scale

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """See `Prior`."""
        return (self.loc + self.scale * u).exp()

    def log_prob(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        inside = theta > 0
        safe = theta.where(inside, torch.ones_like(theta))
        value = _log_normal_pdf(self.to_unconstrained(safe)) - math.log(self.scale) - safe.log()
        return value.where(inside, torch.tensor(-math.inf, dtype=theta.dtype))


@dataclass(frozen=True)
class TruncatedNormal(Prior):
    """Normal(loc, scale) cut to [low, high]; `loc` may lie outside."""

    loc: float
    scale: float
    low: float
    high: float
    kind: ClassVar[str] = "truncated_normal"

    def __post_init__(self) -> None:
        self._require(self.scale > 0 and self.low < self.high, "scale > 0 and low < high")
        if not self._mass > 1e-300:
            raise ParameterError(
                f"prior {self.kind}", expected="support within about 37 scales of loc",
                got=f"{self.to_dict()}", fix="move low and high towards loc, or use uniform",
            )  # fmt: skip

    def _ends(self) -> tuple[Tensor, Tensor, float]:
        """Standardised ends on the side where tail masses are small, and the sign used."""
        a, b = (self.low - self.loc) / self.scale, (self.high - self.loc) / self.scale
        sign = -1.0 if a > 0 else 1.0  # far above the mean: work with the mirror image
        a, b = (a, b) if sign > 0 else (-b, -a)
        return torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64), sign

    @property
    def _mass(self) -> float:
        a, b, _ = self._ends()
        return float(_ndtr(b) - _ndtr(a))

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        a, b, sign = self._ends()
        z = sign * (theta - self.loc) / self.scale
        p, q = (_ndtr(z) - _ndtr(a)) / self._mass, (_ndtr(b) - _ndtr(z)) / self._mass
        return sign * _probit(p, q)

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """See `Prior`."""
        a, b, sign = self._ends()
        v = sign * u
        from_below = ndtri(_ndtr(a) + _ndtr(v) * self._mass)
        # Above the mean 1 - F is the accurate number; below it F is.
        from_above = -ndtri(_ndtr(-b) + _ndtr(-v) * self._mass)
        z = torch.where(from_below < 0, from_below, from_above)
        return (self.loc + sign * self.scale * z).clamp(self.low, self.high)

    def log_prob(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        z = (theta - self.loc) / self.scale
        value = _log_normal_pdf(z) - math.log(self.scale) - math.log(self._mass)
        return value.where(self.contains(theta), torch.tensor(-math.inf, dtype=theta.dtype))


@dataclass(frozen=True)
class Categorical(Prior):
    """Codes 0 .. K-1 with the given probabilities; it has no map to the real line."""

    probabilities: tuple[float, ...]
    kind: ClassVar[str] = "categorical"

    def __post_init__(self) -> None:
        object.__setattr__(self, "probabilities", tuple(self.probabilities))
        p = self.probabilities
        ok = len(p) > 1 and min(p) >= 0 and abs(sum(p) - 1) < 1e-9
        self._require(ok, "two or more probabilities that sum to 1")

    def icdf(self, p: Tensor) -> Tensor:
        """Codes as float64."""
        edges = torch.tensor(self.probabilities, dtype=torch.float64).cumsum(0)[:-1]
        return torch.bucketize(p.contiguous(), edges, right=True).to(torch.float64)

    def contains(self, theta: Tensor) -> Tensor:
        """True where theta is one of the codes."""
        return (theta == theta.round()) & (theta >= 0) & (theta < len(self.probabilities))

    def log_prob(self, theta: Tensor) -> Tensor:
        """Log probability of the code."""
        inside = self.contains(theta)
        p = torch.tensor(self.probabilities, dtype=torch.float64)
        value = p[theta.where(inside, torch.zeros_like(theta)).long()].log()
        return value.where(inside, torch.tensor(-math.inf, dtype=torch.float64))

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """Raise: a category has no place on the real line."""
        raise ParameterError(
            "categorical parameter", expected="a continuous parameter", got="categories",
            fix="set inferred=False, or infer it with a discrete posterior",
        )  # fmt: skip

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """Raise: a category has no place on the real line."""
        return self.to_unconstrained(u)


_TORCH_NAMES = (
    "Beta", "Cauchy", "Chi2", "Exponential", "FisherSnedecor", "Gamma", "Gumbel", "HalfCauchy",
    "HalfNormal", "InverseGamma", "Kumaraswamy", "Laplace", "LogNormal", "Normal", "Pareto",
    "StudentT", "Uniform", "Weibull",
)  # fmt: skip


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
        if name not in _TORCH_NAMES or distribution.batch_shape or distribution.event_shape:
            raise ParameterError(
                "prior torch", expected=f"a scalar distribution of {', '.join(_TORCH_NAMES)}",
                got=repr(distribution), fix="use one parameter per scalar distribution",
            )  # fmt: skip
        self.name = name
        names = [k for k in distribution.arg_constraints if k not in ("logits", "probs")]
        self.args = {k: float(getattr(distribution, k)) for k in names if hasattr(distribution, k)}
        self._dist = self._build(name, self.args)
        support = self._dist.support
        self.low = float(getattr(support, "lower_bound", -math.inf))
        self.high = float(getattr(support, "upper_bound", math.inf))
        self._map = torch.distributions.biject_to(support)

    @staticmethod
    def _build(name: str, args: dict[str, float]) -> torch.distributions.Distribution:
        values = {k: torch.tensor(v, dtype=torch.float64) for k, v in args.items()}
        return getattr(torch.distributions, name)(**values, validate_args=False)

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

    def icdf(self, p: Tensor) -> Tensor:
        """Quantiles from torch where it has them, else from scipy's distribution."""
        try:
            return self._dist.icdf(p)
        except NotImplementedError:
            return torch.from_numpy(_scipy_quantile(self.name, self.args, p.numpy()))


def _scipy_quantile(name: str, args: dict[str, float], p: Any) -> Any:
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
    return frozen[name]().ppf(p)


_KINDS: dict[str, type[Prior]] = {
    k.kind: k for k in (Uniform, LogUniform, Normal, LogNormal, TruncatedNormal, Categorical)
}


def from_dict(values: dict[str, Any]) -> Prior:
    """Prior from `Prior.to_dict`; only registered names are built, never code.

    Raises:
        ParameterError: for an unknown kind or wrong arguments.
    """
    values = dict(values)
    kind = values.pop("kind", None)
    known = (*sorted(_KINDS), "torch")
    try:
        if kind == "torch":
            if values.get("name") not in _TORCH_NAMES:
                raise ParameterError(
                    "prior torch", expected=f"a name of {', '.join(_TORCH_NAMES)}",
                    got=repr(values.get("name")), fix="choose one of these distributions",
                )  # fmt: skip
            return TorchPrior(TorchPrior._build(values["name"], values["args"]))
        return _KINDS[kind](**values)  # type: ignore[index]
    except (KeyError, TypeError) as error:
        raise ParameterError(
            "prior", expected=f"a kind of {', '.join(known)} and its arguments",
            got=f"kind={kind!r} {values}", fix=f"see sbitools.priors ({error})",
        ) from error  # fmt: skip
