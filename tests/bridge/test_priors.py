"""Priors cross the bridge in both directions, and say what cannot."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import (
    Beta,
    Categorical,
    Gamma,
    Independent,
    LogNormal,
    MultivariateNormal,
    Normal,
    Uniform,
)

from sbitools import Parameter, ParameterSpace, priors
from sbitools.bridge import SpacePrior, parameters_from, prior_for_sbi
from sbitools.errors import ParameterError
from sbitools.seeds import seeded_globals

BOX = ParameterSpace(
    [Parameter("a", priors.Uniform(0.1, 0.3)), Parameter("b", priors.Uniform(-2.0, 5.0))]
)
MIXED = ParameterSpace(
    [
        Parameter("u", priors.Uniform(0.1, 0.3)),
        Parameter("n", priors.Normal(1.0, 2.0)),
        Parameter("l", priors.LogUniform(0.1, 10.0)),
        Parameter("p", priors.LogNormal(0.0, 0.5)),
        Parameter("t", priors.TruncatedNormal(0.0, 1.0, -1.0, 3.0)),
        Parameter("g", Gamma(torch.tensor(2.0), torch.tensor(3.0))),
        Parameter("nuisance", priors.Normal(0.0, 1.0), inferred=False),
    ]
)


def test_a_box_goes_there_and_back():
    sbi = pytest.importorskip("sbi", reason="sbi is not installed")
    from sbi.utils import BoxUniform

    box = prior_for_sbi(BOX)
    assert isinstance(box, BoxUniform)
    assert sbi is not None
    assert parameters_from(box, names=["a", "b"]) == BOX


def test_ours_is_a_prior_for_sbi():
    pytest.importorskip("sbi", reason="sbi is not installed")
    from sbi.utils.sbiutils import mcmc_transform, within_support
    from sbi.utils.user_input_checks import process_prior

    ours, space = prior_for_sbi(MIXED), MIXED.inferred
    assert isinstance(ours, SpacePrior)
    with seeded_globals(1):
        processed, n, _ = process_prior(ours)
        theta = processed.sample((5000,))
        again = ours.sample((2, 3))
        transform = mcmc_transform(ours)
    assert (n, theta.shape, theta.dtype, again.shape) == (6, (5000, 6), torch.float32, (2, 3, 6))
    assert bool(within_support(processed, theta).all())
    assert torch.allclose(
        processed.log_prob(theta).double(), space.log_prob(theta.double()), atol=1e-4
    )
    # A Kolmogorov-Smirnov test of each column against the prior, at 1e-7.
    for parameter, column in zip(space, theta.double().T, strict=True):
        uniform = parameter.prior.cdf(column).numpy()
        assert stats.kstest(uniform, "uniform").pvalue > 1e-7
    far = theta.clone()
    far[:, 0] = 0.31
    assert bool((processed.log_prob(far) == -np.inf).all())
    assert not bool(within_support(processed, far).any())
    # From its support sbi makes a bijection to the real line.
    assert torch.allclose(transform.inv(transform(theta)), theta, rtol=1e-3, atol=1e-4)
    # Moments of a Sobol set, to 2 % of a standard deviation.
    sd = theta.std(0)
    assert bool(((ours.mean - theta.mean(0)).abs() < 0.1 * sd).all())
    assert torch.allclose(ours.variance.sqrt(), sd, rtol=0.1)


def test_draws_at_the_end_of_a_support_stay_inside():
    ours = SpacePrior(BOX.inferred)
    theta = torch.tensor([[0.1, 5.0], [0.3, -2.0]])  # float32: 0.3 is above 0.3
    assert bool(torch.isfinite(ours.log_prob(theta)).all())
    assert ours.log_prob(torch.tensor([0.30001, 0.0])) == -np.inf


CASES = {
    "scalar": (Uniform(0.0, 2.0), [priors.Uniform(0.0, 2.0)]),
    "batch": (
        Independent(Uniform(torch.zeros(2), torch.tensor([0.1, 2.0])), 1),
        [priors.Uniform(0.0, 0.1), priors.Uniform(0.0, 2.0)],
    ),
    "normal": (Normal(torch.tensor([0.3]), 2.0), [priors.Normal(0.3, 2.0)]),
    "lognormal": (LogNormal(0.0, 1.0), [priors.LogNormal(0.0, 1.0)]),
    "diagonal": (
        MultivariateNormal(torch.zeros(2), torch.diag(torch.tensor([1.0, 4.0]))),
        [priors.Normal(0.0, 1.0), priors.Normal(0.0, 2.0)],
    ),
    "list": (
        [Uniform(0.0, 1.0), Beta(torch.tensor([2.0]), torch.tensor([3.0]))],
        [priors.Uniform(0.0, 1.0), priors.TorchPrior(Beta(2.0, 3.0))],
    ),
    "scipy several": (
        stats.norm([0.0, 1.0], 2.0), [priors.Normal(0.0, 2.0), priors.Normal(1.0, 2.0)]
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_foreign_priors_become_parameters(case):
    prior, want = CASES[case]
    space = parameters_from(prior)
    assert [p.prior for p in space] == want
    assert space.names == [f"theta_{i}" for i in range(len(want))]


SCIPY = [
    stats.uniform(-1, 3), stats.norm(1, 2), stats.truncnorm(-1, 2, loc=0.5, scale=2),
    stats.loguniform(0.1, 10), stats.lognorm(0.5, scale=2.0), stats.expon(scale=3),
    stats.gamma(2, scale=0.5), stats.invgamma(3, scale=2), stats.beta(2, 3),
    stats.halfnorm(scale=2), stats.halfcauchy(scale=2), stats.cauchy(1, 2),
    stats.laplace(1, 2), stats.gumbel_r(1, 2), stats.t(5, 1, 2), stats.weibull_min(1.5, scale=2),
]  # fmt: skip


@pytest.mark.parametrize("prior", SCIPY, ids=lambda p: p.dist.name)
def test_densities_are_those_of_scipy(prior):
    space = parameters_from(prior, names=["a"], units=["Mpc"])
    x = prior.ppf(np.linspace(0.05, 0.95, 7))
    ours = space.log_prob(torch.from_numpy(x)[:, None])
    assert ours.numpy() == pytest.approx(prior.logpdf(x), rel=1e-9, abs=1e-9)
    assert space[0].unit == "Mpc"


def test_priors_of_sbi_are_taken():
    pytest.importorskip("sbi", reason="sbi is not installed")
    from sbi.utils import MultipleIndependent
    from sbi.utils.user_input_checks import process_prior

    parts = [Gamma(torch.ones(1), 2 * torch.ones(1)), Uniform(torch.zeros(1), torch.ones(1))]
    with seeded_globals(1):
        joint = MultipleIndependent(parts)
        theta = joint.sample((20,))
        wrapped = process_prior(Normal(torch.zeros(1).double(), torch.ones(1).double()))[0]
    space = parameters_from(joint)
    assert torch.allclose(space.log_prob(theta), joint.log_prob(theta).double(), atol=1e-5)
    assert [p.prior for p in parameters_from(wrapped)] == [priors.Normal(0.0, 1.0)]


CORRELATED = torch.tensor([[1.0, 0.5], [0.5, 1.0]])


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        (MultivariateNormal(torch.zeros(2), CORRELATED), "correlations, which are not supported"),
        (stats.multivariate_normal(np.zeros(2), CORRELATED.numpy()), "correlations"),
        (Categorical(torch.ones(3)), "univariate"),
        (stats.norminvgauss(1, 0.5), "norminvgauss of scipy"),
        (stats.expon(1, 2), "loc=0"),
        (stats.poisson(2), "poisson of scipy"),
        (Normal(torch.zeros(2, 2), 1.0), "batch shape"),
        ("uniform", "univariate"),
        (None, "univariate"),
    ],
)
def test_what_has_no_parameters_is_refused(prior, words):
    with pytest.raises(ParameterError, match=words):
        parameters_from(prior)


def test_names_are_as_many_as_columns():
    with pytest.raises(ParameterError, match="2, one for each"):
        parameters_from(stats.norm([0, 1], 1), names=["a"])
    coded = ParameterSpace([Parameter("c", None, categories=("x", "y"))])
    for space in (coded, ParameterSpace([])):
        with pytest.raises(ParameterError, match="all continuous"):
            prior_for_sbi(space)


UNIFORM = [Parameter(name, priors.Uniform(0.0, 1.0)) for name in "ab"]


def test_a_joint_prior_of_uniform_parameters_is_no_box():
    """A box would have been silent about what joins them."""
    for joint in (priors.Copula(("a", "b"), 0.8), priors.Ordered(("a", "b"))):
        space = ParameterSpace(UNIFORM, joint=[joint])
        prior = prior_for_sbi(space)
        assert isinstance(prior, SpacePrior)
        with seeded_globals(3):
            theta = prior.sample(torch.Size([2000]))
        assert bool(prior.support.check(theta).all())
        # Of a copula 0.79, of two ordered ones 0.5; by chance 0.02.
        assert float(torch.corrcoef(theta.T)[0, 1]) > 0.4
        torch.testing.assert_close(prior.log_prob(theta), space.log_prob(theta.double()).float())


def test_parameters_in_the_wrong_order_are_outside_for_sbi_too():
    pytest.importorskip("sbi", reason="sbi is not installed")
    from sbi.utils import mcmc_transform, within_support
    from sbi.utils.user_input_checks import process_prior

    prior = prior_for_sbi(ParameterSpace(UNIFORM, joint=[priors.Ordered(("a", "b"))]))
    theta = torch.tensor([[0.2, 0.7], [0.7, 0.2], [0.2, 1.2]])
    assert within_support(prior, theta).tolist() == [True, False, False]
    with seeded_globals(1):  # they draw to see whether they can
        assert process_prior(prior)[1] == 2
        there = mcmc_transform(prior)
    torch.testing.assert_close(there.inv(there(theta[:1])), theta[:1])
