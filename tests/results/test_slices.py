"""Slices of correlated normals, whose mean and width are known."""

import numpy as np
import pytest
import torch

from sbitools.errors import PosteriorError

from .conftest import MODEL, Bounded, Exact

FIXED = {"theta_0": 0.3, "theta_2": -0.2}


def conditional_normal(x, free, values):
    """Mean and covariance of the free parameters given the others, by Schur complement."""
    fixed = [i for i in range(3) if i not in free]
    c, mean = MODEL.covariance, MODEL.mean(x[None])[0]
    gain = c[np.ix_(free, fixed)] @ np.linalg.inv(c[np.ix_(fixed, fixed)])
    return mean[free] + gain @ (values - mean[fixed]), c[np.ix_(free, free)] - gain @ c[
        np.ix_(fixed, free)]  # fmt: skip


def test_one_free_parameter(x):
    found = Exact().conditional(x, FIXED)
    for b, row in enumerate(x.numpy()):
        mean, covariance = conditional_normal(row, [1], np.array([0.3, -0.2]))
        sd = np.sqrt(covariance[0, 0])
        # A trapezoidal sum of a smooth function that ends at 1e-8 is exact to about that.
        assert found.mean[b] == pytest.approx(mean, abs=1e-6 * sd)
        assert found.sd[b] == pytest.approx([sd], rel=1e-5)
        normal = np.exp(-0.5 * ((found.grid[0][b] - mean) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))
        assert found.density[b] == pytest.approx(normal, abs=1e-5 / sd)
        assert np.trapezoid(found.density[b], found.grid[0][b]) == pytest.approx(1, abs=1e-6)
    one = Exact().conditional(x[1], FIXED)
    assert one.density.shape == (513,)
    assert one.density == pytest.approx(found.density[1])
    assert one.parameters.names == ["theta_1"]


def test_two_free_parameters(x):
    found = Exact().conditional(x[0], {"theta_1": 0.1})
    mean, covariance = conditional_normal(x[0].numpy(), [0, 2], np.array([0.1]))
    assert found.mean == pytest.approx(mean, abs=1e-5)
    assert found.sd == pytest.approx(np.sqrt(np.diag(covariance)), rel=1e-4)
    both = np.meshgrid(*found.grid, indexing="ij")
    product = (found.mass * (both[0] - mean[0]) * (both[1] - mean[1])).sum()
    assert product == pytest.approx(covariance[0, 1], rel=1e-3)


def test_fixed_values_far_from_the_draws(x):
    """A slice 20 widths out has its own mean, where no draw leads."""
    far = {"theta_0": 4.0, "theta_2": -4.0}
    mean, covariance = conditional_normal(x[0].numpy(), [1], np.array([4.0, -4.0]))
    found = Exact().conditional(x[0], far)
    assert found.mean == pytest.approx(mean, abs=1e-5)
    assert found.sd == pytest.approx(np.sqrt(np.diag(covariance)), rel=1e-4)


def test_a_density_that_ends_at_a_bound():
    x = torch.tensor([-0.1, 0.0], dtype=torch.float64)
    found = Bounded().conditional(x, {"b": 1.2})
    law = Bounded()._cut(-0.1)
    assert found.mean == pytest.approx([law.mean()], rel=1e-4)
    assert found.sd == pytest.approx([law.std()], rel=1e-4)
    assert found.density == pytest.approx(law.pdf(found.grid[0]), rel=1e-3)
    assert found.grid[0].min() >= 0


def test_a_narrow_posterior_in_a_wide_prior():
    class Narrow(Bounded):
        width = 1e-5

    x = torch.tensor([0.61234, 0.0], dtype=torch.float64)
    found = Narrow().conditional(x, {"b": 1.0})
    assert found.mean == pytest.approx([0.61234], abs=1e-8)
    assert found.sd == pytest.approx([1e-5], rel=1e-4)


@pytest.mark.parametrize(
    ("fixed", "words"),
    [
        ({"nothing": 1.0}, "nothing"),
        ({}, "one or two"),
        ({"theta_0": 0.0, "theta_1": 0.0, "theta_2": 0.0}, "one or two"),
        ({"theta_0": "x", "theta_1": 0.0}, "fixed theta_0"),
        ({"theta_0": np.nan, "theta_1": 0.0}, "fixed theta_0"),
        ([0.3], "values by name"),
    ],
)
def test_bad_slices_are_refused(x, fixed, words):
    with pytest.raises(PosteriorError, match=words):
        Exact().conditional(x, fixed)


def test_values_outside_the_prior_are_refused():
    with pytest.raises(PosteriorError, match="no density outside the prior"):
        Bounded().conditional(torch.zeros(2, dtype=torch.float64), {"a": 1.5})
