"""Categorical parameters, alone and beside continuous ones, against Bayes' rule."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

import sbitools
from sbitools import (
    FieldSpec,
    Observation,
    Parameter,
    ParameterSpace,
    Posterior,
    SimulationStore,
    priors,
    seeds,
)  # fmt: skip
from sbitools.errors import ConfigError, ParameterError, PosteriorError
from sbitools.inference.discrete import METHODS

SPEC = FieldSpec("x", ("i",), (2,))
# What a fit of three thousand simulations needs; small networks.
OPTIONS = {"epochs": 15, "batch_size": 128, "learning_rate": 5e-3, "channels": 4, "features": 8,
           "hidden": 32, "flow_hidden": 32, "flow": "zuko_maf", "flow_transforms": 2}  # fmt: skip


def kind(name, *p):
    codes = tuple(f"{name}{i}" for i in range(len(p)))
    return Parameter(name, priors.Categorical(p), categories=codes)


# Codes: x = (first + second, first) / 2 plus noise, so that the two depend on each other given x.
CODES = ParameterSpace([kind("first", 0.2, 0.5, 0.3), kind("second", 0.5, 0.0, 0.5)])
# Mixed: the sign of a in x_0 is that of the code, x_1 says which code it may be.
MIXED = ParameterSpace([Parameter("a", priors.Normal(2.0, 3.0)), kind("sign", 0.3, 0.7)])
NOISE = 0.5


def code_means(theta):
    return torch.stack([theta.sum(-1), theta[..., 0]], -1) / 2


def mixed_means(theta):
    a, code = (theta[..., 0] - 2) / 3, theta[..., 1]
    return torch.stack([a * (2 * code - 1), code], -1)


def make_store(path, space, means, n, seed):
    theta = space.design(n, seed)
    own = torch.from_numpy(seeds.simulation_seeds(seed, range(n)))
    x = means(theta).float() + NOISE * seeds.normal(own, (2,))
    return SimulationStore.from_arrays(path, theta, x, space, SPEC, seeds=own)


def exact_codes(x):
    """P(first, second | x), shape (B, 3, 3)."""
    theta = torch.tensor(list(itertools.product(range(3), range(3))), dtype=torch.float64)
    chi2 = ((x.double()[:, None] - code_means(theta)) ** 2).sum(-1) / NOISE**2
    return (CODES.log_prob(theta) - 0.5 * chi2).softmax(-1).view(-1, 3, 3)


def exact_sign(x):
    """P(sign = 1 | x): x_0 has the same density under both."""
    log_odds = math.log(0.7 / 0.3) + (x[:, 1].double() - 0.5) / NOISE**2
    return log_odds.sigmoid()


def exact_mixed(theta, x):
    code, var = theta[:, 1], 1 + NOISE**2
    p = exact_sign(x)
    a = stats.norm(2 + 3 * x[:, 0] * (2 * code - 1) / var, 3 * NOISE / var**0.5)
    return torch.where(code == 1, p, 1 - p).log() + torch.from_numpy(a.logpdf(theta[:, 0]))


@pytest.fixture(scope="module")
def codes(tmp_path_factory):
    path = tmp_path_factory.mktemp("codes")
    store = make_store(path / "s", CODES, code_means, 3000, 1)
    return sbitools.train(store, "discrete", run_dir=path / "r", **OPTIONS)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    path = tmp_path_factory.mktemp("mixed")
    store = make_store(path / "s", MIXED, mixed_means, 3000, 2)
    return sbitools.train(store, "discrete", run_dir=path / "r", **OPTIONS)


def test_probabilities_are_those_of_bayes_rule(codes, tmp_path):
    test = make_store(tmp_path / "t", CODES, code_means, 500, 3)
    x = test.read(test.done)
    got, exact = codes.probabilities(x), exact_codes(x)
    # 3,000 simulations fix probabilities to about 0.02; the prior alone is off by 0.15.
    assert float((got - exact).abs().sum((1, 2)).mean()) < 0.12
    # Given x the two depend on each other; a product of marginals is off by this much more.
    product = got.sum(2)[:, :, None] * got.sum(1)[:, None]
    assert float((product - exact).abs().sum((1, 2)).mean()) > 0.2
    assert bool((got[:, :, 1] == 0).all()), "a code outside the prior's support"


def test_tables_densities_and_draws_are_of_one_distribution(codes):
    x = torch.tensor([[0.6, 0.4], [1.5, 0.2]])
    joint = codes.probabilities(x)
    torch.testing.assert_close(joint.sum((1, 2)), torch.ones(2, dtype=torch.float64), rtol=1e-5,
                               atol=1e-5)  # fmt: skip
    theta = torch.tensor(list(itertools.product(range(3), range(3))), dtype=torch.float64)
    log_p = codes.log_prob(theta.expand(2, -1, -1), x)
    torch.testing.assert_close(log_p.exp(), joint.flatten(1), rtol=1e-4, atol=1e-6)
    swapped = codes.probabilities(x, "second", "first")
    torch.testing.assert_close(swapped, joint.mT)
    torch.testing.assert_close(codes.probabilities(x, "second"), joint.sum(1))
    draws, log_q = codes.sample_and_log_prob(x, 4000, seed=5)
    assert draws.dtype == torch.float64
    torch.testing.assert_close(log_q, codes.log_prob(draws, x), rtol=1e-4, atol=1e-4)
    counts = torch.stack([(draws == t).all(-1).double().mean(1) for t in theta], -1)
    # Sixteen frequencies with standard errors below 0.008: all within 4 at a chance of 1e-3.
    assert float((counts - joint.flatten(1)).abs().max()) < 0.032


def test_codes_and_density_together_are_close_to_the_exact_posterior(mixed, tmp_path):
    test = make_store(tmp_path / "t", MIXED, mixed_means, 500, 4)
    theta, x = test.theta, test.read(test.done)
    excess = exact_mixed(theta, x) - mixed.log_prob(theta, x)
    # Nats. A flow that is not told the code would pay 0.5 and more.
    assert 0 < float(excess.mean()) < 0.08
    error = mixed.probabilities(x, "sign")[:, 1] - exact_sign(x)
    assert float(error.abs().mean()) < 0.04


def test_mixed_draws_keep_the_order_of_columns_and_their_density(mixed):
    x = torch.tensor([[1.0, 0.5]])
    draws, log_q = mixed.sample_and_log_prob(x, 4000, seed=6)
    assert set(draws[..., 1].unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(log_q, mixed.log_prob(draws, x), rtol=1e-4, atol=1e-3)
    for code, side in ((0.0, -1), (1.0, 1)):
        a = draws[0, draws[0, :, 1] == code, 0]
        # A few standard errors of 3,000 simulations; the two means lie 4.8 apart.
        assert abs(float(a.mean()) - (2 + side * 3 / (1 + NOISE**2))) < 0.3
    # E[p / q] over draws is 1 if both parts are normalised and log |det| is right.
    weight = (exact_mixed(draws[0], x.expand(4000, 2)) - log_q[0]).exp()
    assert abs(float(weight.mean()) - 1) < 0.1


@pytest.mark.parametrize("which", ["codes", "mixed"])
def test_the_latent_is_standard_normal_and_gives_the_draws_back(which, request):
    posterior = request.getfixturevalue(which)
    x = torch.tensor([[0.5, 0.5]])
    draws = posterior.sample(x, 2000, seed=7)[0]
    z = posterior.latent(draws, x.expand(2000, 2), seed=8)
    for column in z.T:
        assert stats.kstest(column.numpy(), "norm").pvalue > 1e-3
    back, _ = posterior.estimator.draw(z[:, None], posterior.features(x.expand(2000, 2)))
    again = posterior.parameters.from_unconstrained(back.detach()[:, 0])
    torch.testing.assert_close(again, draws, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("which", ["codes", "mixed"])
def test_save_and_load_are_bit_equal(which, request, tmp_path):
    posterior = request.getfixturevalue(which)
    again = Posterior.load(posterior.save(tmp_path / "p"))
    x = torch.tensor([[0.3, 0.2], [1.0, 0.9]])
    assert type(again) is type(posterior)
    assert torch.equal(again.sample(x, 20, 1), posterior.sample(x, 20, 1))
    assert torch.equal(again.probabilities(x), posterior.probabilities(x))
    assert again.parameters == posterior.parameters


def test_many_parameters_need_no_table():
    """Twelve parameters of ten categories: 10^12 combinations, drawn and scored one by one."""
    space = ParameterSpace([kind(f"k{i}", *(0.1,) * 10) for i in range(12)])
    method = METHODS["discrete"]
    posterior = _untrained(space, method)
    x = torch.zeros(2, 2)
    draws, log_q = posterior.sample_and_log_prob(x, 5)
    prior = torch.full_like(log_q, 12 * math.log(0.1))  # where a classifier starts
    torch.testing.assert_close(log_q, prior, rtol=1e-5, atol=0)
    assert posterior.probabilities(x, "k1", "k0").shape == (2, 10, 10)
    with pytest.raises(PosteriorError, match="count the codes of draws"):
        posterior.probabilities(x)
    assert draws.shape == (2, 5, 12)


def test_bad_requests_raise_typed_errors(codes, mixed, tmp_path):
    x = torch.zeros(2, 2)
    outside = torch.tensor([[3.0, 0.0], [0.5, 0.0]], dtype=torch.float64)
    assert codes.log_prob(outside, x).tolist() == [-np.inf, -np.inf]
    with pytest.raises(ParameterError, match="first"):
        codes.latent(outside, x)
    with pytest.raises(PosteriorError, match="one row of theta"):
        codes.log_prob(outside[:, :1], x)
    for names in (("a",), ("sign", "sign"), ("abacus",)):
        with pytest.raises(PosteriorError, match="use sample for continuous"):
            mixed.probabilities(x, *names)
    assert mixed.probabilities(x[:0], "sign").shape == (0, 2)
    smooth = ParameterSpace([Parameter("a", priors.Normal(0, 1))])
    store = make_store(tmp_path / "s", smooth, lambda t: t.expand(-1, 2), 64, 1)
    with pytest.raises(PosteriorError, match="use method='npe'"):
        sbitools.train(store, "discrete", run_dir=tmp_path / "r")
    coded = make_store(tmp_path / "c", CODES, code_means, 64, 1)
    with pytest.raises(PosteriorError, match="use method='discrete'"):
        sbitools.train(coded, "fmpe", run_dir=tmp_path / "r")
    with pytest.raises(ConfigError, match="hidden"):
        sbitools.train(coded, "discrete", run_dir=tmp_path / "r", hidden=0)
    wide = make_store(tmp_path / "w", MIXED, mixed_means, 64, 1)
    with pytest.raises(ConfigError, match="use zuko_nsf"):
        sbitools.train(wide, "discrete", run_dir=tmp_path / "r", flow="coupling")


def _untrained(space, method):
    options = method.network(hidden=8, features=4, channels=1)
    estimator = method.build(options, space, SPEC)
    return method.posterior(estimator, options, space, SPEC, Observation())


def test_bayes_factors_are_posterior_odds_without_those_of_the_prior(codes, mixed):
    """Also where other parameters, of either kind, are integrated out."""
    x = torch.tensor([[0.6, 0.4], [1.0, 0.9]])
    p = codes.probabilities(x, "second")
    factor = codes.log_bayes_factor(x, "second2", 0, parameter="second")
    torch.testing.assert_close(factor, (p[:, 2] / p[:, 0]).log(), rtol=1e-5, atol=1e-5)
    q = mixed.probabilities(x, "sign")
    expected = (q[:, 1] / q[:, 0]).log() - math.log(0.7 / 0.3)
    torch.testing.assert_close(mixed.log_bayes_factor(x, 1, 0), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(PosteriorError, match="whose prior probability is 0"):
        codes.log_bayes_factor(x, 1, 0, parameter="second")
    with pytest.raises(PosteriorError, match="name the one"):
        codes.log_bayes_factor(x, 1, 0)
    for posterior in (codes, mixed):
        with pytest.raises(PosteriorError, match="one categorical parameter alone"):
            posterior.with_prior((0.5, 0.5))
