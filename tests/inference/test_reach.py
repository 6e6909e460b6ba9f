"""No posterior has density where its prior has no mass, whatever its network says."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from sbitools import FieldSpec, Parameter, ParameterSpace, Posterior, priors
from sbitools.errors import MisspecificationWarning
from sbitools.inference import NPEOptions
from sbitools.inference.flows import normal_log_prob
from sbitools.observation import Observation

SPACE = ParameterSpace(
    [Parameter("a", priors.LogNormal(-2.0, 1.5)), Parameter("b", priors.Normal(3.0, 2.0))]
)
SPEC = FieldSpec("x", ("i",), (2,))
X = torch.tensor([[0.3, 0.2], [-1.0, 0.9], [0.0, 0.0]])


class Leaky(nn.Module):
    """N(x, 1/4) with the share `leak` of N(x, 30^2): a mixture as networks make them."""

    n_latents = 3

    def __init__(self, leak, shift=0.0):
        super().__init__()
        self.leak, self.shift = leak, shift
        self.weight = nn.Parameter(torch.zeros(1))

    def features(self, x):
        return x.float()

    def log_prob(self, u, features):
        r = u.float() - features[:, None] - self.shift
        parts = [
            normal_log_prob(r / s) - 2 * math.log(s) + math.log(max(w, 1e-30))
            for s, w in ((0.5, 1 - self.leak), (30.0, self.leak))
        ]
        return torch.logaddexp(*parts)

    def draw(self, z, features, density=True):
        wide = torch.special.ndtr(z[..., 2:].double()) < self.leak
        u = features[:, None] + self.shift + torch.where(wide, 30.0, 0.5) * z[..., :2]
        return u.float(), self.log_prob(u, features)


def leaky(leak, shift=0.0, space=SPACE):
    return Posterior(Leaky(leak, shift), NPEOptions(), space, SPEC, Observation())


def test_draws_outside_are_replaced_by_draws_inside():
    p = leaky(1e-3)
    draws = p.sample(X, 20_000, seed=3)
    u = SPACE.to_unconstrained(draws)
    assert float(u.abs().max()) < 8.001
    # The truncated wide part has 1e-3 of its share, (16 / 60 / 2.5)^2 = 1 % of it inside.
    np.testing.assert_allclose(u.std(1), 0.5, rtol=0.03)  # 20,000 draws: 0.5 %, and the leak
    assert float(leaky(1e-3, space=BOXED).sample(X, 20_000, seed=3).max()) <= 1.0  # no reach


BOXED = ParameterSpace([Parameter(n, priors.Uniform(0.0, 1.0)) for n in "ab"])


def test_draws_do_not_depend_on_the_batch_and_the_first_are_the_same_of_more():
    p = leaky(0.3)
    all_ = p.sample(X, 400, seed=1)
    assert torch.equal(p.sample(X[:1], 400, seed=1), all_[:1])
    assert torch.equal(p.sample(X, 100, seed=1), all_[:, :100])


@pytest.mark.parametrize("leak", [0.0, 1e-3, 0.5])
def test_densities_are_normalised_and_those_of_the_draws(leak):
    p = leaky(leak)
    theta, log_q = p.sample_and_log_prob(X, 300, seed=2)
    torch.testing.assert_close(p.log_prob(theta, X), log_q, rtol=1e-4, atol=1e-4)
    # The integral over a grid of u, finer than the narrow part.
    grid = torch.linspace(-7.999, 7.999, 321, dtype=torch.float64)
    u = torch.cartesian_prod(grid, grid)[None]
    t = SPACE.from_unconstrained(u)
    log_p = p.log_prob(t, X[:1]) - SPACE.log_abs_det(t)
    mass = float(log_p.exp().sum() * (grid[1] - grid[0]) ** 2)
    assert abs(mass - 1) < 0.06  # half the mass outside: 0.02 by its estimate, three of these


def test_there_is_no_density_outside():
    u = torch.tensor([[8.1, 0.0], [0.0, -8.1], [7.9, 0.0]], dtype=torch.float64)
    value = leaky(0.1).log_prob(SPACE.from_unconstrained(u), X)
    assert value[:2].tolist() == [-math.inf] * 2
    assert math.isfinite(float(value[2]))


def test_a_posterior_that_is_outside_altogether_is_moved_to_the_edge_with_a_warning():
    with pytest.warns(MisspecificationWarning, match="less than 5 % of the posterior"):
        theta, log_q = leaky(0.0, shift=40.0).sample_and_log_prob(X, 50, seed=0)
    assert float((SPACE.to_unconstrained(theta) - 8).abs().max()) < 1e-3
    assert bool(torch.isfinite(log_q).all())


@pytest.mark.parametrize(
    ("prior", "low", "high"),
    [
        (priors.Normal(1.0, 2.0), -15.0, 17.0),
        (priors.LogNormal(0.0, 0.5), math.exp(-4), math.exp(4)),
        (priors.Uniform(2.0, 3.0), 2.0, 3.0),
        (priors.LogUniform(2.0, 3.0), 2.0, 3.0),
        (priors.TruncatedNormal(0.3, 0.01, 0.0, 1.0), 0.22, 0.38),
        (priors.TruncatedNormal(0.0, 1.0, -1.0, 2.0), -1.0, 2.0),
        (priors.TorchPrior(torch.distributions.Normal(1.0, 2.0)), -15.0, 17.0),
        (priors.TorchPrior(torch.distributions.Exponential(1.0)), 0.0, 35.0),
    ],
)
def test_how_far_a_prior_reaches(prior, low, high):
    ends = torch.tensor(prior.reach(), dtype=torch.float64)
    np.testing.assert_allclose(prior.from_unconstrained(ends), [low, high], rtol=5e-3, atol=1e-9)
