"""The Wasserstein distance of samples whose distance is known."""

import numpy as np
import pytest
import torch

from sbitools import seeds
from sbitools.errors import ShapeError
from sbitools.statistics import wasserstein


def test_a_shift_is_its_length_and_a_scaling_the_mean_modulus():
    values = seeds.normal([1], (3, 8, 8), torch.float64)[0]
    # Sums of 192 numbers of order 1, in double precision.
    assert wasserstein(values, values + 0.75) == pytest.approx(0.75, rel=1e-12)
    assert wasserstein(values, 3 * values) == pytest.approx(2 * float(values.abs().mean()))
    assert wasserstein(values, values.flip(0).reshape(-1)) == 0


def test_sets_of_different_size_are_compared_by_their_quantiles():
    first, second = np.array([0.0, 1.0, 5.0]), np.array([[0.5, 2.0], [2.0, 9.0]])
    quantiles = (np.arange(12) + 0.5) / 12  # every step of either is met equally often
    expected = np.abs(
        np.sort(first)[(quantiles * 3).astype(int)]
        - np.sort(second.ravel())[(quantiles * 4).astype(int)]
    ).mean()
    assert wasserstein(first, second) == pytest.approx(expected, rel=1e-12)
    assert wasserstein(torch.tensor(second).bfloat16(), first) == pytest.approx(expected)


@pytest.mark.parametrize("bad", [np.zeros(0), np.array([1.0, np.nan]), np.array([1j])])
def test_what_has_no_distribution_is_refused(bad):
    with pytest.raises(ShapeError, match="second"):
        wasserstein(np.zeros(3), bad)
