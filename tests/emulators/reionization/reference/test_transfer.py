"""Transfer functions: limits, the mass at which warm matter cuts off, 21cmFAST's own."""

from __future__ import annotations

import numpy as np
import pytest

from emulators.reionization.reference.transfer import cold, half_mode, warm_suppression


def test_large_scales_are_untouched():
    k = np.array([1e-6, 1e-5])
    # 1 + 1.8 q / e, to first order: the logarithm grows from 1.
    assert cold(k, 0.31, 0.049, 0.68) == pytest.approx(1, abs=1e-3)
    assert warm_suppression(k, 0.3, 0.31, 0.68) == pytest.approx(1, abs=1e-6)


def test_small_scales_fall_as_log_k_over_k_squared():
    k = np.array([1e3, 1e4])
    slope = np.diff(np.log(cold(k, 0.31, 0.049, 0.68))) / np.diff(np.log(k))
    assert -2.0 < slope[0] < -1.8


def test_the_half_mode_of_the_literature():
    # Schneider et al. 2012 (arXiv:1112.0330), equation 8: a wavelength of 13.93 alpha.
    alpha = 0.049 * 2.0**-1.11 * (0.27 / 0.25) ** 0.11 * (0.71 / 0.7) ** 1.22 / 0.71
    k = half_mode(2.0, 0.27, 0.71)
    assert 2 * np.pi / k == pytest.approx(13.93 * alpha, rel=1e-3)
    assert warm_suppression(np.array([k]), 2.0, 0.27, 0.71) == pytest.approx(0.5, rel=1e-9)


def test_lighter_particles_cut_off_more():
    k = np.logspace(-1, 3, 50)
    masses = [0.3, 1.0, 3.0, 10.0, np.inf]
    values = np.array([warm_suppression(k, m, 0.3, 0.7) for m in masses])
    assert (np.diff(values, axis=0) >= 0).all()
    assert (values[-1] == 1).all()
