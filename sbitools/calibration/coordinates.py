"""Coordinates in which a prior is uniform: the cumulative probability of each parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sbitools.parameters import ParameterSpace

__all__ = ["prior_probability"]

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
