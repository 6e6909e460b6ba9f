"""False-alarm rate and power of the whole set of checks, by repetition (minutes)."""

import numpy as np
import pytest
from scipy.stats import binom

from sbitools.calibration import calibrate_draws, transfer
from tests.oracles.gaussian import calibration_draws

REPEATS = 200


def failures(repeats=REPEATS, n_tests=1000, false_alarm=0.01, **wrong):
    results = (
        calibrate_draws(
            calibration_draws(n_tests, 100, seed=1000 + i, **wrong), false_alarm=false_alarm,
            checks=["sbc", "coverage", "tarp", "contraction"], with_power=False,
        )
        for i in range(repeats)
    )  # fmt: skip
    return np.mean([not r.passed for r in results])


@pytest.mark.slow
def test_joint_false_alarm_rate_is_as_stated():
    # The joint null wastes nothing: both ends have probability 1e-4 for an exact posterior.
    rate = failures(n_tests=200, false_alarm=0.1)
    assert binom.ppf(1e-4, REPEATS, 0.1) <= rate * REPEATS <= binom.isf(1e-4, REPEATS, 0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "power"),
    [({"width": 0.8}, 1.0), ({"width": 1.25}, 1.0), ({"shift": 0.2}, 0.95)],
)  # fmt: skip
def test_power_with_1000_tests_at_1_percent(wrong, power):
    assert failures(repeats=60, **wrong) >= power


@pytest.mark.slow
def test_transfer_false_alarm_rate():
    def fails(seed):
        sets = calibration_draws(150, 30, seed=seed), calibration_draws(100, 30, seed=seed + 5000)
        return any(not c.passed for c in transfer(*sets, false_alarm=0.1 / 6))

    rate = np.mean([fails(s) for s in range(REPEATS)])
    assert rate <= binom.isf(1e-6, REPEATS, 0.1) / REPEATS
