"""What is known of a prior exactly: cumulative probabilities, variances, entropies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sbitools.parameters import ParameterSpace

__all__ = ["expected_log_prob", "normal_score", "prior_probability", "prior_variance"]

# Points at which a cumulative distribution without closed form is tabulated; the error of linear
# interpolation between them is below 1 / _TABLE.
_TABLE = 20_001


def prior_probability(prior: ParameterSpace, theta: np.ndarray) -> np.ndarray:
    """F(theta) of each parameter, in [0, 1], same shape as theta (..., P).

    A value outside a prior's support gets the probability of the nearest bound.
    """
    from scipy.special import ndtr

    out = np.empty(theta.shape)
    for i, parameter in enumerate(prior):
        column = theta[..., i]
        table = _table(parameter.prior)
        # By construction u = Phi^-1(F(theta)), except for wrapped priors.
        out[..., i] = np.interp(column, *table) if table else ndtr(_score(parameter.prior, column))
    return out


def normal_score(prior: ParameterSpace, theta: np.ndarray, i: int) -> np.ndarray:
    """Phi^-1(F(theta)) of parameter `i`: N(0, 1) under the prior; same shape as theta."""
    from scipy.special import ndtri

    table = _table(prior[i].prior)
    if table is None:
        return _score(prior[i].prior, theta)
    p = np.interp(theta, *table)
    return ndtri(np.clip(p, 1e-15, 1 - 1e-15))


def expected_log_prob(prior: ParameterSpace) -> float:
    """E[log p(theta)] under the prior itself: minus its entropy, in nats."""
    import torch

    total = 0.0
    for parameter in prior:
        law: Any = parameter.prior
        table = _table(law)
        if table is not None:
            values = law.log_prob(torch.from_numpy(table[0])).numpy()
            total += float(values[np.isfinite(values)].mean())
            continue
        u, weight = _normal_grid()
        values = law.log_prob(law.from_unconstrained(torch.from_numpy(u))).numpy()
        finite = np.isfinite(values)  # bounds may round to just outside in the far tails
        total += float(weight[finite] @ values[finite])
    return total


def _score(law: Any, theta: np.ndarray) -> np.ndarray:
    """u of theta, moved into the support."""
    import torch

    inside = np.clip(np.ascontiguousarray(theta, dtype=np.float64), law.low, law.high)
    return law.to_unconstrained(torch.from_numpy(inside)).numpy()


def _table(law: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """(theta, F(theta)) of a wrapped prior, whose u is not normal; None for the others."""
    import torch

    from sbitools.priors import TorchPrior

    if not isinstance(law, TorchPrior):
        return None
    p = (np.arange(_TABLE) + 0.5) / _TABLE
    return law.icdf(torch.from_numpy(p)).numpy(), p


def _normal_grid() -> tuple[np.ndarray, np.ndarray]:
    """(u, weight): the trapezoid rule on a standard normal density converges exponentially."""
    u = np.linspace(-8, 8, 2001)
    weight = np.exp(-0.5 * u**2)
    return u, weight / weight.sum()


def prior_variance(prior: ParameterSpace, i: int) -> float | None:
    """Variance of parameter `i` under the prior; None if it has none (heavy tails)."""
    import torch

    from sbitools.priors import TorchPrior

    law: Any = prior[i].prior
    if isinstance(law, TorchPrior):
        value = float(law.build(law.name, law.args).variance)
        return value if np.isfinite(value) and value > 0 else None
    u, weight = _normal_grid()
    theta = law.from_unconstrained(torch.from_numpy(u)).numpy()
    return float(weight @ (theta - weight @ theta) ** 2)
