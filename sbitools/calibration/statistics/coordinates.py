"""What is known of a prior: cumulative probabilities, variances, entropies.

All are exact but those of ordered parameters, whose marginals have no closed form: these are told
from evenly spread draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sbitools.parameters import ParameterSpace
    from sbitools.priors.joint import Block

__all__ = [
    "block_without_marginals", "expected_log_prob", "normal_score", "prior_probability",
    "prior_variance",
]  # fmt: skip

# Points at which a cumulative distribution without closed form is tabulated; the error of linear
# interpolation between them is below 1 / _TABLE.
_TABLE = 20_001
# Draws of a joint prior, evenly spread: probabilities from them are right to 2e-3, and an entropy
# to 2e-3 nats (of the kinds and sizes that are tested).
_EVEN = 1 << 15


def block_without_marginals(prior: ParameterSpace, i: int) -> Block | None:
    """The joint prior of parameter `i`, if the `prior` of the parameter is not its marginal."""
    blocks = (b for b in prior.blocks if i in b.columns and not b.prior.exact_marginals)
    return next(blocks, None)


def prior_probability(prior: ParameterSpace, theta: np.ndarray) -> np.ndarray:
    """F(theta) of each parameter, in [0, 1], same shape as theta (..., P).

    A value outside a prior's support gets the probability of the nearest bound.
    """
    from scipy.special import ndtr

    out = np.empty(theta.shape)
    for i, parameter in enumerate(prior):
        column = theta[..., i]
        table = _table(prior, i)
        # By construction u = Phi^-1(F(theta)), except for wrapped priors.
        out[..., i] = np.interp(column, *table) if table else ndtr(_score(parameter.prior, column))
    return out


def normal_score(prior: ParameterSpace, theta: np.ndarray, i: int) -> np.ndarray:
    """Phi^-1(F(theta)) of parameter `i`: N(0, 1) under the prior; same shape as theta."""
    from scipy.special import ndtri

    table = _table(prior, i)
    if table is None:
        return _score(prior[i].prior, theta)
    p = np.interp(theta, *table)
    return ndtri(np.clip(p, 1e-15, 1 - 1e-15))


def expected_log_prob(prior: ParameterSpace) -> float:
    """E[log p(theta)] under the prior itself: minus its entropy, in nats."""
    import torch

    total = 0.0
    for block, _ in prior.blocks:
        total += float(block.log_prob(_even_draws(block)).mean())
    for i in prior.free_columns:
        law: Any = prior[i].prior
        table = _table(prior, i)
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


def _table(prior: ParameterSpace, i: int) -> tuple[np.ndarray, np.ndarray] | None:
    """(theta, F(theta)) of a prior whose u is not normal by itself; None for the others."""
    import torch

    from sbitools.priors import TorchPrior

    block = block_without_marginals(prior, i)
    if block is not None:
        column = _even_draws(block.prior)[:, block.columns.index(i)].numpy()
        return np.sort(column), (np.arange(_EVEN) + 0.5) / _EVEN
    law: Any = prior[i].prior
    if not isinstance(law, TorchPrior):
        return None
    p = (np.arange(_TABLE) + 0.5) / _TABLE
    return law.icdf(torch.from_numpy(p)).numpy(), p


def _even_draws(joint: Any) -> Any:
    """Draws of a joint prior from a Sobol set, (_EVEN, k)."""
    import torch

    from sbitools.priors.base import probit
    from sbitools.priors.points import unit_cube

    p = torch.from_numpy(unit_cube(_EVEN, len(joint.names), 0, "sobol"))
    return joint.from_unconstrained(probit(p, 1 - p))


def _normal_grid() -> tuple[np.ndarray, np.ndarray]:
    """(u, weight): the trapezoid rule on a standard normal density converges exponentially."""
    u = np.linspace(-8, 8, 2001)
    weight = np.exp(-0.5 * u**2)
    return u, weight / weight.sum()


def prior_variance(prior: ParameterSpace, i: int) -> float | None:
    """Variance of parameter `i` under the prior; None if it has none (heavy tails)."""
    import torch

    from sbitools.priors import TorchPrior

    if block_without_marginals(prior, i) is not None:
        return float(_table(prior, i)[0].var())  # type: ignore[index]
    law: Any = prior[i].prior
    if isinstance(law, TorchPrior):
        value = float(law.build(law.name, law.args).variance)
        return value if np.isfinite(value) and value > 0 else None
    u, weight = _normal_grid()
    theta = law.from_unconstrained(torch.from_numpy(u)).numpy()
    return float(weight @ (theta - weight @ theta) ** 2)
