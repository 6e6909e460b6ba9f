"""Truncated normal variables against scipy, at both ends and far out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm, truncnorm

from sbitools.densities.truncated import from_truncated, log_mass, to_truncated

ENDS = [(-3, 2), (-1, 50), (-50, -20), (2, 30), (-300, 500), (-40, -39), (-1e-3, 1e-3), (38, 90)]


@pytest.mark.parametrize("q", [1e-9, 1e-3, 0.1, 0.5, 0.9, 0.999, 1 - 1e-9])
def test_quantiles_are_those_of_scipy_and_back(q):
    a, b = torch.tensor(ENDS, dtype=torch.float64).T
    v = torch.full_like(a, float(norm.ppf(q)))
    z = to_truncated(v, a, b)
    # scipy itself loses digits where 1 - q is taken.
    np.testing.assert_allclose(z, truncnorm.ppf(q, a, b), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(from_truncated(z, a, b), v, rtol=1e-4, atol=1e-9)


def test_masses_lose_no_digits():
    a, b = torch.tensor(ENDS, dtype=torch.float64).T
    exact = [float(truncnorm.logpdf(x, p, q)) for (p, q), x in zip(ENDS, (a + b) / 2, strict=True)]
    found = norm.logpdf((a + b) / 2) - log_mass(a, b).numpy()
    np.testing.assert_allclose(found, exact, rtol=1e-9, atol=1e-9)


def test_without_ends_nothing_changes():
    z = torch.linspace(-30, 30, 61, dtype=torch.float64)
    a, b = torch.full_like(z, -300.0), torch.full_like(z, 300.0)
    torch.testing.assert_close(from_truncated(z, a, b), z, rtol=1e-12, atol=1e-12)
