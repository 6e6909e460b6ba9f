"""Members of joint priors where others look at one parameter at a time."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors
from sbitools.calibration import CalibrationDraws
from sbitools.calibration.statistics.outliers import far_out
from sbitools.errors import ParameterError
from sbitools.inference.coded import CodedSpace
from sbitools.inference.first_guess import can_guess
from sbitools.inference.prior_check import prior_mismatch
from sbitools.inference.truncation import Truncation

from .spaces import AB, KINDS, MIXTURE, pair

ABC = ("a", "b", "c")
COVARIANCE = np.array([[1.0, 0.6, 0.3], [0.6, 2.0, 0.8], [0.3, 0.8, 1.5]])
KS = 1e-7  # false-alarm rate


def three(joint, inferred=(True, True, True), law=None):
    return ParameterSpace(
        [Parameter(n, law, inferred=i) for n, i in zip(ABC, inferred, strict=True)], [joint]
    )


def test_nuisance_parameters_of_a_normal_are_integrated_out():
    mean = [1.0, 2.0, 3.0]
    space = three(priors.multivariate_normal(ABC, mean, COVARIANCE), (True, False, True)).inferred
    keep = [0, 2]
    expected = priors.multivariate_normal(("a", "c"), [1.0, 3.0], COVARIANCE[keep][:, keep])
    law = stats.multivariate_normal([1.0, 3.0], COVARIANCE[keep][:, keep])
    assert space.names == ["a", "c"]
    theta = space.design(200, 1)
    np.testing.assert_allclose(space.log_prob(theta), law.logpdf(theta), atol=1e-10)
    again = ParameterSpace([Parameter("a", None), Parameter("c", None)], [expected])
    np.testing.assert_allclose(space.log_prob(theta), again.log_prob(theta), atol=1e-10)
    assert ParameterSpace.from_dict(space.to_dict()) == space
    alone = three(priors.multivariate_normal(ABC, mean, COVARIANCE), (False, False, True)).inferred
    assert alone.blocks == ()
    assert alone[0].prior == priors.Normal(3.0, 1.5**0.5)


def test_nuisance_parameters_of_a_mixture_are_integrated_out():
    """The marginal of a by a sum over a grid of b, right to 1e-3."""
    space = ParameterSpace([Parameter("a", None), Parameter("b", None, inferred=False)], [MIXTURE])
    a = torch.tensor([0.1, 1.0, 2.5, 4.9], dtype=torch.float64)
    b = torch.linspace(-3 + 1e-4, 12, 4001, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(a, b, indexing="ij"), -1)
    summed = torch.trapezoid(space.log_prob(grid).exp(), b, dim=1)
    marginal = space.inferred.log_prob(a[:, None]).exp()
    torch.testing.assert_close(marginal, summed, rtol=2e-3, atol=1e-5)


def test_nuisance_parameters_of_ordered_blocks():
    law = priors.Uniform(0.0, 1.0)
    for inferred in ((True, False, True), (False, True, True), (True, True, False)):
        with pytest.raises(ParameterError, match=r"ordered of a, b, c.*nuisance, all together"):
            three(priors.Ordered(ABC), inferred, law)
    for inferred in ((True, False, True), (False, True, True)):
        with pytest.raises(ParameterError, match=r"sequential of a, b, c.*may come last"):
            three(priors.Sequential(ABC), inferred, law)
    kept = three(priors.Sequential(ABC), (True, True, False), law).inferred
    assert kept == pair(priors.Sequential(AB), [law, law])
    assert three(priors.Ordered(ABC), (False, False, False), law).inferred.names == []


@pytest.mark.parametrize("name", ["copula", "copula torch", "mixture", "sequential mixed"])
def test_nuisance_parameters_are_drawn_given_the_others(name):
    """All of theta then follows the joint prior: u is standard normal and independent."""
    laws = KINDS[name]()
    space = ParameterSpace(
        [Parameter("a", laws[0].prior), Parameter("b", laws[1].prior, inferred=False)],
        [laws.blocks[0].prior],
    )
    n = 4000
    theta = space.completed(space.design(n, 1)[:, :1], 7)
    assert torch.equal(theta, space.completed(space.design(n, 1)[:, :1], 7))
    assert torch.equal(theta[:, 0], space.design(n, 1)[:, 0])
    space.check(theta)
    u = space.to_unconstrained(theta).numpy()
    for column in u.T:
        assert stats.kstest(column, "norm").pvalue > KS
    assert abs(np.corrcoef(u.T)[0, 1]) < 5.3 / np.sqrt(n)
    # Drawn by itself, as an independent one is, it does not follow.
    wrong = space.design(n, 2)
    wrong[:, 0] = theta[:, 0]
    if name != "sequential mixed":
        assert abs(np.corrcoef(space.to_unconstrained(wrong).numpy().T)[0, 1]) > 0.1


def test_the_first_of_a_copula_may_be_the_nuisance():
    space = three(priors.multivariate_normal(ABC, [0, 0, 0], COVARIANCE), (False, True, False))
    n = 6000
    theta = space.completed(torch.full((n, 1), 2.0, dtype=torch.float64), 3)
    # Of a normal given b = 2: mean C_ab / C_bb * 2; 5.3 standard errors.
    given = COVARIANCE[[0, 2], 1] / 2.0
    np.testing.assert_allclose(theta[:, [0, 2]].mean(0), 2 * given, atol=5.3 * 1.2 / np.sqrt(n))
    expected = COVARIANCE[np.ix_([0, 2], [0, 2])] - 2.0 * np.outer(given, given)
    np.testing.assert_allclose(np.cov(theta[:, [0, 2]].T), expected, atol=0.12)


def test_rounds_draw_nuisance_parameters_given_the_others():
    space = ParameterSpace(
        [Parameter("a", priors.Normal(0.0, 1.0)), Parameter("b", priors.Normal(0.0, 1.0),
                                                            inferred=False)],
        [priors.Copula(AB, 0.95)],
    )  # fmt: skip
    truncation = Truncation(SimpleNamespace(), space, torch.zeros(1), 1e-3, 0)  # type: ignore[arg-type]
    theta = truncation._whole(torch.linspace(-2, 2, 2000, dtype=torch.float64)[:, None])
    assert np.corrcoef(theta.T)[0, 1] > 0.9


@pytest.mark.parametrize("name", ["copula", "ordered", "sequential", "mixture", "torch normal"])
def test_draws_of_a_joint_prior_are_no_mismatch(name):
    space = KINDS[name]()
    for kind in ("random", "sobol", "latin_hypercube"):
        for seed in range(3):
            assert prior_mismatch(space, space.design(500, seed, kind).numpy()) == []


def test_theta_of_another_correlation_are_told_of():
    laws = [priors.Uniform(0.0, 1.0), priors.Normal(0.0, 1.0)]
    told, drawn = pair(priors.Copula(AB, 0.7), laws), pair(priors.Copula(AB, 0.2), laws)
    found = prior_mismatch(told, drawn.design(1000, 1).numpy())
    assert any("in the copula of a, b" in text for text in found)
    ordered = pair(priors.Ordered(AB), [priors.Uniform(0.0, 1.0)] * 2)
    other = pair(priors.Sequential(AB), [priors.Uniform(0.0, 1.0)] * 2)
    assert prior_mismatch(ordered, other.design(1000, 1).numpy())
    # A correlation that the prior has is no fault; one that it has not, is.
    independent = ParameterSpace([Parameter(n, p) for n, p in zip(AB, laws, strict=True)])
    assert prior_mismatch(independent, told.design(1000, 1).numpy())


def test_a_guess_can_be_made_where_only_joint_priors_are_of_torch():
    gamma = priors.TorchPrior(torch.distributions.Gamma(2.0, 3.0))
    parameters = [Parameter(n, gamma) for n in AB]
    assert not can_guess(ParameterSpace(parameters))
    assert can_guess(ParameterSpace(parameters, [priors.Copula(AB, 0.5)]))


def test_codes_beside_a_joint_prior():
    space = ParameterSpace(
        [Parameter("k", None, categories=("x", "y")), Parameter("a", priors.Uniform(0.0, 1.0)),
         Parameter("b", priors.Normal(0.0, 1.0))],
        [priors.Copula(AB, 0.8)],
    )  # fmt: skip
    coded, theta = CodedSpace(space), space.design(500, 1)
    joint = pair(priors.Copula(AB, 0.8), [space[1].prior, space[2].prior])
    u = coded.to_unconstrained(theta)
    assert torch.equal(u[:, 0], theta[:, 0])
    torch.testing.assert_close(u[:, 1:], joint.to_unconstrained(theta[:, 1:]))
    torch.testing.assert_close(coded.from_unconstrained(u), theta)
    torch.testing.assert_close(coded.log_prob(theta), space.log_prob(theta))
    torch.testing.assert_close(coded.log_abs_det(theta), joint.log_abs_det(theta[:, 1:]))
    torch.testing.assert_close(
        coded.log_abs_det_at(u, theta), joint.log_abs_det(theta[:, 1:]), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("wild", [0, 5])
def test_ordered_draws_far_out_are_found(wild):
    """The posterior is the prior itself; five of 40,000 draws of it beyond 7 sigma are not."""
    space = KINDS["ordered normal"]()
    draws = space.design(40_000, 2).reshape(200, 200, 2)
    draws[3, :wild] = space.from_unconstrained(torch.tensor([0.0, 7.5]).double())
    d = CalibrationDraws(
        space.design(200, 1).numpy(), draws.numpy(), prior=space, names=AB, seed=0
    )
    found = far_out(d)
    assert found is not None
    assert (found.p_value < 1e-6) == bool(wild)
    assert not wild or found.name == "b"


def test_a_chain_becomes_a_prior():
    """A bent posterior: what 2,000 draws tell, to 0.1 nats a draw, on draws not seen."""
    rng = np.random.default_rng(1)

    def chain(n):
        a = rng.normal(size=n)
        return np.stack([a, 0.5 * a**2 + 0.5 * rng.normal(size=n)], 1)

    draws, fresh = chain(2000), chain(4000)
    joint = priors.joint_of_draws(AB, draws, seed=3, most=4)
    assert joint == priors.joint_of_draws(AB, draws, seed=3, most=4)
    assert 2 <= len(joint.weights) <= 4
    space = pair(joint)
    exact = stats.norm.logpdf(fresh[:, 0]) + stats.norm.logpdf(
        fresh[:, 1], 0.5 * fresh[:, 0] ** 2, 0.5
    )
    lost = exact - space.log_prob(torch.from_numpy(fresh)).numpy()
    assert -0.02 < lost.mean() < 0.1
    one = pair(priors.joint_of_draws(AB, draws, seed=3, most=1))
    assert (exact - one.log_prob(torch.from_numpy(fresh)).numpy()).mean() > 0.2
    assert len(str(space.to_dict())) < 5000


def test_a_chain_with_bounds_keeps_to_them():
    """Uniform draws between two ends are one normal number: flat to 3 %."""
    rng = np.random.default_rng(2)
    draws = np.stack([rng.uniform(0, 1, 3000), rng.gamma(3.0, size=3000)], 1)
    joint = priors.joint_of_draws(AB, draws, seed=0, bounds=[(0.0, 1.0), (0.0, None)], most=3)
    space = pair(joint)
    theta = space.design(4000, 1)
    assert bool(((theta[:, 0] >= 0) & (theta[:, 0] <= 1) & (theta[:, 1] > 0)).all())
    assert abs(float((theta[:, 0] < 0.1).double().mean()) - 0.1) < 0.03
    assert stats.ks_2samp(theta[:, 1], draws[:, 1]).statistic < 0.05
    with pytest.raises(ParameterError, match="column 'a'"):
        space.check(np.array([[1.1, 1.0]]))


def test_stores_keep_their_joint_prior(tmp_path):
    space = KINDS["sequential"]()
    theta = space.design(20, 0)
    spec = FieldSpec("x", ("i",), (2,))
    made = SimulationStore.from_arrays(tmp_path / "s", theta, theta.float(), space, spec)
    assert SimulationStore.open(tmp_path / "s").parameters == made.parameters == space
    wrong = theta.flip(1)
    with pytest.raises(ParameterError, match="a <= b"):
        SimulationStore.from_arrays(tmp_path / "t", wrong, wrong.float(), space, spec)
