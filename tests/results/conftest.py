"""Posteriors known in closed form, with the methods of every posterior."""

import numpy as np
import pytest
import torch
from scipy.stats import truncnorm

from sbitools import FieldSpec, Parameter, ParameterSpace, priors
from sbitools.results.methods import ResultMethods
from tests.oracles.gaussian import GaussianPosterior, LinearGaussian

MODEL = LinearGaussian(3, 6, sigma=0.7)


class Exact(ResultMethods, GaussianPosterior):
    """The posterior of a linear-Gaussian problem, `width` times too wide."""

    def __init__(self, model=MODEL, width=1.0):
        super().__init__(model, width)
        self.observed = model.output


BOX = ParameterSpace(
    [
        Parameter("a", priors.Uniform(0.0, 1.0), unit="km / s", latex=r"\alpha"),
        Parameter("b", priors.LogNormal(0.0, 0.5)),
    ]
)


class Bounded(ResultMethods):
    """a: normal around x_0, cut to [0, 1]; b: normal in log b around x_1, width 0.2."""

    observed = FieldSpec("x", ("i",), (2,), "float64")
    parameters = BOX
    width = 0.2

    def _cut(self, centre):
        return truncnorm(-centre / self.width, (1 - centre) / self.width, centre, self.width)

    def sample(self, x, n, seed=None):
        rng = np.random.default_rng(seed)
        a = np.stack([self._cut(float(c)).rvs(n, random_state=rng) for c in x[:, 0]])
        b = np.exp(x[:, 1:].numpy() + 0.2 * rng.normal(size=(len(x), n)))
        return torch.from_numpy(np.stack([a, b], -1))

    def sample_and_log_prob(self, x, n, seed=None):
        draws = self.sample(x, n, seed)
        return draws, self.log_prob(draws, x)

    def log_prob(self, theta, x):
        a = np.stack(
            [self._cut(float(c)).logpdf(t[:, 0]) for c, t in zip(x[:, 0], theta, strict=True)]
        )
        z = (theta[..., 1].log() - x[:, 1:]) / 0.2
        b = -0.5 * z**2 - np.log(0.2 * np.sqrt(2 * np.pi)) - theta[..., 1].log()
        return torch.from_numpy(a) + b


@pytest.fixture
def x():
    return torch.from_numpy(MODEL.joint(3, 1)[1])
