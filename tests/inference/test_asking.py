"""How a posterior is asked: one field or several, any dtype, with a seed or without."""

import warnings

import numpy as np
import pytest
import torch
from scipy.stats import norm

from sbitools.arviz import from_arviz, to_arviz, to_getdist
from sbitools.errors import MisspecificationWarning, ObservationError
from sbitools.inference.likelihood import LikelihoodOptions
from sbitools.inference.mcmc import MCMCPosterior
from sbitools.inference.repaired import RecalibratedPosterior
from sbitools.inference.repaired.shape import ScoreShape
from sbitools.observation import Observation
from sbitools.observation.entry import is_one_field
from sbitools.simulator import FieldSpec
from tests.oracles.gaussian import LinearGaussian

from .conftest import NOISE
from .test_mcmc import Exact

X = torch.tensor([[0.3, 0.2], [-1.0, 0.9]])


def test_no_seed_means_new_draws_and_a_seed_the_same_ones(posterior):
    draws = torch.stack([posterior.sample(X[:1], 5) for _ in range(10)])
    assert len({tuple(d.flatten().tolist()) for d in draws}) == 10
    assert torch.equal(posterior.sample(X, 5, seed=0), posterior.sample(X, 5, seed=0))
    first, second = (posterior.sample_and_log_prob(X, 5)[0] for _ in range(2))
    assert not torch.equal(first, second)
    a, b = (from_arviz(to_arviz(posterior, X, 20, prior=0), posterior.parameters) for _ in "ab")
    assert not np.array_equal(a, b)


def test_one_field_is_a_batch_of_one_without_its_axis(posterior):
    many, log_q = posterior.sample_and_log_prob(X[:1], 6, seed=3)
    one, own = posterior.sample_and_log_prob(X[0], 6, seed=3)
    assert torch.equal(one, many[0])
    assert torch.equal(own, log_q[0])
    assert torch.equal(posterior.sample(X[0], 6, seed=3), one)
    assert torch.equal(posterior.sample(x=X[0].tolist(), n=6, seed=3), one)
    assert torch.equal(posterior.log_prob(one, X[0]), posterior.log_prob(many, X[:1])[0])
    assert posterior.log_prob(one[0], X[0]).shape == ()
    # float32 matrix products differ in the last digits with the number of rows.
    torch.testing.assert_close(posterior.log_prob(one[0], X[0]), own[0], rtol=1e-5, atol=1e-5)
    assert torch.equal(posterior.features(X[0]), posterior.features(X[:1])[0])
    assert posterior.latent(one[0], X[0]).shape == (2,)
    seeds = torch.tensor([4])
    assert torch.equal(posterior.observe(X[0], seeds), posterior.observe(X[:1], seeds)[0])
    assert to_getdist(posterior, X[0], 50, seed=1).samples.shape == (50, 2)
    assert to_arviz(posterior, X[0], 50)["observed_data"]["x"].shape == (2,)


def test_float64_is_taken_everywhere_and_rounded_to_what_was_trained_on(posterior):
    exact = X.double() + 1e-12
    theta = posterior.sample(X, 4, seed=1)
    for kind in (exact, exact.numpy(), exact.tolist(), exact.numpy().astype(">f8")):
        assert torch.equal(posterior.sample(kind, 4, seed=1), theta)
        assert torch.equal(posterior.log_prob(theta, kind), posterior.log_prob(theta, X))
        assert torch.equal(posterior.features(kind), posterior.features(X))
        seeds = torch.tensor([1, 2])
        assert torch.equal(posterior.observe(kind, seeds), posterior.observe(X, seeds))
    whole = torch.tensor([[1, 0]])
    assert torch.equal(posterior.sample(whole, 3, seed=1), posterior.sample(whole.float(), 3, 1))
    for bad in (1e60, float("nan"), float("inf")):
        with pytest.raises(ObservationError):
            posterior.sample(torch.full((1, 2), bad, dtype=torch.float64), 3)


@pytest.mark.parametrize(
    ("x", "shape", "one"),
    [
        (np.zeros(3), (3,), True),
        (np.zeros((1, 3)), (3,), False),
        (np.zeros((3, 3)), (3,), False),
        ([1.0, 2.0, 3.0], (3,), True),
        ([[1.0, 2.0, 3.0]], (3,), False),
        ([np.zeros(3)] * 3, (3,), False),
        (2.5, (), True),
        ([2.5], (), False),
        ({"x": np.zeros(3)}, (3,), True),
        ({"x": np.zeros((2, 3))}, (3,), False),
        (np.zeros((4, 3)), (4, 3), True),
        (np.array([np.zeros(2), np.zeros(3), 0], dtype=object), (3,), False),
    ],
)
def test_what_is_one_field(x, shape, one):
    dims = tuple("ijk")[: len(shape)]
    assert is_one_field(x, FieldSpec("x", dims, shape)) is one


def test_a_labelled_field_in_another_order_is_one_field():
    import xarray

    spec = FieldSpec("x", ("i", "j"), (2, 3))
    assert is_one_field(xarray.DataArray(np.zeros((3, 2)), dims=("j", "i")), spec)
    assert not is_one_field(xarray.DataArray(np.zeros((3, 5, 2)), dims=("j", "run", "i")), spec)


def test_counts_take_whole_numbers_alone():
    from sbitools.observation.entry import in_dtype

    spec = FieldSpec("n", ("i",), (2,), "int64")
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    assert in_dtype(x, spec).dtype == torch.int64
    with pytest.raises(ObservationError, match="int64 can hold"):
        in_dtype(x + 0.5, spec)


def test_warnings_point_at_the_line_that_asked(posterior):
    far = torch.tensor([1e6, -1e6])
    for ask in (
        lambda: posterior.sample(far, 10, seed=1),
        lambda: posterior.sample(far[None], 10, seed=1),
        lambda: posterior.sample_and_log_prob(far, 10, seed=1),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ask()
        assert [w.filename for w in caught if w.category is MisspecificationWarning] == [__file__]


def test_chains_take_one_field_and_new_seeds():
    model = LinearGaussian(2, 5)
    posterior = MCMCPosterior(
        Exact(model), LikelihoodOptions(), model.parameters, model.output, Observation()
    )
    x = torch.from_numpy(model.joint(1, 1)[1])
    one = posterior.sample(x[0], 40, seed=2)
    assert torch.equal(one, posterior.sample(x, 40, seed=2)[0])
    assert one.shape == (40, 2)
    assert not torch.equal(posterior.sample(x[0], 40), posterior.sample(x[0], 40))
    table = posterior.summary(x[0], n=400)
    assert (table["ess_bulk"] >= 400).all()
    assert (table["r_hat"] <= 1.01).all()
    mean = model.mean(x.numpy())[0]
    width = np.sqrt(np.diag(model.covariance))
    assert np.abs((posterior.map(x[0], n=400).numpy() - mean) / width).max() < 0.01


def true_log_evidence(x):
    """Of the problem in conftest: x_0 is normal, x_1 a normal spread over [-1, 1]."""
    inside = norm.cdf((1 - x[:, 1]) / NOISE) - norm.cdf((-1 - x[:, 1]) / NOISE)
    return norm(0, np.sqrt(1 + NOISE**2)).logpdf(x[:, 0]) + np.log(inside / 2)


def test_a_trained_posterior_is_corrected_by_the_likelihood_and_gives_the_evidence(posterior):
    def log_likelihood(theta, x):
        return norm(0, NOISE).logpdf((x - theta).numpy()).sum(-1)

    found = posterior.reweight(X, log_likelihood, n=4000, seed=1)
    assert found.log_evidence == pytest.approx(true_log_evidence(X.numpy()), abs=0.1)
    assert (found.pareto_k < 0.7).all()
    assert (found.effective > 1000).all()
    # Five standard errors of the mean of a: a normal of variance 1 / (1 + 1 / NOISE^2).
    mean = X[:, 0].numpy() / (1 + NOISE**2)
    sd = NOISE / np.sqrt(1 + NOISE**2)
    assert (np.abs(found.mean[:, 0] - mean) < 5 * sd / np.sqrt(found.effective)).all()


def repaired(posterior):
    numbers = torch.tensor([[0.2, 0.1, 0.0, 0.0], [0.0, -0.1, 0.05, 0.0]], dtype=torch.float64)
    return RecalibratedPosterior(posterior, ScoreShape(numbers.numpy()))


@pytest.mark.parametrize("make", [lambda p: p, repaired])
def test_results_of_trained_and_repaired_posteriors_agree_with_their_density(make, posterior):
    own = make(posterior)
    peak = own.map(X, n=500, seed=1)
    assert peak.shape == (2, 2)
    log_q = own.sample_and_log_prob(X, 2000, seed=2)[1]
    # No draw is above the peak, but for what float32 cannot tell.
    assert (own.log_prob(peak, X) > log_q.max(1).values - 1e-3).all()
    assert bool((peak[:, 1].abs() <= 1).all())
    found = own.conditional(X[0], {"b": 0.1})
    assert np.trapezoid(found.density, found.grid[0]) == pytest.approx(1, abs=1e-3)
    at = np.searchsorted(found.grid[0], [0.0, 0.3])
    theta = torch.tensor([[found.grid[0][i], 0.1] for i in at])
    ratio = own.log_prob(theta, X[0]).diff().numpy()
    assert np.log(found.density[at[1]] / found.density[at[0]]) == pytest.approx(ratio, abs=1e-3)
    table = own.summary(X, n=500, seed=3)
    mean = float(own.sample(X, 500, 3)[0, :, 0].mean())
    assert table.loc[(0, "a"), "mean"] == pytest.approx(mean)
    assert len(own.plot(X[0], truth=peak[0], n=200).axes) == 4
