"""What is known of a prior exactly: cumulative probabilities and variances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sbitools.parameters import ParameterSpace

__all__ = ["prior_probability", "prior_variance"]

# Points at which a cumulative distribution without closed form is tabulated; the error of linear
# interpolation between them is below 1 / _TABLE.
_TABLE = 20_001


def prior_probability(prior: ParameterSpace, theta: np.ndarray) -> np.ndarray:
    """F(theta) of each parameter, in [0, 1], same shape as theta (..., P).

    A value outside a prior's support gets the probability of the nearest bound.
    """
    import torch

    from sbitools.priors import TorchPrior

    out = np.empty(theta.shape)
    for i, parameter in enumerate(prior):
        column = np.ascontiguousarray(theta[..., i], dtype=np.float64)
        law: Any = parameter.prior
        if isinstance(law, TorchPrior):  # its u is not normal
            p = (np.arange(_TABLE) + 0.5) / _TABLE
            quantiles = law.icdf(torch.from_numpy(p)).numpy()
            out[..., i] = np.interp(column, quantiles, p)
        else:  # by construction u = Phi^-1(F(theta))
            inside = np.clip(column, law.low, law.high)
            u = law.to_unconstrained(torch.from_numpy(inside))
            out[..., i] = torch.special.ndtr(u).numpy()
    return out


def prior_variance(prior: ParameterSpace, i: int) -> float | None:
    """Variance of parameter `i` under the prior; None if it has none (heavy tails)."""
    import torch

    from sbitools.priors import TorchPrior

    law: Any = prior[i].prior
    if isinstance(law, TorchPrior):
        value = float(law.build(law.name, law.args).variance)
        return value if np.isfinite(value) and value > 0 else None
    # u is standard normal: the trapezoid rule on its density converges exponentially.
    u = np.linspace(-8, 8, 20_001)
    weight = np.exp(-0.5 * u**2) / np.exp(-0.5 * u**2).sum()
    theta = law.from_unconstrained(torch.from_numpy(u)).numpy()
    return float(weight @ (theta - weight @ theta) ** 2)
