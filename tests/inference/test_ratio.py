"""NRE: its losses against their definitions, and its posterior against the exact one."""

import math

import numpy as np
import pytest
import torch

import sbitools
from sbitools import FieldSpec, Parameter, ParameterSpace, Posterior, priors
from sbitools.inference.ratio import RatioEstimator, RatioOptions
from sbitools.seeds import generator, normal

from .conftest import NOISE, SPACE, SPEC, gaussian_store
from .test_npe import exact_log_prob

SMALL = {"hidden": 16, "blocks": 1, "features": 4, "channels": 1}


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    return sbitools.train(
        store, "nre", run_dir=tmp_path_factory.mktemp("nre"), epochs=12, batch_size=64,
        hidden=32, blocks=1, features=8, channels=4, learning_rate=5e-3, workers=1,
    )  # fmt: skip


def test_posterior_is_close_to_the_exact_one(trained, tmp_path):
    test = gaussian_store(tmp_path / "test", n=400, seed=2)
    theta, x = test.theta, test.read(test.done)
    excess = exact_log_prob(theta.numpy(), x.numpy()) - trained.log_prob(theta, x).numpy()
    # Nats. The ratio is normalised as far as it is right; an untrained one loses 1 nat.
    assert abs(excess.mean()) < 0.15


def test_draws_have_the_exact_mean_and_stay_in_the_prior(trained):
    draws = trained.sample(torch.tensor([[0.4, -0.9]]), 500, seed=3)[0]
    assert bool((draws[:, 1].abs() <= 1).all())
    variance = 1 / (1 + 1 / NOISE**2)
    mean = 0.4 * variance / NOISE**2
    # 500 draws give the mean to 0.045 widths; the rest is for what 2,000 simulations teach.
    assert abs(float(draws[:, 0].mean()) - mean) < 0.3 * variance**0.5
    assert abs(float(draws[:, 0].std()) / variance**0.5 - 1) < 0.25


def test_checkpoints_keep_the_classifier(trained, tmp_path):
    again = Posterior.load(trained.save(tmp_path / "p"))
    x = torch.zeros(2, 2)
    assert torch.equal(again.sample(x, 10, seed=1), trained.sample(x, 10, seed=1))


def test_contrasts_are_parameters_of_other_rows():
    estimator = RatioEstimator(RatioOptions(**SMALL), SPACE, SPEC)
    u = torch.arange(16.0)[:, None].expand(16, 2)
    others = estimator._contrasts(u, generator(1))[..., 0]
    assert others.shape == (16, 15)
    for i, row in enumerate(others.tolist()):
        assert sorted([*row, float(i)]) == list(range(16))
    assert estimator._contrasts(u[:3], generator(1)).shape == (3, 2, 2)
    assert estimator._contrasts(u[:1], generator(1)).shape == (1, 1, 2)


def test_a_row_alone_is_contrasted_with_the_prior():
    """Of a TorchPrior, whose u is theta itself: N(5, 1) here, which no N(0, 1) reaches."""
    law = torch.distributions.Normal(torch.tensor(5.0), torch.tensor(1.0))
    space = ParameterSpace([Parameter(n, priors.TorchPrior(law)) for n in ("a", "b")])
    estimator = RatioEstimator(RatioOptions(**SMALL), space, SPEC)
    alone = torch.zeros(1, 2)
    drawn = torch.cat([estimator._contrasts(alone, generator(i))[0] for i in range(100)])
    # The mean of 200 numbers is known to 0.07; five of those.
    assert drawn.mean().item() == pytest.approx(float(space.to_unconstrained(
        space.design(10_000, 1)).mean()), abs=0.35)  # fmt: skip
    assert drawn.mean() > 3


@pytest.mark.parametrize("odds", [0.5, 1.0, 3.0])
def test_the_contrastive_loss_is_the_cross_entropy_of_its_classes(odds):
    """Classes as in arXiv:2210.06170: 0 for "none of them", K for the one that belongs to x."""
    estimator = RatioEstimator(RatioOptions(**SMALL, odds=odds), SPACE, SPEC)
    h = normal(range(5), (8,))
    joint, others = h[:, 0], h[:, 1:]
    k = others.shape[1]
    expected = []
    for own, rest in zip(joint.tolist(), others.tolist(), strict=True):
        none = k / (k + odds * sum(map(math.exp, rest)))
        total = k + odds * (math.exp(own) + sum(map(math.exp, rest[1:])))
        picked = odds * math.exp(own) / total
        expected.append(-(math.log(none) + odds * math.log(picked)) / (1 + odds))
    np.testing.assert_allclose(estimator._contrastive(joint, others), expected, rtol=1e-5)


def test_the_penalty_of_the_balanced_loss_is_not_biased_by_few_rows():
    options = RatioOptions(**SMALL, objective="balanced", balance=1.0)
    estimator = RatioEstimator(options, SPACE, SPEC)
    joint, other = normal(range(16_000), (2,)).T
    plain = RatioEstimator(options.model_copy(update={"balance": 0.0}), SPACE, SPEC)
    rows = range(0, 16_000, 4)
    got = np.mean([
        float((estimator._balanced(joint[i : i + 4], other[i : i + 4])
               - plain._balanced(joint[i : i + 4], other[i : i + 4])).mean()) for i in rows
    ])  # fmt: skip
    # Logits around 0 are balanced: the penalty is 0, to 6e-4; the biased one would be 0.021.
    assert abs(got) < 4e-3


def test_an_untrained_classifier_says_nothing_and_fields_are_welcome():
    spec = FieldSpec("map", ("x", "y"), (16, 16))
    estimator = RatioEstimator(RatioOptions(**SMALL), SPACE, spec)
    x, u = normal(range(3), (16, 16)), normal(range(3), (5, 2)).double()
    assert torch.equal(estimator.log_ratio(u, estimator.features(x)), torch.zeros(3, 5))


@pytest.mark.parametrize("objective", ["contrastive", "balanced"])
def test_every_objective_trains(objective, store, tmp_path):
    posterior = sbitools.train(
        store, "nre", run_dir=tmp_path / "r", epochs=2, batch_size=500, objective=objective,
        learning_rate=5e-3, **SMALL,
    )  # fmt: skip
    rows = posterior.info["history"]["epochs"]
    assert rows[-1]["validation_loss"] < rows[0]["validation_loss"]
