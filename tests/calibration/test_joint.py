"""The joint null: exact whatever the dependence between checks, and consistent with each check."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import binom

from sbitools.calibration import CalibrationDraws, calibrate_draws, joint_null, sbc
from sbitools.calibration.statistics.bands import ecdf_test, gamma_p_values
from sbitools.calibration.statistics.joint import JointNull, pool_ranks
from sbitools.errors import ShapeError
from tests.oracles.gaussian import LinearGaussian, calibration_draws

TESTED = ("sbc", "coverage", "tarp", "contraction")


def joint_p(d, checks=TESTED):
    return calibrate_draws(d, checks=checks, with_power=False).joint["emulated"]


def test_ranks_of_a_pool_are_permutations_and_ties_are_random():
    rng = np.random.default_rng(0)
    pool = rng.normal(size=(30, 12))
    pool[10:] = rng.integers(0, 3, size=(20, 12))
    ranks = pool_ranks(pool, rng)
    assert (np.sort(ranks, 1) == np.arange(12)).all()
    assert (ranks[:10] == pool[:10].argsort(1).argsort(1)).all()
    assert (np.diff(np.take_along_axis(pool, np.argsort(ranks, 1), 1), axis=1) >= 0).all()
    tied = pool_ranks(np.zeros((4000, 4)), rng)[:, 0]
    # 1000 expected for each rank, standard deviation 27: six of them.
    assert np.abs(np.bincount(tied) - 1000).max() < 165


@pytest.mark.parametrize(("n", "n_draws"), [(200, 20), (1000, 100), (10, 3)])
def test_interpolated_p_values_are_those_of_the_exact_null(n, n_draws):
    rng = np.random.default_rng(1)
    tests = [ecdf_test(rng.integers(0, n_draws + 1, n), n_draws) for _ in range(40)]
    found = gamma_p_values(np.array([t.gamma for t in tests]), n, n_draws)
    # Between nodes the null is a staircase; at 200 ranks its steps are some 10 %.
    assert found == pytest.approx([t.p_value for t in tests], rel=0.15 if n > 10 else 1e-6)


def copies(seed):
    """Four parameters that are nearly one: Bonferroni would waste three quarters of the level."""
    d = calibration_draws(60, 30, seed=seed, model=LinearGaussian(n_parameters=1))
    rng = np.random.default_rng(seed)
    theta, draws = (
        np.repeat(v, 4, axis=-1) + 1e-3 * rng.standard_normal((*v.shape[:-1], 4))
        for v in (d.theta, d.draws)
    )
    return CalibrationDraws(theta, draws, seed=seed)


def test_joint_false_alarm_rate_where_ranks_depend_on_each_other():
    p = np.array([joint_p(copies(i), ["sbc"]) for i in range(300)])
    for level in (0.05, 0.2):
        # Both ends are left with probability 1e-4 by a binomial number of 300.
        low, high = binom.ppf([5e-5, 1 - 5e-5], 300, level)
        assert low <= (p < level).sum() <= high


def test_joint_p_value_agrees_with_the_levels_of_its_checks():
    failed = 0
    for i in range(40):
        d = calibration_draws(80, 20, seed=i, shift=0.15 * (i % 3))
        result = calibrate_draws(d, false_alarm=0.05, with_power=False)
        failed += not result.passed
        assert result.passed == (result.joint["emulated"] >= 0.05)
        p = result.joint["emulated"]
        assert ("joint p < 0.0001" if p < 1e-4 else f"joint p = {p:.2g}") in result.verdict
    assert 5 < failed < 35  # the test means nothing if all pass or all fail


def test_levels_use_what_bonferroni_wastes():
    d = calibration_draws(300, 100, seed=1)
    null = joint_null(d, TESTED)
    levels = null.levels(0.05)
    assert levels["sbc"] == levels["coverage"] == levels["tarp"]
    assert 0.05 / 4 < levels["contraction"] < 0.05 / 3.9  # independent of the ranks: exact
    few = null.levels(1e-6)  # below what repeats resolve: Bonferroni
    assert 0 < few["sbc"] <= 1e-6 / 2
    assert null.p_value(dict.fromkeys(TESTED, 1e-9)) < 1e-8
    assert null.p_value(dict.fromkeys(TESTED, 1.0)) == 1.0


@pytest.mark.parametrize("alarm", [0.001, 0.01, 0.05, 0.3])
def test_a_p_value_at_its_level_is_the_border(alarm):
    rng = np.random.default_rng(2)
    null = JointNull(np.sort(rng.random(1000) * 0.7), ("sbc", "tarp"), ("contraction", "latent"))
    levels = null.levels(alarm)
    for name in levels:
        below, at = (
            {k: level * factor if k == name else 1.0 for k, level in levels.items()}
            for factor in (1 - 1e-9, 1 + 1e-9)
        )
        assert null.p_value(below) < alarm
        assert null.p_value(at) >= alarm * (1 - 1e-6)


def test_groups_and_quantities_enter_the_null():
    d = calibration_draws(60, 20, seed=3)
    grouped = dataclasses.replace(d, group=np.repeat(np.arange(30), 2))
    assert 0 < joint_p(grouped) <= 1
    more = dataclasses.replace(d, quantities={"sum": (d.theta.sum(1), d.draws.sum(2))})
    assert joint_null(more, ["sbc"]).levels(0.1)["sbc"] > 0
    # A quantity that is wrong where every parameter alone is right.
    flipped = d.draws.sum(2) + 3.0
    wrong = dataclasses.replace(d, quantities={"sum": (d.theta.sum(1), flipped)})
    assert joint_p(wrong) < 0.01 < joint_p(d)


def test_quantities_are_functions_of_theta_and_the_density():
    d = calibration_draws(500, 50, seed=4)
    check = sbc(d, quantities={"norm": lambda t: (t**2).sum(-1)}, log_prob=True)
    assert check.details["names"] == [*d.names, "norm", "log_prob"]
    assert check.p_value > 1e-6  # false-alarm rate of this line
    narrow = calibration_draws(500, 50, seed=4, width=0.7)
    rows = sbc(narrow, log_prob=True).details["parameters"]
    assert rows[-1]["name"] == "log_prob"
    assert rows[-1]["p_value"] < 1e-6
    with pytest.raises(ShapeError, match="quantity 'first'"):
        sbc(d, quantities={"first": lambda t: t[..., :1]})
    bare = dataclasses.replace(d, log_prob_true=None)
    with pytest.raises(ShapeError, match="log_prob_true"):
        sbc(bare, log_prob=True)
