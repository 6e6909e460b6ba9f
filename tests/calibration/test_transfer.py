"""Transfer: no difference is found where there is none; bias and width are found and measured."""

import pytest

from sbitools.calibration import transfer
from tests.oracles.gaussian import calibration_draws

NAMES = {"ranks", "coverage", "tarp", "bias", "width", "log_prob"}


def by_name(checks):
    return {c.name.removeprefix("transfer "): c for c in checks}


def test_same_simulator_shows_no_difference():
    # The same small error on both sides is not a difference, and set sizes may differ.
    sets = [calibration_draws(n, 100, seed=s, width=0.9) for n, s in ((600, 1), (300, 2))]
    checks = by_name(transfer(*sets, false_alarm=1e-4))
    assert set(checks) == NAMES
    for check in checks.values():
        assert check.passed, check.name
        assert check.p_value > 1e-4  # the smallest of 9999 permutations; fixed seeds


@pytest.mark.parametrize(
    ("wrong", "caught", "effect"),
    [({"width": 0.7}, ["ranks", "coverage", "tarp", "width", "log_prob"], ("width", 1 / 0.7 - 1)),
     ({"shift": 0.5}, ["ranks", "bias"], ("bias", 0.5))],
)  # fmt: skip
def test_differences_are_caught_and_measured(wrong, caught, effect):
    sets = calibration_draws(800, 200, seed=1), calibration_draws(800, 200, seed=2, **wrong)
    checks = by_name(transfer(*sets, false_alarm=0.01 / 6))
    for name in caught:
        assert checks[name].passed is False, name
    name, size = effect
    for row in checks[name].details["parameters"]:
        # 0.22: four errors of a mean z (0.05), or of a ratio of sd z (0.05).
        assert row["effect"] == pytest.approx(size, abs=0.22)
    low, high = checks[name].band
    assert low < checks[name].effect < high
    assert low > 0


def test_bands_of_curves_are_those_of_kolmogorov_and_smirnov():
    checks = by_name(transfer(calibration_draws(400, 50, seed=1), calibration_draws(100, 50)))
    low, high = checks["tarp"].band
    # Two samples at 5 %: 1.358 sqrt(1 / n0 + 1 / n1).
    assert (high - low) / 2 == pytest.approx(1.358 * (1 / 400 + 1 / 100) ** 0.5, rel=1e-3)
    low, high = checks["ranks"].band  # two parameters: 2.5 % each, as sqrt(log(2 / 0.025) / 2)
    assert (high - low) / 2 == pytest.approx(1.480 * (1 / 400 + 1 / 100) ** 0.5, rel=1e-3)


def test_bands_of_bias_and_width_hold_for_all_parameters_at_once():
    sets = calibration_draws(400, 50, seed=1), calibration_draws(400, 50, seed=2)
    checks = by_name(transfer(*sets))
    for row in checks["bias"].details["parameters"]:
        # Two sets of unit variance, 2.241 sigma at 2.5 % two-sided; the bootstrap's ends err by
        # 6 % and the variances by 10 %.
        half = (row["band"][1] - row["band"][0]) / 2
        assert half == pytest.approx(2.241 * (2 / 400) ** 0.5, rel=0.25)
    for row in checks["width"].details["parameters"]:
        # log sd has an error of 1 / sqrt(2 n) in each set.
        half = (row["band"][1] - row["band"][0]) / 2
        assert half == pytest.approx(2.241 * (1 / 400) ** 0.5, rel=0.35)


def test_log_density_lost_is_measured_in_nats():
    import numpy as np

    sets = calibration_draws(1000, 20, seed=1), calibration_draws(1000, 20, seed=2, width=0.7)
    check = by_name(transfer(*sets))["log_prob"]
    # Two parameters: loss = P (1/w^2 - 1) / 2 + P log w = 1.041 - 0.713 nats; error 0.08.
    expected = (1 / 0.49 - 1) + 2 * np.log(0.7)
    assert check.effect == pytest.approx(-expected, abs=0.35)


def test_transfer_without_densities():
    import dataclasses

    d = calibration_draws(100, 20)
    bare = dataclasses.replace(d, log_prob_true=None, log_prob_draws=None)
    assert set(by_name(transfer(bare, d))) == NAMES - {"coverage", "log_prob"}


def test_truths_outside_the_support_are_counted_and_finite():
    import dataclasses

    import numpy as np

    d = calibration_draws(100, 20)
    lost = np.where(np.arange(100) < 7, -np.inf, d.log_prob_true)
    check = by_name(transfer(d, dataclasses.replace(d, log_prob_true=lost)))["log_prob"]
    assert np.isfinite(check.effect)
    assert check.details["parameters"][0]["outside_support"] == 7
