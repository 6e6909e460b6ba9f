"""Laws that every joint prior obeys: density, map to u, draws, plain values."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats

from sbitools import Parameter, ParameterSpace, priors
from sbitools.calibration.statistics.coordinates import (
    expected_log_prob,
    normal_score,
    prior_probability,
    prior_variance,
)
from sbitools.errors import ParameterError
from sbitools.identity.values import Digester
from sbitools.inference.reach import Reach

from .spaces import AB, COPULAS, COVARIANCE, KINDS, TORCH, pair

RNG = 3
N = 4000
KS = 1e-7  # false-alarm rate of a test of one column; seeds are fixed


def normals(n, k, seed=RNG):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, k)))


def order_space(joint, law, n=3):
    return ParameterSpace([Parameter(name, law) for name in "abc"[:n]], [joint])


@pytest.mark.parametrize("name", KINDS)
def test_the_density_integrates_to_one(name):
    """Midpoints of 800^2 cells between what 10,000 draws leave; 1 % for edges and tails."""
    space = KINDS[name]()
    theta = space.design(10_000, 0, "sobol")
    low, high = theta.min(0).values, theta.max(0).values
    pad = 0.3 * (high - low)
    low, high = low - pad, high + pad
    n = 800
    a, b = (low[i] + (high[i] - low[i]) * (torch.arange(n) + 0.5) / n for i in (0, 1))
    grid = torch.stack(torch.meshgrid(a.double(), b.double(), indexing="ij"), -1)
    total = space.log_prob(grid).exp().sum() * (high - low).prod() / n**2
    assert float(total) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("name", KINDS)
def test_u_and_back(name):
    """1e-9, of u to 4.5 standard deviations; of theta where it has been rounded at most 1e-12."""
    space = KINDS[name]()
    u = normals(5000, 2).clamp(-4.5, 4.5)
    theta = space.from_unconstrained(u)
    assert float((space.to_unconstrained(theta) - u).abs().max()) < 1e-9
    again = space.from_unconstrained(space.to_unconstrained(theta))
    torch.testing.assert_close(again, theta, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", KINDS)
def test_densities_change_by_the_jacobian(name):
    """Central differences of theta(u), whose error is 1e-7 away from the edges."""
    space = KINDS[name]()
    u, step = normals(500, 2).clamp(-3, 3), 1e-5
    theta = space.from_unconstrained(u)
    columns = [
        (space.from_unconstrained(u + move) - space.from_unconstrained(u - move)) / (2 * step)
        for move in step * torch.eye(2, dtype=torch.float64)
    ]
    log_det = -torch.linalg.slogdet(torch.stack(columns, -1)).logabsdet
    torch.testing.assert_close(
        space.log_prob(theta) - space.log_prob_unconstrained(u), log_det, rtol=0, atol=2e-5
    )
    torch.testing.assert_close(space.log_abs_det(theta), log_det, rtol=0, atol=2e-5)
    torch.testing.assert_close(space.log_abs_det_at(u, theta), log_det, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", KINDS)
def test_every_u_maps_into_the_support(name):
    space = KINDS[name]()
    for size in (1.0, 5.0, 12.0, 40.0):
        theta = space.from_unconstrained(size * normals(1000, 2))
        space.check(theta)
        assert bool(torch.isfinite(space.to_unconstrained(theta)).all())
    assert bool(torch.isfinite(space.log_abs_det_at(20 * normals(99, 2), theta[:99])).all())


@pytest.mark.parametrize("kind", ["random", "sobol", "latin_hypercube"])
@pytest.mark.parametrize("name", COPULAS)
def test_designs_have_the_marginals_and_the_correlation(name, kind):
    space = KINDS[name]()
    theta = space.design(N, 5, kind)
    assert torch.equal(theta, space.design(N, 5, kind))
    for parameter, column in zip(space, theta.T, strict=True):
        assert stats.kstest(parameter.prior.cdf(column.clone()), "uniform").pvalue > KS
    scores = np.stack(
        [p.prior.normal_score(c.clone()).numpy() for p, c in zip(space, theta.T, strict=True)]
    )
    wanted = space.blocks[0].prior.correlation[0][1]
    # Fisher's transform: 5.3 standard errors are passed once in 1e7.
    off = math.atanh(np.corrcoef(scores)[0, 1]) - math.atanh(wanted)
    assert abs(off) < 5.3 / math.sqrt(N - 3)


def test_the_test_of_correlations_can_fail():
    space = KINDS["copula"]()
    wrong = pair(priors.Copula(AB, 0.6), [p.prior for p in space])
    u = wrong.to_unconstrained(space.design(N, 5))
    assert abs(math.atanh(np.corrcoef(u.T)[0, 1])) > 5.3 / math.sqrt(N - 3)


@pytest.mark.parametrize("law", [priors.Uniform(1.0, 3.0), priors.Normal(0.0, 2.0)])
def test_ordered_draws_are_order_statistics(law):
    """F of the j-th of three is Beta(j, 4 - j); that of the sequential kind is not."""
    ordered, sequential = (
        order_space(kind(("a", "b", "c")), law) for kind in (priors.Ordered, priors.Sequential)
    )
    for kind in ("random", "sobol"):
        theta = ordered.design(N, 2, kind)
        assert bool((theta.diff(dim=1) >= 0).all())
        for j, column in enumerate(theta.T):
            assert stats.kstest(law.cdf(column.clone()), stats.beta(j + 1, 3 - j).cdf).pvalue > KS
    theta = sequential.design(N, 2)
    assert stats.kstest(law.cdf(theta[:, 1].clone()), stats.beta(2, 2).cdf).pvalue < KS
    # As sorted independent draws are.
    pool = np.sort(law.icdf(torch.rand(N, 3, generator=torch.Generator().manual_seed(1)).double()))
    for j in range(3):
        assert stats.ks_2samp(pool[:, j], ordered.design(N, 9)[:, j]).pvalue > KS


def test_sequential_draws_are_uniform_above_the_one_before():
    space = order_space(priors.Sequential(AB), priors.Uniform(0.0, 1.0), 2)
    a, b = space.design(N, 4).T.numpy()
    assert stats.kstest(a, "uniform").pvalue > KS
    assert stats.kstest((b - a) / (1 - a), "uniform").pvalue > KS
    assert abs(np.corrcoef(a, (b - a) / (1 - a))[0, 1]) < 5.3 / math.sqrt(N)
    # Integrated over a: P(b < t) = t + (1 - t) log(1 - t).
    assert stats.kstest(b, lambda t: t + (1 - t) * np.log1p(-t)).pvalue > KS
    theta = torch.tensor([[0.25, 0.5]], dtype=torch.float64)
    assert float(space.log_prob(theta)) == pytest.approx(math.log(1 / 0.75), abs=1e-12)
    ordered = order_space(priors.Ordered(AB), priors.Uniform(0.0, 1.0), 2)
    assert float(ordered.log_prob(theta)) == pytest.approx(math.log(2), abs=1e-12)


@pytest.mark.parametrize("name", TORCH)
def test_densities_are_those_of_torch(name):
    space, law = KINDS[name](), TORCH[name]()
    theta = space.design(500, 1)
    torch.testing.assert_close(space.log_prob(theta), law.log_prob(theta), rtol=0, atol=1e-10)


def test_multivariate_normal_is_torchs():
    mean = torch.tensor([1.0, 2.0], dtype=torch.float64)
    law = torch.distributions.MultivariateNormal(
        mean, torch.tensor(COVARIANCE, dtype=torch.float64)
    )
    space = KINDS["multivariate normal"]()
    theta = space.design(500, 1)
    torch.testing.assert_close(space.log_prob(theta), law.log_prob(theta), rtol=0, atol=1e-12)
    assert [p.prior for p in space] == [priors.Normal(1.0, 1.0), priors.Normal(2.0, 2**0.5)]


@pytest.mark.parametrize("name", KINDS)
def test_plain_values_say_it_all(name):
    space = KINDS[name]()
    again = ParameterSpace.from_dict(json.loads(json.dumps(space.to_dict(), allow_nan=False)))
    assert again == space
    assert again.digest() == space.digest()
    third = ParameterSpace.from_dict(again.to_dict())
    assert third.digest() == space.digest()
    theta = space.design(50, 1)
    assert torch.equal(again.design(50, 1), theta)
    assert torch.equal(again.log_prob(theta), space.log_prob(theta))


def test_spaces_without_joint_priors_are_what_they_were():
    """Computed before there were joint priors: stores and identities of simulators hold them."""
    space = ParameterSpace([
        Parameter("a", priors.Uniform(0.0, 1.0), unit="mK"),
        Parameter("b", priors.LogNormal(0.0, 0.5), inferred=False),
        Parameter("c", torch.distributions.Gamma(2.0, 1.0)),
    ])  # fmt: skip
    assert space.digest() == "57901db11dfdc9303aa0e911bb03d564e79ad274e3162703e8f07af71de2ac52"
    identity = "65fd3419ffa6a0cedb2fd8a1bdff40e570474e30845a8b887962e55a1ba328a4"
    assert Digester()(space).hex() == identity


def test_joint_priors_are_part_of_what_a_space_is():
    laws = [priors.Uniform(0.0, 1.0)] * 2
    spaces = [pair(priors.Copula(AB, r), laws) for r in (0.5, 0.6)]
    spaces += [pair(kind(AB), laws) for kind in (priors.Ordered, priors.Sequential)]
    spaces += [ParameterSpace(list(spaces[0]))]
    assert len({s.digest() for s in spaces}) == len(set(spaces)) == 5
    assert len({Digester()(s) for s in spaces}) == 5


def test_blocks_anywhere_among_other_parameters():
    laws = {"x": priors.Uniform(0.0, 1.0), "b": priors.Normal(0.0, 1.0),
            "y": priors.LogUniform(1.0, 9.0), "a": priors.Uniform(2.0, 3.0)}  # fmt: skip
    space = ParameterSpace([Parameter(n, p) for n, p in laws.items()], [priors.Copula(AB, 0.8)])
    alone = ParameterSpace(list(space))
    theta = space.design(N, 3)
    # Independent columns are those of a space without the block.
    assert torch.equal(theta[:, [0, 2]], alone.design(N, 3)[:, [0, 2]])
    small = pair(priors.Copula(AB, 0.8), [laws["a"], laws["b"]])
    ab = theta[:, [3, 1]]
    rest = sum(laws[n].log_prob(theta[:, i]) for i, n in ((0, "x"), (2, "y")))
    torch.testing.assert_close(space.log_prob(theta), small.log_prob(ab) + rest)
    torch.testing.assert_close(
        space.to_unconstrained(theta)[:, [3, 1]], small.to_unconstrained(ab)
    )
    assert space.free_columns == [0, 2]
    shaped = theta.reshape(40, 100, 4)
    assert space.log_prob(shaped).shape == (40, 100)


def test_rows_outside_are_refused_by_the_name_of_the_block():
    space = KINDS["ordered"]()
    theta = torch.tensor([[1.5, 2.0], [2.5, 2.0], [1.0, 3.0]], dtype=torch.float64)
    with pytest.raises(ParameterError, match=r"ordered of a, b: expected a <= b; got 2.5, 2 in r"):
        space.check(theta)
    assert torch.isinf(space.log_prob(theta)).tolist() == [False, True, False]
    with pytest.raises(ParameterError, match=r"column 'b'.*nan in row 0"):
        space.check(np.array([[1.5, np.nan]]))
    outside = torch.tensor([[9.0, 9.0], [1.5, torch.nan]], dtype=torch.float64)
    assert bool(torch.isinf(space.log_prob(outside)).all())
    space.check(np.array([[2.0, 2.0]]))  # the edge, like bounds, is inside


@pytest.mark.parametrize("name", ["copula", "ordered", "sequential", "mixture"])
def test_corners_of_the_support_have_finite_u(name):
    space = KINDS[name]()
    for u in ([9.0, 9.0], [-9.0, -9.0], [9.0, -9.0]):
        theta = space.from_unconstrained(torch.tensor([u], dtype=torch.float64))
        assert bool(torch.isfinite(space.to_unconstrained(theta)).all())
        assert not bool(space.log_prob(theta).isnan())


def test_log_det_at_a_bound_is_that_of_u():
    """Two u far beyond the bound give one theta, and each its own Jacobian."""
    space = KINDS["copula"]()
    u = torch.tensor([[9.0, 6.0], [9.5, 6.0]], dtype=torch.float64)
    theta = space.from_unconstrained(u)
    assert theta[0, 0] == theta[1, 0] == 2.0
    log_det = space.log_abs_det_at(u, theta)
    # log phi(s) of the uniform one: s = u there.
    phi = stats.norm.logpdf([9.0, 9.5])
    density, score = space[1].prior.log_prob(theta[:, 1]), theta[:, 1].log() / 0.3
    lognormal = density.numpy() - stats.norm.logpdf(score.numpy())
    expected = -math.log(2) - phi - 0.5 * math.log(1 - 0.49) + lognormal
    np.testing.assert_allclose(log_det, expected, atol=1e-9)


def test_what_calibration_knows_of_ordered_priors():
    law = priors.Uniform(1.0, 3.0)
    space = order_space(priors.Ordered(("a", "b", "c")), law)
    theta = space.design(500, 3).numpy()
    exact = np.stack([stats.beta(j + 1, 3 - j).cdf((theta[:, j] - 1) / 2) for j in range(3)], 1)
    # 32,768 evenly spread draws: 2e-3, where as many random ones give 1e-2.
    np.testing.assert_allclose(prior_probability(space, theta), exact, atol=2e-3)
    np.testing.assert_allclose(
        stats.norm.cdf(normal_score(space, theta[:, 1], 1)), exact[:, 1], atol=2e-3
    )
    assert prior_variance(space, 0) == pytest.approx(4 * stats.beta(1, 3).var(), rel=5e-3)
    assert expected_log_prob(space) == pytest.approx(math.log(6 / 8), abs=1e-12)


def test_what_calibration_knows_of_copulas():
    normal = KINDS["multivariate normal"]()
    entropy = stats.multivariate_normal([1, 2], COVARIANCE).entropy()
    assert expected_log_prob(normal) == pytest.approx(-entropy, abs=1e-3)
    assert prior_variance(normal, 1) == pytest.approx(2.0, rel=1e-6)
    uniform = pair(priors.Copula(AB, 0.7), [priors.Uniform(0.0, 1.0)] * 2)
    assert expected_log_prob(uniform) == pytest.approx(-0.5 * math.log(1 - 0.49), abs=1e-3)
    theta = uniform.design(100, 1).numpy()
    np.testing.assert_allclose(prior_probability(uniform, theta), theta, atol=1e-12)


@pytest.mark.parametrize("name", KINDS)
def test_the_reach_holds_all_draws(name):
    space = KINDS[name]()
    reach = Reach(space)
    assert bool(reach.inside(space.to_unconstrained(space.design(20_000, 1))).all())
