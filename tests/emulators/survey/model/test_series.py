"""Series along the rings of a detector."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emulators.survey.model.series import octaves, period_means, stationary
from sbitools.seeds import normal


def white(n, size, seed=0):
    return normal([seed], (n, size), torch.float64)[0].numpy()


def test_octaves_are_all_frequencies_once():
    every = octaves(64)  # 1/2 to 1/4, ..., 1/64, and the mean
    assert len(every) == 7
    assert ((every > 0).sum(0) == 1).all()
    assert np.allclose(np.fft.irfft(every, 64, axis=1)[:, 0], 1)
    assert np.flatnonzero(every[-1]).tolist() == [0]


def test_series_have_the_spectrum_that_was_asked_for():
    powers = np.array([0.5, 0.0, 2.0, 0.0, 0.0, 1.0, 0.5])
    series = stationary(white(4000, 64).reshape(4000, 1, 64), powers)
    assert series.shape == (4000, 1, 32)
    wanted = np.fft.irfft(powers @ octaves(64), 64)[:32]
    found = np.array([(series[:, 0, : 32 - k] * series[:, 0, k:]).mean() for k in range(32)])
    # 4,000 series: a standard error of 4 * sqrt(2 / 4000) = 0.09 for lags with few products.
    assert np.abs(found - wanted).max() < 5 * 0.09


def test_heavy_tails_keep_variance_and_correlations():
    powers, tail = np.array([0.5, 2.0, 6.5, 0, 0, 0, 0]), 0.1
    x = stationary(white(12_000, 64).reshape(12_000, 1, 64), powers, tail)[:, 0]
    # Of 12,000 series with excess kurtosis: 2 % for the variance, more for the fourth moment.
    assert x.var() == pytest.approx(9.0, rel=0.03)
    # Tukey's h has the kurtosis 3 (1 - 2 h)^3 / (1 - 4 h)^(5/2): 5.5 at h = 0.1.
    assert (x**4).mean() / x.var() ** 2 == pytest.approx(5.5, rel=0.15)


def test_correlations_are_those_after_the_transform():
    powers, tail = np.array([0.5, 2.0, 6.5, 0, 0, 0, 0]), 0.25
    noise = white(12_000, 64).reshape(12_000, 1, 64)
    wanted = np.fft.irfft(powers @ octaves(64), 64)[1] / 9
    x, gaussian = stationary(noise, powers, tail)[:, 0], stationary(noise, powers)[:, 0]
    # A correlation of 384,000 numbers with heavy tails is known to about 0.01.
    assert neighbours(x) == pytest.approx(wanted, abs=0.03)
    # A Gaussian series with these correlations would lose a tenth of them in the transform.
    assert neighbours(gaussian * np.exp(0.5 * tail * gaussian**2 / 9)) < wanted - 0.05


def neighbours(x):
    return (x[:, 1:] * x[:, :-1]).mean() / (x**2).mean()


def test_means_of_periods():
    x = np.arange(14.0).reshape(2, 7)
    assert period_means(x, 3).tolist() == [
        [1, 1, 1, 4, 4, 4, 6], [8, 8, 8, 11, 11, 11, 13],
    ]  # fmt: skip
    assert np.array_equal(period_means(x[:, :, None], 3)[:, :, 0], period_means(x, 3))
