"""Learning curves, augmentation factors and conformal levels against known answers."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from sbitools.errors import ConfigError, ShapeError
from sbitools.repairs import (
    LearningCurve,
    augmentation_factor,
    conformal_level,
    learning_curve,
)
from sbitools.repairs.plots import draw_learning_curve

SIZES = np.array([100, 200, 400, 1000])


def scores(n_tests=500, seed=0, extra=()):
    """Log densities around 2 - 5 n^-0.5, with noise that all sizes share and some of their own."""
    rng = np.random.default_rng(seed)
    mean = 2 - 5 * np.array([*SIZES, *extra]) ** -0.5
    shared = rng.normal(size=n_tests)
    return mean[:, None] + shared + 0.1 * rng.normal(size=(len(mean), n_tests))


def test_a_power_law_is_found():
    curve = learning_curve(SIZES, scores())
    # Shared noise, 1/sqrt(500) = 0.045, moves the curve up or down but hardly bends it.
    assert curve(300.0) - curve(100.0) == pytest.approx(5 / 10 - 5 / 300**0.5, abs=0.03)
    assert curve.next(1000)["gain"] == pytest.approx(5 * (1000**-0.5 - 2000**-0.5), abs=0.03)
    assert curve.error.max() < 0.02
    low, high = curve.band(2000.0)
    assert low[0] < curve(2000.0) < high[0]
    assert LearningCurve.from_dict(curve.to_dict()).next(100) == curve.next(100)


def test_exact_scores_are_inverted():
    mean = 2 - 5 * SIZES**-0.7
    curve = learning_curve(SIZES, mean, np.full(4, 1e-3))
    assert curve.simulations_for(2 - 5 * 500**-0.7) == pytest.approx(500, rel=0.05)
    assert curve.simulations_for(2.5) == np.inf


def test_the_factor_is_found_and_its_interval_covers():
    covered = []
    for seed in range(20):
        values = scores(seed=seed, extra=[700])
        found = augmentation_factor(SIZES, values[:-1], values[-1], 100, seed=seed)
        covered.append(found.low <= 7 <= found.high)
        assert not found.extrapolated or found.equivalent > 1000
    # 95 % intervals: 15 or fewer of 20 have probability 3e-4.
    assert sum(covered) >= 16
    assert found.factor == pytest.approx(7, rel=0.35)
    assert found.differences[0]["difference"] == pytest.approx(0.311, abs=0.03)
    assert "reference simulations alone" in found.summary


def test_a_score_beyond_the_curve_has_no_number():
    values = scores()
    found = augmentation_factor(SIZES, values, values[-1] + 3.0, 100)
    assert found.factor is None
    assert found.equivalent is None
    assert found.high is None
    assert found.extrapolated
    assert "more than can be measured" in found.summary


def test_training_noise_widens_intervals():
    plain, wide = (learning_curve(SIZES, scores(), training_error=e) for e in (0.0, 0.1))
    assert wide.next(500)["error"] > 2 * plain.next(500)["error"]


def test_wrong_scores_are_refused():
    bad = scores()
    bad[0, 0] = np.nan
    for n, values in ((SIZES, bad), (SIZES[:3], scores()), ([100] * 4, scores()),
                      (SIZES, scores().mean(1))):  # fmt: skip
        with pytest.raises(ShapeError, match="scores"):
            learning_curve(n, values)
    with pytest.raises(ShapeError, match="combined"):
        augmentation_factor(SIZES, scores(), scores()[0, :-1], 100)
    with pytest.raises(ConfigError, match="n_reference"):
        augmentation_factor(SIZES, scores(), scores()[0], 0)


def test_the_curve_is_drawn():
    values = scores(extra=[700])
    factor = augmentation_factor(SIZES, values[:-1], values[-1], 100)
    axes = draw_learning_curve(
        learning_curve(SIZES, values[:-1]), Figure().subplots(), factor=factor
    )
    assert len(axes.get_legend().get_texts()) == 2


def test_conformal_regions_cover_at_finite_n():
    # A posterior that is far too narrow: credibilities of truths are not uniform. 4,000 repeats
    # of 19 reference truths and one new one: error 0.006.
    rng = np.random.default_rng(0)
    levels = rng.uniform(size=(4000, 20)) ** 0.3
    hits = [row[-1] <= conformal_level(row[:-1], 0.75).credibility for row in levels]
    assert np.mean(hits) == pytest.approx(0.75, abs=0.024)
    found = conformal_level(levels[0], 0.95)
    assert found.credibility == levels[0].max()
    assert found.low < 0.95 < found.high
    assert conformal_level(levels[0], 0.99).credibility == 1.0


def test_wrong_levels_are_refused():
    for levels, coverage in (([], 0.5), ([1.5], 0.5), ([0.5], 1.0)):
        with pytest.raises(ConfigError, match="conformal"):
            conformal_level(levels, coverage)
