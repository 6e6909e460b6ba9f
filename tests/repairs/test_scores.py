"""Normal scores and their shapes: bijections with exact densities; fits that find the truth."""

import numpy as np
import pytest
import torch
from scipy import stats

from sbitools.errors import ShapeError
from sbitools.repairs.scores import MarginalScores
from sbitools.repairs.shape import ScoreShape, choose_strength, fit_shape
from sbitools.seeds import generator

SHAPE = ScoreShape(np.array([[0.3, -0.2, 0.1, 0.05], [0.0, 0.4, -0.1, -0.2]]))


def normal_draws(n=4000):
    z = torch.randn(3, n, 2, generator=generator(1), dtype=torch.float64)
    return z * torch.tensor([0.3, 2.0]) + 1


@pytest.mark.parametrize("bijection", [MarginalScores(normal_draws()), SHAPE])
def test_maps_are_bijections_with_the_right_derivative(bijection):
    u = torch.linspace(-9, 11, 301, dtype=torch.float64)[None, :, None].repeat(3, 1, 2)
    u.requires_grad_()
    s, log_slope = bijection.forward(u)
    (slope,) = torch.autograd.grad(s.sum(), u)
    torch.testing.assert_close(slope.log(), log_slope, rtol=0, atol=1e-9)
    back, inverse_slope = bijection.inverse(s.detach())
    torch.testing.assert_close(back, u.detach(), rtol=0, atol=1e-7)
    torch.testing.assert_close(inverse_slope, -log_slope.detach(), rtol=0, atol=1e-7)


def test_scores_of_a_normal_posterior_are_its_z():
    scores = MarginalScores(normal_draws())
    u = torch.tensor([1.0 - 0.6, 1.0 + 0.3])  # -2 and +1 sd of the first parameter
    s = scores.forward(u[None, :, None].expand(3, -1, 2).double())[0][..., 0]
    # Quantiles of 4,000 draws: 0.045 at -2, 0.03 at +1; five times that over six numbers.
    assert torch.allclose(s[:, 0], torch.tensor(-2.0).double(), atol=0.2)
    assert torch.allclose(s[:, 1], torch.tensor(1.0).double(), atol=0.15)
    assert torch.allclose(scores.middle, torch.tensor(1.0).double(), atol=0.2)


def test_the_fit_finds_the_shape():
    z = np.random.default_rng(2).normal(size=(5000, 2))
    s = SHAPE.forward(torch.from_numpy(z))[0].numpy()
    found = fit_shape(s)
    # The numbers trade against one another, so the distributions are compared: 1.63/sqrt(5000)
    # is the 1 % point of Kolmogorov and Smirnov; 0.04 is far beyond.
    back = found.inverse(torch.from_numpy(s))[0].numpy()
    assert all(stats.kstest(column, "norm").statistic < 0.04 for column in back.T)
    np.testing.assert_allclose(found.numbers[:, 1], SHAPE.numbers[:, 1], atol=0.1)


def test_few_simulations_are_shrunk_to_no_change():
    s = np.random.default_rng(3).normal(size=(5, 1)) * 3 + 1
    assert abs(fit_shape(s).numbers[0, 1]) < np.log(3)
    assert np.abs(fit_shape(s[:0]).numbers).max() < 1e-6
    # Weights are multiplicities.
    twice = fit_shape(np.concatenate([s, s])).numbers
    np.testing.assert_allclose(fit_shape(s, np.full(5, 2.0)).numbers, twice, atol=1e-3)


def test_what_is_not_needed_is_not_fitted():
    rng = np.random.default_rng(4)
    ones, groups = np.ones(60), np.arange(60)
    exact = [choose_strength(rng.normal(size=(60, 2)), ones, groups, s) for s in range(10)]
    wrong = [choose_strength(rng.normal(size=(60, 2)) + 0.8, ones, groups, s) for s in range(10)]
    # A shift of 0.8 gains 0.3 nats per parameter and simulation: always seen. With nothing to
    # gain, most folds see that too.
    assert np.mean(exact) < 0.35
    assert min(wrong) >= 0.5


def test_bad_draws_are_refused():
    for bad in (torch.zeros(2, 5, 1), torch.full((2, 50, 1), torch.nan), torch.zeros(50, 1)):
        with pytest.raises(ShapeError, match="draws"):
            MarginalScores(bad)
    # Draws without spread still make a bijection.
    s, _ = MarginalScores(torch.zeros(1, 50, 1)).forward(torch.zeros(1, 3, 1).double())
    assert bool(torch.isfinite(s).all())
