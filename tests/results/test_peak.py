"""The peak of posteriors whose peak is known."""

import numpy as np
import pytest
import torch

from sbitools.errors import ObservationError, PosteriorError

from .conftest import MODEL, Bounded, Exact


def test_the_peak_of_a_normal_posterior_is_its_mean(x):
    found = Exact().map(x, n=200).numpy()
    # One hundredth of a width is what the docstring promises; exact densities give much less.
    width = np.sqrt(np.diag(MODEL.covariance))
    assert np.abs((found - MODEL.mean(x.numpy())) / width).max() < 1e-4
    one = Exact().map(x[1], n=200).numpy()  # from other draws
    assert one.shape == (3,)
    assert np.abs((one - found[1]) / width).max() < 1e-4
    assert np.array_equal(one, Exact().map(x[1], n=200).numpy())


def test_it_is_the_peak_in_theta_and_not_in_u():
    """log b is normal around m with width 0.2: the density of b peaks at exp(m - 0.04)."""
    x = torch.tensor([[0.4, 0.3], [0.7, -0.5]], dtype=torch.float64)
    found = Bounded().map(x)
    assert found[:, 0].numpy() == pytest.approx([0.4, 0.7], abs=0.01 * 0.2)
    assert found[:, 1].numpy() == pytest.approx(np.exp([0.26, -0.54]), rel=0.01 * 0.2)


def test_a_peak_at_a_bound_is_found_to_the_outermost_draw():
    x = torch.tensor([[-0.1, 0.0], [1.2, 0.0]], dtype=torch.float64)
    found = Bounded().map(x, n=4000)[:, 0].numpy()
    # The share of 4,000 draws beyond the outermost is below 0.003 but once in 10^5.
    assert Bounded()._cut(-0.1).cdf(found[0]) < 0.003
    assert Bounded()._cut(1.2).sf(found[1]) < 0.003
    assert 0 <= found[0] < 0.01
    assert 0.99 < found[1] <= 1


class TwoPeaks(Exact):
    """Two narrow normals in every parameter, at -1 and 1.3; the right one is the higher one."""

    share, narrow = 0.3, 0.02

    def sample(self, x, n, seed=None, time_limit=None):
        rng = np.random.default_rng(seed)
        right = rng.random((len(x), n, 1)) < self.share
        noise = np.where(right, self.narrow, 0.05) * rng.normal(size=(len(x), n, 3))
        return torch.from_numpy(np.where(right, 1.3, -1.0) + noise)

    def log_prob(self, theta, x):
        parts = []
        right, left = (self.share, 1.3, self.narrow), (1 - self.share, -1.0, 0.05)
        for share, centre, width in (right, left):
            z = (theta - centre) / width
            parts.append(np.log(share) - (0.5 * z**2 + np.log(width)).sum(-1))
        return torch.logaddexp(*parts)


def test_the_higher_of_two_narrow_peaks_is_found(x):
    found = TwoPeaks().map(x[:1], n=500).numpy()
    assert found == pytest.approx(np.full((1, 3), 1.3), abs=0.01 * 0.02)


class FewDraws(TwoPeaks):
    """The right peak is 1.2 times as high and holds 5 % of the mass."""

    share, narrow = 0.05, 0.05 * (0.05 / (0.95 * 1.2)) ** (1 / 3)


def test_the_best_draw_may_lie_on_the_lower_peak(x):
    posterior = FewDraws()
    draws, log_p = posterior.sample_and_log_prob(x[:1], 100, seed=1)
    assert float(draws[0, log_p[0].argmax()].mean()) < 0
    found = posterior.map(x[:1], n=100, seed=1).numpy()
    assert found == pytest.approx(np.full((1, 3), 1.3), abs=0.01 * posterior.narrow)


class Rough(Exact):
    """Densities as float32 computes them."""

    def log_prob(self, theta, x):
        return super().log_prob(theta, x).float().double()


def test_rounded_densities_do_not_move_it(x):
    found = Rough().map(x, n=200).numpy()
    width = np.sqrt(np.diag(MODEL.covariance))
    assert np.abs((found - MODEL.mean(x.numpy())) / width).max() < 0.01


def test_what_has_no_peak_is_refused(x):
    class Nowhere(Exact):
        def log_prob(self, theta, x):
            return torch.full(theta.shape[:-1], -torch.inf, dtype=torch.float64)

    with pytest.raises(PosteriorError, match=r"observations \[0, 1, 2\]"):
        Nowhere().map(x)
    with pytest.raises(PosteriorError, match="n of map"):
        Exact().map(x, n=3)
    with pytest.raises(ObservationError, match="shape"):
        Exact().map(x[:, :4])
    with pytest.raises(ObservationError, match="one field or more"):
        Exact().map(x[:0])
