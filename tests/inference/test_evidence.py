"""The evidence of learned likelihoods, against closed forms; no network is trained."""

import math

import numpy as np
import pytest
import torch

from sbitools import FieldSpec, Observation, Parameter, ParameterSpace, priors
from sbitools.errors import ImportanceWarning, ObservationError, PosteriorError, TimeLimitError
from sbitools.inference import evidence as of_posterior
from sbitools.inference.evidence import LikelihoodPosterior
from sbitools.inference.likelihood import LikelihoodEstimator, LikelihoodOptions
from sbitools.inference.vectors.likelihood import VectorLikelihood
from sbitools.results import Evidence
from tests.inference.test_mcmc import Exact, TwoModes, posterior_of
from tests.oracles.gaussian import LinearGaussian


def learned(model, exact=Exact, log_scale=None):
    estimator = exact(model)
    if log_scale is None:
        log_scale = -0.5 * model.n_data * math.log(2 * math.pi * model.sigma**2)
    estimator.log_scale = log_scale
    return LikelihoodPosterior(
        estimator, LikelihoodOptions(), model.parameters, model.output, Observation()
    )


def exact_evidence(model, x):
    a, d = model.matrix, model.n_data
    covariance = a @ a.T + model.sigma**2 * np.eye(d)
    chi2 = np.einsum("bi,ij,bj->b", x, np.linalg.inv(covariance), x)
    return -0.5 * (chi2 + np.linalg.slogdet(2 * np.pi * covariance)[1])


@pytest.mark.parametrize(("n_parameters", "sigma"), [(1, 1.0), (3, 0.2)])
def test_a_linear_gaussian_evidence_is_that_of_the_closed_form(n_parameters, sigma):
    """5 stated errors, two observations: a false alarm in 10^6 runs; the error is small, too."""
    model = LinearGaussian(n_parameters, 5, sigma=sigma)
    x = model.joint(2, 1)[1]
    found = learned(model).evidence(torch.from_numpy(x), n=2000, seed=3)
    truth = exact_evidence(model, x)
    assert found.log_evidence.shape == (2,)
    assert (np.abs(found.log_evidence - truth) < 5 * found.log_evidence_error).all()
    assert (found.log_evidence_error < 0.01).all()
    assert (found.overlap > 0.9).all()
    assert found.trusted.all()
    # Four ensembles: Student's t with 3 degrees of freedom is beyond 25 once in 10^4 times.
    stones = np.abs(found.stepping_stones - truth) / found.stepping_stones_error
    assert (stones < 25).all()
    assert (np.abs(found.stepping_stones - truth) < 0.5).all()


def test_two_distant_modes_are_no_obstacle():
    """p(x) is 0.75 of one normal's and 0.25 of the other's, which are equal by symmetry."""
    model, width, x = LinearGaussian(2, 2), 0.05, np.array([0.8, 1.0])
    log_norm = math.log(2 * math.pi * width**2)
    found = learned(model, TwoModes, -log_norm).evidence(torch.from_numpy(x), n=2000, seed=1)
    variance = 1 + width**2
    truth = -0.5 * (x**2).sum() / variance - math.log(2 * math.pi * variance)
    assert found.log_evidence.shape == ()
    # The weights of the modes among the draws are uncertain by more than the formula knows.
    assert abs(found.log_evidence - truth) < 0.05
    assert found.overlap > 0.8


def test_the_same_seed_is_the_same_answer_and_rows_are_alone():
    model = LinearGaussian(2, 4)
    x, posterior = torch.from_numpy(model.joint(2, 5)[1]), learned(model)
    one = posterior.evidence(x, n=1000, seed=2)
    again = posterior.evidence(x[0], n=1000, seed=2)
    np.testing.assert_allclose(again.log_evidence, one.log_evidence[0], rtol=1e-9)
    np.testing.assert_allclose(again.stepping_stones, one.stepping_stones[0], rtol=1e-9)
    other = posterior.evidence(x[0], n=1000, seed=3)
    assert other.log_evidence != again.log_evidence


SPEC = FieldSpec("x", ("i",), (2,))
SPACE = ParameterSpace([Parameter("a", priors.Normal(0.0, 1.0))])


@pytest.mark.parametrize("kind", ["flow", "vector"])
def test_the_scale_makes_a_learned_density_integrate_to_one(kind):
    """Whatever its weights: over a grid of x in units of 10 and 0.01."""
    if kind == "flow":
        estimator = LikelihoodEstimator(LikelihoodOptions(flow="zuko_maf"), SPACE, SPEC)
    else:
        estimator = VectorLikelihood(SPACE, SPEC, hidden=8, members=1, components=2, seed=0)
    spread = torch.tensor([10.0, 0.01], dtype=torch.float64)
    estimator.embedding.set_scale(torch.tensor([3.0, -1.0], dtype=torch.float64), spread)
    z = torch.linspace(-8, 8, 161, dtype=torch.float64)
    x = torch.cartesian_prod(z, z) * spread + torch.tensor([3.0, -1.0])
    u = torch.full((len(x), 1, 1), 0.3, dtype=torch.float64)
    with torch.no_grad():
        density = estimator.log_ratio(u, estimator.features(x))[:, 0].double()
    cell = (z[1] - z[0]) ** 2 * spread.prod()
    total = float((density + estimator.log_scale).exp().sum() * cell)
    # The rectangle rule on a smooth density is far better than this.
    assert total == pytest.approx(1, abs=0.02)


def test_an_evidence_that_its_two_estimates_disagree_on_is_told_of(monkeypatch):
    model = LinearGaussian(2, 4)
    x = torch.from_numpy(model.joint(1, 5)[1])
    monkeypatch.setattr(
        of_posterior, "_stones", lambda s: (np.full(len(s), 1.0), np.full(len(s), 0.01))
    )
    with pytest.warns(ImportanceWarning, match=r"observations \[0\] cannot be trusted"):
        learned(model).evidence(x, n=1000, seed=0)


def test_trust_needs_overlap_and_agreement():
    numbers = np.zeros(4)
    found = Evidence(
        numbers, np.full(4, 0.01), np.array([0.5, 0.05, 0.5, 0.5]),
        np.array([0.05, 0.0, 0.6, 0.6]), np.array([0.001, 0.1, 0.01, 0.2]),
    )  # fmt: skip
    assert found.trusted.tolist() == [True, False, False, True]


def test_bad_requests_raise_typed_errors():
    model = LinearGaussian(2, 4)
    x, posterior = torch.from_numpy(model.joint(1, 5)[1]), learned(model)
    for n in (999, 0, -1, "many", 1000.5):
        with pytest.raises(PosteriorError, match="n of"):
            posterior.evidence(x, n=n)
    with pytest.raises(ObservationError, match="finite"):
        posterior.evidence(x * np.nan)
    with pytest.raises(ObservationError, match="shape"):
        posterior.evidence(x[:, :2])
    with pytest.raises(TimeLimitError):
        posterior.evidence(x, time_limit=0.0)
    # Chains of an unnormalised ratio know no evidence.
    with pytest.raises(PosteriorError, match="method='nle'"):
        posterior_of(model).evidence(x)


def test_chains_that_stand_still_are_an_error(monkeypatch):
    model = LinearGaussian(2, 4)
    x, posterior = torch.from_numpy(model.joint(1, 5)[1]), learned(model)
    draw = posterior._draw

    def still(*args, **kwargs):
        u, log_p = draw(*args, **kwargs)
        return u[:, :1].expand_as(u), log_p[:, :1].expand_as(log_p)

    monkeypatch.setattr(posterior, "_draw", still)
    with pytest.raises(PosteriorError, match="different draws"):
        posterior.evidence(x, n=1000, seed=0)
