"""FMPE and NPSE: the solver and its density on known fields, posteriors against exact ones."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import sbitools
from sbitools import FieldSpec, Posterior, SimulationStore, seeds
from sbitools.calibration import sbc
from sbitools.errors import ConfigError, MisspecificationWarning
from sbitools.inference.vector_field import VectorFieldEstimator, VectorFieldOptions
from sbitools.seeds import generator
from tests.oracles.gaussian import LinearGaussian

SPEC = FieldSpec("x", ("i",), (2,))
MODEL = LinearGaussian(n_parameters=2, n_data=3, sigma=0.3, dtype="float32")


def rough_estimator(n_parameters, method="fmpe", **options):
    """Weights large enough for a posterior that is far from normal."""
    table = VectorFieldOptions(method=method, field_hidden=16, features=2, channels=1, **options)
    estimator = VectorFieldEstimator(table, n_parameters, SPEC)
    rng = generator(1)
    with torch.no_grad():
        for p in estimator.parameters():
            p.add_(0.15 * torch.randn(p.shape, generator=rng))
    return estimator.requires_grad_(False)


@pytest.fixture
def rough():
    return rough_estimator(2, steps=40)


@pytest.fixture
def features(rough):
    return rough.features(torch.tensor([[0.3, -0.7], [1.0, 0.2]]))


def test_the_divergence_is_the_trace_of_the_jacobian(rough, features):
    condition, phi = rough.net.condition(features), torch.tensor(0.9)
    w = torch.randn(2, 3, 2, generator=generator(2))
    value, divergence = rough.net.with_divergence(w, phi, condition)
    torch.testing.assert_close(value, rough.net(w, phi, condition))
    for b in range(2):
        for i in range(3):
            jacobian = torch.autograd.functional.jacobian(
                lambda v, b=b: rough.net(v[None, None], phi, condition[b : b + 1])[0, 0], w[b, i]
            )
            torch.testing.assert_close(jacobian.trace(), divergence[b, i], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_parameters", [1, 2])
def test_the_density_integrates_to_one(n_parameters):
    rough = rough_estimator(n_parameters, steps=10)
    f = rough.features(torch.tensor([[0.3, -0.7]]))
    draws, _ = rough.draw(torch.randn(1, 2000, n_parameters, generator=generator(3)), f)
    assert float(stats.kstest(draws[0, :, 0].numpy(), "norm").statistic) > 0.1
    # A grid over all the draws and a margin: six widths hold all but 1e-8 of a light tail.
    middle, width = draws[0].mean(0), 7 * draws[0].std(0)
    one = torch.linspace(-1, 1, 4001 if n_parameters == 1 else 121)
    grid = torch.cartesian_prod(*[one] * n_parameters).reshape(1, -1, n_parameters)
    density = rough.log_prob(middle + width * grid, f).double().exp()
    cell = float((width * (one[1] - one[0])).prod())
    assert float(density.sum()) * cell == pytest.approx(1, abs=2e-3)


def test_draws_densities_and_latents_are_inverse_to_each_other(rough, features):
    z = torch.randn(2, 200, 2, generator=generator(4))
    u, log_q = rough.draw(z, features)
    torch.testing.assert_close(rough.log_prob(u, features), log_q, rtol=0, atol=2e-3)
    torch.testing.assert_close(rough.latent(u, features, generator(0)), z, rtol=0, atol=1e-3)
    same, nothing = rough.draw(z, features, density=False)
    torch.testing.assert_close(same, u)
    assert bool(nothing.isnan().all()), "a density that was not asked for is not a number"


class ExactField:
    """R of data N(0, sd^2): its regression on w = sin(phi) v + cos(phi) z."""

    def __init__(self, sd, shift=0.0):
        self.var, self.shift = sd**2, shift

    def condition(self, features):
        return features

    def __call__(self, w, phi, condition):
        sin, cos = phi.sin(), phi.cos()
        slope = (self.var - 1) * sin * cos / (sin**2 * self.var + cos**2)
        return slope[..., None] * w + self.shift


def test_the_solver_is_of_fourth_order():
    """The exact field of N(0, 1.5^2) takes z to 1.5 z."""
    z, errors = torch.linspace(-2, 2, 41).view(1, -1, 1), []
    for steps in (6, 12, 24):
        table = VectorFieldOptions(field_hidden=4, features=2, channels=1, steps=steps)
        estimator = VectorFieldEstimator(table, 1, SPEC).requires_grad_(False)
        del estimator.net
        object.__setattr__(estimator, "net", ExactField(1.5))
        u, _ = estimator.draw(z, estimator.features(torch.zeros(1, 2)), density=False)
        errors.append(float((u - 1.5 * z).abs().max()))
    # Halving the step leaves a sixteenth of the error; at second order, a quarter.
    assert errors[0] > 8 * errors[1] > 64 * errors[2]


def loss_of(method, sd, shift=0.0, *, training):
    table = VectorFieldOptions(method=method, field_hidden=4, features=2, channels=1)
    estimator = VectorFieldEstimator(table, 1, SPEC).requires_grad_(False).train(training)
    del estimator.net
    object.__setattr__(estimator, "net", ExactField(sd, shift))
    u = sd * torch.randn(1 << 14, 1, generator=generator(6))
    return float(estimator.loss(u, torch.zeros(len(u), 2), generator(7)).mean())


@pytest.mark.parametrize("sd", [0.5, 1.0, 2.0])
def test_the_validation_loss_bounds_the_negative_log_density(sd):
    """However far the head is from the data: here it stays at N(0, 1)."""
    entropy = 0.5 * math.log(2 * math.pi * math.e * sd**2)
    # Standard errors from 16,384 rows with eight levels are 0.01; the head alone is off by 0.3.
    assert loss_of("fmpe", sd, training=False) == pytest.approx(entropy, abs=0.04)
    assert loss_of("fmpe", sd, 0.1, training=False) > entropy + 0.01


@pytest.mark.parametrize("method", ["fmpe", "npse"])
def test_the_training_loss_is_least_for_the_true_field(method):
    least = loss_of(method, 2.0, training=True)
    # E weight is 1 for npse; for fmpe E 1 / (t^2 + (1 - t)^2) = pi / 2.
    weight = math.pi / 2 if method == "fmpe" else 1.0
    for shift in (-0.5, 0.5):
        excess = loss_of(method, 2.0, shift, training=True) - least
        assert excess == pytest.approx(weight * 0.25, abs=0.05)


def store_of(path, n, seed):
    theta = MODEL.parameters.design(n, seed)
    own = torch.from_numpy(seeds.simulation_seeds(seed, range(n)))
    x = MODEL.simulate(theta, own)
    return SimulationStore.from_arrays(path, theta, x, MODEL.parameters, MODEL.output, seeds=own)


@pytest.fixture(scope="module", params=["fmpe", "npse"])
def posterior(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    return sbitools.train(
        store_of(path / "s", 2000, 1), request.param, run_dir=path / "r", epochs=15,
        batch_size=128, learning_rate=5e-3, field_hidden=32, field_blocks=2, features=8,
        channels=4, times=4,
    )  # fmt: skip


def test_mean_and_covariance_are_those_of_the_closed_form(posterior):
    theta, x = (torch.from_numpy(a) for a in MODEL.joint(100, 2))
    draws = posterior.sample(x.float(), 100, seed=1).numpy()
    root = np.linalg.inv(np.linalg.cholesky(MODEL.covariance))
    white = (draws - MODEL.mean(x.numpy())[:, None]) @ root.T
    # In units of the exact posterior, from 2,000 simulations; a prior would be 3 widths wide.
    assert np.abs(white.mean((0, 1))).max() < 0.1
    assert np.sqrt((white.mean(1) ** 2).mean()) < 0.25
    assert np.abs(np.cov(white.reshape(-1, 2).T) - np.eye(2)).max() < 0.15
    excess = (
        MODEL.log_prob(theta.numpy(), x.numpy()) - posterior.log_prob(theta, x.float()).numpy()
    )
    assert excess.mean() < 0.08


def test_calibration_by_ranks_passes(posterior):
    theta, x = MODEL.joint(150, 3)
    draws = posterior.sample(torch.from_numpy(x).float(), 63, seed=2)
    assert sbc(draws.numpy(), theta).p_value > 1e-3


def test_draws_follow_the_density(posterior):
    x = torch.from_numpy(MODEL.joint(3, 4)[1]).float()
    draws, log_q = posterior.sample_and_log_prob(x, 50, seed=3)
    torch.testing.assert_close(posterior.log_prob(draws, x), log_q, rtol=0, atol=5e-3)
    one = posterior.sample(x[:1], 50, seed=3)
    torch.testing.assert_close(one, draws[:1], rtol=1e-4, atol=1e-4)


def test_save_and_load_are_bit_equal(posterior, tmp_path):
    again = Posterior.load(posterior.save(tmp_path / "p"))
    x = torch.zeros(2, 3)
    assert torch.equal(again.sample(x, 20, 1), posterior.sample(x, 20, 1))
    assert again.options == posterior.options


def test_a_hopeless_observation_costs_no_more_than_another(posterior):
    far = torch.full((1, 3), 1e6)
    with pytest.warns(MisspecificationWarning):
        draws, log_q = posterior.sample_and_log_prob(far, 100, seed=0, time_limit=20)
    assert bool(draws.isfinite().all())
    assert bool(log_q.isfinite().all())


def test_bad_options_raise_typed_errors(tmp_path):
    store = store_of(tmp_path / "s", 64, 1)
    bad = [("fmpe", {"steps": 0}), ("npse", {"times": 0}), ("fmpe", {"flow_hidden": 8}),
           ("fmpe", {"time_power": -1.0})]  # fmt: skip
    for method, options in bad:
        with pytest.raises(ConfigError, match=next(iter(options))):
            sbitools.train(store, method, run_dir=tmp_path / "r", **options)
