"""Weights by a likelihood: the exact posterior and the evidence of linear-Gaussian problems."""

import warnings

import numpy as np
import pytest
import torch
from scipy.stats import genpareto, multivariate_normal

from sbitools.errors import ImportanceWarning, PosteriorError
from sbitools.results.weights import pareto_smoothed

from .conftest import MODEL, Exact


def log_likelihood(theta, x):
    residual = x - theta @ torch.from_numpy(MODEL.matrix).T
    norm = MODEL.n_data * np.log(MODEL.sigma * np.sqrt(2 * np.pi))
    return -0.5 * (residual / MODEL.sigma).square().sum(-1) - norm


def evidence(x):
    """ln p(x): x is normal with covariance A A^T + sigma^2."""
    a = MODEL.matrix
    return multivariate_normal(cov=a @ a.T + MODEL.sigma**2 * np.eye(len(a))).logpdf(x)


@pytest.mark.parametrize("width", [1.0, 1.3])
def test_a_posterior_too_wide_gets_the_right_width_and_evidence(x, width):
    found = Exact(width=width).reweight(x, log_likelihood, n=10_000, seed=3)
    assert found.log_evidence == pytest.approx(evidence(x.numpy()), abs=0.1)
    # Five standard errors, as stated, and 1e-9 for rounding: a false alarm in 10^6 runs.
    off = np.abs(found.log_evidence - evidence(x.numpy()))
    assert (off < 5 * found.log_evidence_error + 1e-9).all()
    sd = np.sqrt(np.diag(MODEL.covariance))
    error = 1 / np.sqrt(found.effective[:, None])
    assert (np.abs(found.mean - MODEL.mean(x.numpy())) / sd < 5 * error).all()
    assert (np.abs(found.sd / sd - 1) < 5 * error / np.sqrt(2)).all()
    # 1 / E[w^2] of three normals over wider ones; 0.03 is three times its error.
    efficiency = (np.sqrt(2 * width**2 - 1) / width**2) ** 3
    assert found.effective / 10_000 == pytest.approx(efficiency, abs=0.03)
    assert (found.pareto_k < 0.5).all()
    again = found.resample(4000, seed=1)
    assert again.shape == (3, 4000, 3)
    # The standard error of a width of 4000 of the effective draws, five times.
    assert (np.abs(again.std(1).numpy() / sd - 1) < 5 / np.sqrt(2 * 4000 * efficiency)).all()
    assert torch.equal(again, found.resample(4000, seed=1))
    assert not torch.equal(again, found.resample(4000, seed=2))


def test_one_field_has_no_batch_axis(x):
    found = Exact(width=1.3).reweight(x[0], log_likelihood, n=1000)
    assert found.draws.shape == (1000, 3)
    assert np.ndim(found.log_evidence) == 0
    assert found.resample(7).shape == (7, 3)
    whole = Exact(width=1.3).reweight(x[:1], lambda t: log_likelihood(t, x[0]), n=1000)
    assert float(found.log_evidence) == pytest.approx(float(whole.log_evidence[0]))


def test_a_posterior_too_narrow_warns(x):
    with pytest.warns(ImportanceWarning, match=r"Pareto k up to"):
        found = Exact(width=0.4).reweight(x, log_likelihood)
    assert (found.pareto_k > 0.7).all()


def test_a_posterior_without_a_constant_has_no_evidence(x):
    class Unnormalised(Exact):
        normalised = False

        def log_prob(self, theta, x):
            return super().log_prob(theta, x) + 7

    found = Unnormalised(width=1.3).reweight(x, log_likelihood)
    assert np.isnan(found.log_evidence).all()
    assert found.sd == pytest.approx(Exact(width=1.3).reweight(x, log_likelihood).sd)


@pytest.mark.parametrize("k", [-0.3, 0.2, 0.6, 1.0])
def test_the_shape_of_a_pareto_tail_is_found(k):
    """Of 190 values in the tail the standard error of k is (1 + k) / sqrt(190); four of them."""
    values = 1 + genpareto(k).rvs(4000, random_state=np.random.default_rng(2))
    smooth, found = pareto_smoothed(np.log(values))
    assert found == pytest.approx(k, abs=4 * (1 + k) / np.sqrt(190))
    assert smooth.max() <= np.log(values).max()
    assert (np.diff(smooth[np.argsort(values)]) >= 0).all()


def test_it_is_the_estimate_of_arviz():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        arviz = pytest.importorskip("arviz")
    if not hasattr(arviz, "psislw"):
        pytest.skip("ArviZ 1 has no psislw")
    values = np.random.default_rng(3).standard_t(3, 5000)
    smooth, k = arviz.psislw(values.copy())
    own, found = pareto_smoothed(values)
    assert found == pytest.approx(float(k), rel=1e-6)
    assert own - np.logaddexp.reduce(own) == pytest.approx(np.asarray(smooth), abs=1e-6)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda t: torch.zeros(3), r"\(500,\) numbers"),
        (lambda t: torch.full((500,), torch.nan), "500 NaN"),
        (lambda t: torch.full((500,), -torch.inf), "0 at all 500"),
        (lambda t: "no", "numbers"),
        (3.0, "a function"),
    ],
)
def test_bad_likelihoods_are_refused(x, function, words):
    with pytest.raises(PosteriorError, match=words):
        Exact().reweight(x, function, n=500)
