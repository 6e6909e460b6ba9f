"""Spikes of one neuron: a Bernoulli generalised linear model, summarised or raw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch.distributions import Distribution, MultivariateNormal

from sbitools import priors

from .task import Array, Task, generators, space

__all__ = ["BernoulliGLM", "BernoulliGLMRaw"]

_BINS, _LAGS = 100, 9
_STIMULUS_SEED = 42
_OFFSET_VARIANCE = 2.0


class BernoulliGLMRaw(Task):
    """A spike in each of 100 bins with probability 1 / (1 + exp(-psi)) (appendix T.6).

    psi is an offset plus the stimulus of the last nine bins, weighted by a filter; the stimulus
    is white noise that is the same in all simulations: that of numpy's legacy generator for seed
    42. The offset has variance 2. The filter f is smooth: F f is standard normal, with F the
    second difference plus a diagonal that grows as the square root of the lag.

    The prior is correlated, so theta of `parameters` is white: the offset over its standard
    deviation, and F f. `natural` are offset and filter.
    """

    def __init__(self, name: str = "bernoulli_glm_raw", n_data: int = _BINS) -> None:
        names = ["offset", *(f"white_{i}" for i in range(_LAGS))]
        super().__init__(name, space(names, [priors.Normal(0.0, 1.0)] * (1 + _LAGS)), n_data)

    def natural(self, theta: Array) -> Array:
        """See `Task`."""
        return np.linalg.solve(self._whitening, theta.T).T

    def draw(self, theta: Array, seeds: Sequence[int]) -> Array:
        """See `Task`."""
        from scipy.special import expit

        uniform = np.stack([rng.random(_BINS) for rng in generators(seeds)])
        return (uniform < expit(theta @ self.design.T)).astype(np.float64)

    def log_likelihood(self, theta: Array, x: Array) -> Array:
        """See `Task`."""
        psi = theta @ self.design.T
        return theta @ self.summary(x) - np.logaddexp(0.0, psi).sum(1)

    def summary(self, x: Array) -> Array:
        """Number of spikes and spike-triggered stimulus at each lag, (..., 10): sufficient."""
        return x @ self.design

    def prior(self) -> Distribution:
        """See `Task`."""
        precision = torch.from_numpy(self._whitening.T @ self._whitening).float()
        return MultivariateNormal(torch.zeros(1 + _LAGS), precision_matrix=precision)

    @cached_property
    def design(self) -> Array:
        """Ones and the stimulus delayed by 0 to 8 bins, shape (100, 10)."""
        rng = np.random.RandomState(_STIMULUS_SEED)
        # The published stimulus is kept in single precision.
        stimulus = rng.randn(_BINS).astype(np.float32).astype(np.float64)
        design = np.zeros((_BINS, 1 + _LAGS))
        design[:, 0] = 1.0
        for lag in range(_LAGS):
            design[lag:, 1 + lag] = stimulus[: _BINS - lag]
        return design

    @cached_property
    def _whitening(self) -> Array:
        """W of white = W natural, shape (10, 10)."""
        difference = np.eye(_LAGS) - np.eye(_LAGS, k=-1)
        whitening = np.zeros((1 + _LAGS, 1 + _LAGS))
        whitening[0, 0] = 1 / math.sqrt(_OFFSET_VARIANCE)
        growth = np.diag(np.sqrt(np.arange(_LAGS) / _LAGS))
        whitening[1:, 1:] = difference @ difference + growth
        return whitening


class BernoulliGLM(BernoulliGLMRaw):
    """The same neuron, seen by its ten sufficient statistics (appendix T.5)."""

    def __init__(self) -> None:
        super().__init__("bernoulli_glm", 1 + _LAGS)

    def draw(self, theta: Array, seeds: Sequence[int]) -> Array:
        """See `Task`."""
        return super().summary(super().draw(theta, seeds))

    def summary(self, x: Array) -> Array:
        """The data themselves."""
        return x
