"""Steps of the fit that can be looked at alone."""

from __future__ import annotations

import numpy as np
import pytest

import emulators.survey
from emulators.methods.sky.terms import DEGREE, curved, degrees, linear
from emulators.survey.model.fitting import _log_total


def test_total_power_is_moved_only_by_what_is_more_than_chance():
    rng = np.random.default_rng(0)
    powers = rng.chisquare(100, size=(2, 2000)) / 100
    # 50 and 400 maps whose powers scatter by 14 %: a standard error of 2 %.
    assert _log_total(1.02 * powers[0, :50], powers[1, :400], 1.0) == 0
    found = _log_total(1.5 * powers[0, :50], powers[1, :400], 1.0)
    assert found == pytest.approx(np.log(1.5), abs=0.06)


def test_total_power_knows_of_the_mean_that_was_taken():
    ones = np.ones(10) + 1e-6 * np.arange(10)
    assert _log_total(0.9 * ones, ones, 0.9) == pytest.approx(0, abs=1e-9)


def test_terms():
    place = np.array([0.5, -1.0])
    assert linear(place).tolist() == [1, 0.5, -1]
    terms = curved(place)
    assert len(terms) == 1 + 2 * DEGREE
    assert terms[1:5] == pytest.approx([0.5, -1, -0.125, 1])  # P1, P1, P2, P2
    assert degrees(len(terms)).tolist() == [1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize("name", ["ScatteringCovariance", "ScatteringEmulator", "TodSimulator"])
def test_names_of_the_package(name):
    assert getattr(emulators.survey, name).__name__ == name
