"""Quantiles of cells and steps: noise is told from what lies upon it."""

from __future__ import annotations

import math

import pytest
import torch

from sbitools.embeddings.quantiles import N_QUANTILES, cell_quantiles
from sbitools.seeds import normal


def test_they_are_those_of_normal_noise():
    found = (
        cell_quantiles(normal(range(8), (2, 64, 64)), (True, False))
        .view(8, 2, N_QUANTILES)
        .mean((0, 1))
    )
    wanted = [math.asinh(v) for v in (-2.326, -1.282, -0.524, 0.0, 0.524, 1.282, 2.326)]
    wanted += [math.log(0.6745 * 2**0.5), math.log(1.645 * 2**0.5)]
    # 16 fields of 4096 cells: extreme quantiles to 0.01.
    torch.testing.assert_close(found, torch.tensor(wanted), rtol=0, atol=0.03)


def test_peaks_do_not_hide_how_much_noise_there_is():
    noise = normal(range(4), (1, 4096))
    peaks = torch.where(normal(range(4, 8), (1, 4096)) > 2, 1000.0, 0.0)
    quiet, loud = (cell_quantiles(size * noise + peaks, (False,)) for size in (1, 2))
    step = (loud - quiet)[:, -2].mean()  # the median step
    assert float(step) == pytest.approx(math.log(2), abs=0.1)


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (1, 5, 1), (2, 40, 40, 40)])
def test_any_shape_gives_as_many_finite_numbers(shape):
    found = cell_quantiles(normal(range(2), shape), [True] * (len(shape) - 1))
    assert found.shape == (2, shape[0] * N_QUANTILES)
    assert bool(torch.isfinite(found).all())
