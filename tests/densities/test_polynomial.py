"""The polynomial with constant noise: what it finds, what it leaves out, where it gives up."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from sbitools.densities.linear import LinearGaussian, PolynomialGaussian
from sbitools.densities.vector import VectorDensity

RNG = 5
P = 12


def smooth(n, seed, noise=0.1):
    """Twelve numbers, smooth in two features, whose noise has many small correlations."""
    rng = np.random.default_rng(seed)
    c = rng.uniform(-1, 1, (n, 2))
    k = np.linspace(0.5, 2, P)
    mean = np.exp(0.5 * c[:, :1] * k) + c[:, 1:] * k + 0.3 * c[:, :1] * c[:, 1:]
    covariance = noise**2 * (0.93 * np.eye(P) + 0.07)
    y = mean + rng.multivariate_normal(np.zeros(P), covariance, n)
    return y, np.hstack([rng.normal(size=(n, 2)), c]), mean, covariance


def fitted(cls, n):
    y, c, _, _ = smooth(n, RNG)
    density = cls(P, 4, 2, 2)
    density.fit(torch.tensor(y), torch.tensor(c))
    return density


def scored(density, seed=RNG + 1):
    """Mean log density of 5,000 others, and the exact one."""
    y, c, mean, covariance = smooth(5000, seed)
    log_q = density.log_prob(torch.tensor(y)[:, None].float(), torch.tensor(c).float())
    exact = multivariate_normal(np.zeros(P), covariance).logpdf(y - mean)
    return float(log_q.mean()), float(exact.mean())


def test_smooth_data_of_constant_noise_are_found():
    """2,000 simulations for 9 x 12 + 78 numbers cost 0.05 nats by chance, and the rest bends."""
    found, exact = scored(fitted(PolynomialGaussian, 2000))
    assert exact - 0.1 < found < exact + 0.1
    assert scored(fitted(LinearGaussian, 2000))[0] < exact - 1  # a plane is not enough


def test_small_correlations_of_the_noise_are_kept():
    """0.07 is 3 errors of 2,000: below what the garrote keeps; all together they count."""
    density = fitted(PolynomialGaussian, 2000)
    covariance = (density.factor @ density.factor.T).double().numpy()
    off = covariance[~np.eye(P, dtype=bool)] / 0.01
    # Five errors below 0.07: 1 / sqrt(2000) each, and 66 that are nearly independent. The garrote
    # leaves 0.048.
    assert off.mean() > 0.07 - 5 * 2000**-0.5 / 66**0.5
    few = fitted(PolynomialGaussian, 100)  # too few for a matrix of 12 x 12 as it is
    assert (few.factor @ few.factor.T)[~torch.eye(P, dtype=bool)].eq(0).any()


def test_noise_of_few_simulations_is_not_too_sure_of_itself():
    """Squared distances of other data are P on average, in 40 fits to 250 simulations.

    0.03 is five errors, by the scatter of the fits; the matrix as it is gives 1.08.
    """
    squares = []
    for seed in range(40):
        y, c, _, _ = smooth(250, seed)
        density = PolynomialGaussian(P, 4, 2, 2)
        density.fit(torch.tensor(y), torch.tensor(c))
        other, at, _, _ = smooth(500, seed + 100)
        z = density.latent(torch.tensor(other)[:, None].float(), torch.tensor(at).float(), None)
        squares.append(float(z.square().mean()))
    assert np.mean(squares) == pytest.approx(1.0, abs=0.03)


def test_terms_without_meaning_vanish():
    rng = np.random.default_rng(1)
    c = rng.uniform(-1, 1, (2000, 3))
    y = c[:, :1] ** 2 + 0.1 * rng.standard_normal((2000, 1))
    density = PolynomialGaussian(1, 3, 3)
    density.fit(torch.tensor(y), torch.tensor(c))
    kept = [p for p, w in zip(density.powers, density.weight[:, 0], strict=True) if w != 0]
    assert (2, 0, 0) in kept
    assert len(kept) <= 3  # of 19
    at = torch.tensor([[0.5, 0.1, -0.3], [0.0, 0.9, 0.9]])
    place = density.place(torch.zeros(2, 1), at, torch.arange(2))
    np.testing.assert_allclose(place[:, 0], [0.25, 0.0], atol=0.02)


@pytest.mark.parametrize(("n", "degree"), [(40, 1), (70, 2), (200, 3)])
def test_few_simulations_have_a_lower_degree(n, degree):
    density = fitted(PolynomialGaussian, n)
    degrees = [
        sum(p) for p, w in zip(density.powers, density.weight, strict=True) if (w != 0).any()
    ]
    assert max(degrees) == degree
    assert np.isfinite(scored(density)[0])


def test_only_few_parameters_have_a_polynomial():
    parts = {
        n: VectorDensity(2 * n, 3, n_used=n, hidden=8, members=1, components=1, seed=0).parts
        for n in (0, 2, 9, 10)
    }
    assert {n: "polynomial in probability" in names for n, names in parts.items()} == {
        0: False, 2: True, 9: True, 10: False,
    }  # fmt: skip
    assert len(PolynomialGaussian(1, 9, 9).powers) == 54
    assert len(PolynomialGaussian(1, 4, 4).powers) == 34
