"""Local C2ST: exact under the null, powerful, local, and honest about what it sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sbitools.calibration import CalibrationDraws
from sbitools.calibration.check import Check
from sbitools.calibration.checks.local import combined, local_c2st, local_check
from sbitools.calibration.plots.local import draw_local
from sbitools.errors import ShapeError
from tests.oracles.gaussian import GaussianPosterior, LinearGaussian

MODEL = LinearGaussian()


def check(
    n,
    n_draws,
    seed,
    width=1.0,
    shift=0.0,
    wrong_above=None,
    x0=None,
    summary=True,
    choice=None,
    **opts,
):
    """Local C2ST at one x of a posterior that is wrong where x[0] > `wrong_above`."""
    theta, x = MODEL.joint(n, seed)
    here = MODEL.joint(1, seed + 10**6)[1] if x0 is None else np.full((1, 5), x0)
    draws, wrong = (MODEL.draws(x, n_draws, seed, *e) for e in ((1.0, 0.0), (width, shift)))
    at = [MODEL.draws(here, 400, seed + 7, *e)[0] for e in ((1.0, 0.0), (width, shift))]
    limit = -np.inf if wrong_above is None else wrong_above
    d = CalibrationDraws(
        theta, np.where((x[:, 0] > limit)[:, None, None], wrong, draws), seed=seed,
        prior=MODEL.parameters, names=tuple(MODEL.parameters.names),
    )  # fmt: skip
    given = {"summary_at_x": here[0], "summary": x} if summary else {}
    return local_c2st(d, at[int(here[0, 0] > limit)], **given, **opts, seed=choice)


def share_rejected(n_repeats, level, **options):
    return np.mean([check(seed=s, **options).p_value <= level for s in range(n_repeats)])


@pytest.mark.parametrize("n_draws", [4, 30])
def test_exact_posterior_is_rejected_at_the_stated_rate(n_draws):
    # binomial: 5 sd (false alarm 1e-6) of 150 repeats at 10 % is 0.122; ranks of 20 are exact
    rate = share_rejected(150, 0.1, n=60, n_draws=n_draws, n_nulls=19)
    assert rate == pytest.approx(0.1, abs=0.122)


@pytest.mark.parametrize("error", [{"width": 0.75}, {"width": 1.4}, {"shift": 0.4}])
def test_wrong_posteriors_are_caught(error):
    # power at N = 500 is above 0.9 for each: fewer than 6 of 10 has probability < 1e-3
    assert share_rejected(10, 0.02, n=500, n_draws=60, n_nulls=99, **error) >= 0.6


def test_it_is_local():
    # Narrow by 0.6 where x[0] > 0 alone: seen there, and not on the other side.
    options = {"n": 800, "n_draws": 50, "n_nulls": 99, "width": 0.6, "wrong_above": 0.0}
    assert share_rejected(6, 0.01, x0=1.2, **options) >= 5 / 6
    assert share_rejected(6, 0.01, x0=-1.2, **options) <= 2 / 6


def test_effect_is_the_accuracy_of_the_best_classifier():
    # Two normals whose variances differ by 0.4^2 in two dimensions: accuracy 1/2 + TV/2 = 0.768,
    # by integration of |p - q| over the radius; the fit from 600 tests comes within 0.1.
    r = np.linspace(0, 12, 20001)
    p, q = r * np.exp(-(r**2) / 2), r / 0.16 * np.exp(-(r**2) / 0.32)
    truth = 0.5 + np.trapezoid(np.abs(p - q), r) / 4
    found = check(600, 60, 0, width=0.4, n_nulls=199)
    assert found.effect == pytest.approx(truth, abs=0.1)
    assert not found.passed
    assert "too narrow by a factor 2." in found.summary


def test_bias_is_named_with_its_sign():
    found = check(500, 60, 1, shift=-0.8, n_nulls=99)
    assert found.details["parameters"][0]["mean_z"] == pytest.approx(0.8, abs=0.3)


def test_summary_is_optional_and_results_are_seeded():
    first, again, other = (
        check(100, 30, 3, summary=False, n_nulls=19, choice=s) for s in (1, 1, 2)
    )
    assert first == again
    assert first.p_value != other.p_value or first.effect != other.effect
    assert Check.from_dict(first.to_dict()) == first


def test_degenerate_draws_are_survived():
    theta, x = MODEL.joint(60, 0)
    draws = np.repeat(MODEL.draws(x, 1, 0), 20, axis=1)  # all draws of a test are one
    found = local_c2st(CalibrationDraws(theta, draws), MODEL.draws(x[:1], 40, 1)[0], n_nulls=19)
    assert np.isfinite(found.effect)
    assert found.p_value == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"at_x": np.zeros((40, 3))}, "at_x"), ({"at_x": np.full((40, 2), np.nan)}, "finite"),
     ({"summary_at_x": np.zeros(5)}, "neither"), ({"summary": np.zeros((9, 5))}, "neither"),
     ({"summary": np.zeros((9, 5)), "summary_at_x": np.zeros(5)}, "shapes")],
)  # fmt: skip
def test_what_does_not_fit_is_refused(change, message):
    theta, x = MODEL.joint(60, 0)
    d = CalibrationDraws(theta, MODEL.draws(x, 20, 0))
    with pytest.raises(ShapeError, match=message):
        local_c2st(d, **({"at_x": MODEL.draws(x[:1], 40, 1)[0]} | change))


def test_too_few_tests_are_refused():
    theta, x = MODEL.joint(49, 0)
    with pytest.raises(ShapeError, match="50 independent"):
        local_c2st(CalibrationDraws(theta, MODEL.draws(x, 20, 0)), np.zeros((40, 2)))


def test_combined_p_value_is_a_rank():
    statistics = np.stack([np.arange(100)[::-1], np.random.default_rng(0).normal(size=100)])
    p, best, value = combined(statistics)
    assert (best, value) == (0, 99)
    assert 0.01 <= p <= 0.02  # the best of either statistic is one of two


def test_combined_p_value_is_exact_for_several_statistics():
    # 600 repeats at 10 %: 5 sd (false alarm 1e-6) is 0.061; uncorrected it would be 0.34
    rng = np.random.default_rng(1)
    p = np.array([combined(rng.normal(size=(4, 40)))[0] for _ in range(600)])
    assert (p <= 0.1).mean() == pytest.approx(0.1, abs=0.061)
    assert (p <= 0.5).mean() <= 0.5 + 0.102


def test_from_posterior_and_store_with_plot(tmp_path):
    from matplotlib.figure import Figure

    from sbitools import SimulationStore

    theta, x = MODEL.joint(150, 3)
    store = SimulationStore.from_arrays(
        tmp_path / "store", theta, x, MODEL.parameters, MODEL.output
    )
    here = torch.from_numpy(MODEL.joint(1, 5)[1])
    found = local_check(GaussianPosterior(MODEL, width=0.3), store, here, n_draws=50, n_nulls=199)
    assert not found.passed
    ax = Figure().subplots()
    draw_local(found, ax, None, None)
    assert len(ax.lines) == 3
    ax.figure.canvas.draw()
    with pytest.raises(ShapeError, match="one observation"):
        local_check(GaussianPosterior(MODEL), store, here.repeat(2, 1))
