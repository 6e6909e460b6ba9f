"""Control variates: nothing is biased, and what is stated about the variance is so."""

import numpy as np
import pytest

from sbitools.errors import ConfigError, ShapeError
from sbitools.statistics import controlled_covariance, controlled_mean

D = 4
SCALES = np.array([1.0, 2.0, 1.0, 0.5])
ALONE = np.diag(SCALES)
MIXED = np.eye(D) + 0.8 * np.roll(np.eye(D), 1, 1)


def simulations(seed, n, m, mixing=ALONE):
    """Expensive, paired and extra: an emulation is biased, rescaled and noisy."""
    rng = np.random.default_rng(seed)
    shared, own = rng.standard_normal((2, n, D))
    paired = 1.2 * shared + 0.5 + 0.2 * rng.standard_normal((n, D))
    extra = np.hypot(1.2, 0.2) * rng.standard_normal((m, D)) + 0.5
    return shared @ mixing.T + 0.3 * own + 2.0, paired, extra


def many(function, n, m, repeats, *, mixing=ALONE, **options):
    return [function(*simulations(s, n, m, mixing), **options) for s in range(repeats)]


@pytest.mark.parametrize("beta", ["diagonal", "full"])
@pytest.mark.parametrize(("n", "mixing"), [(6, ALONE), (20, MIXED)])
def test_the_mean_is_unbiased_and_its_error_is_as_stated(beta, n, mixing):
    found = many(controlled_mean, n, 300, 400, mixing=mixing, beta=beta)
    means = np.array([f.mean for f in found])
    scatter = means.std(0, ddof=1)
    # 16 numbers in all, 6 standard errors: 4e-8 for Student's t with 399 degrees of freedom.
    assert (np.abs(means.mean(0) - 2.0) < 6 * scatter / 400**0.5).all()
    stated = np.mean([f.error**2 for f in found], 0) ** 0.5
    assert np.abs(stated / scatter - 1).max() < 0.2  # 400 repeats know the scatter to 4 %


def test_a_wrong_emulator_mean_would_bias_what_is_not_corrected():
    found = many(controlled_mean, 6, 300, 200)
    assert np.abs(np.mean([f.mean for f in found], 0) - 2.0).max() < 0.1
    shifted = [controlled_mean(y, c, more + 1.0) for y, c, more in
               (simulations(s, 6, 300) for s in range(200))]  # fmt: skip
    assert np.abs(np.mean([f.mean for f in shifted], 0) - 2.0).min() > 0.2


def test_variance_is_reduced_as_much_as_theory_says():
    n, m = 40, 400
    found = many(controlled_mean, n, m, 400)
    true = np.var([f.plain for f in found], 0) / np.var([f.mean for f in found], 0)
    correlation2 = (1.2 * SCALES) ** 2 / ((SCALES**2 + 0.09) * (1.44 + 0.04))
    theory = 1 / (1 - correlation2 * m / (n + m))
    stated = np.median([f.reduction for f in found], 0)
    # Ratios of two variances of 400 numbers scatter by 10 %; beta from 36 pairs costs 3 %.
    assert np.abs(true / theory - 1).max() < 0.5
    assert np.abs(stated / theory - 1).max() < 0.15
    assert theory.min() > 2


def test_a_full_beta_uses_what_other_components_know():
    pairs = [simulations(s, 30, 3000, MIXED) for s in range(40)]
    reduction = {
        beta: np.median([controlled_mean(*p, beta=beta).reduction for p in pairs])
        for beta in ("diagonal", "full")
    }
    assert reduction["full"] > 2 * reduction["diagonal"] > 3


def test_with_few_pairs_a_full_beta_does_little_harm():
    plain, full = (many(controlled_mean, 8, 300, 300, beta=b) for b in ("diagonal", "full"))
    ratio = np.var([f.mean for f in full], 0) / np.var([f.mean for f in plain], 0)
    assert ratio.max() < 1.5  # without the penalty it is some 4 here


def test_an_exact_emulator_leaves_the_error_of_the_many():
    y, _, extra = simulations(3, 20, 5000)
    found = controlled_mean(y, y, np.concatenate([extra, -extra]) * SCALES / 1.2 + y.mean(0))
    share = 10000 / 10020
    assert found.beta == pytest.approx(np.full(D, share))
    assert found.mean == pytest.approx(y.mean(0), abs=1e-12)
    assert (found.reduction > 100).all()


def test_an_unrelated_or_constant_emulator_does_no_harm():
    y, _, extra = simulations(4, 50, 500)
    other = np.random.default_rng(9).standard_normal((50, D))
    assert (controlled_mean(y, other, other.repeat(4, 0)).reduction > 0.7).all()
    constant = controlled_mean(y, np.ones((50, D)), np.ones((9, D)), beta="full")
    assert np.allclose(constant.mean, y.mean(0), rtol=0, atol=1e-12)
    assert np.allclose(constant.beta, 0)
    assert np.allclose(constant.reduction, 1)
    assert np.isfinite(controlled_covariance(y, np.ones((50, D)), extra).covariance).all()


def test_the_covariance_is_unbiased_and_more_precise():
    n, m, repeats = 40, 100, 600
    found = many(controlled_covariance, n, m, repeats)
    truth = np.diag(SCALES**2 + 0.09)
    values, plain = (np.array([getattr(f, k) for f in found]) for k in ("covariance", "plain"))
    for sample in (values, plain):
        error = sample.std(0, ddof=1) / repeats**0.5
        # 10 numbers, twice, 6 standard errors: 4e-8.
        assert (np.abs(sample.mean(0) - truth) < 6 * error).all()
    true = plain.var(0) / values.var(0)
    stated = np.median([f.reduction for f in found], 0)
    assert true.min() > 1.2
    assert np.abs(stated / true - 1).max() < 0.4  # two variances of 600 skew numbers
    assert np.array_equal(values, values.swapaxes(1, 2))


def test_a_covariance_from_few_pairs_is_unbiased_too():
    found = many(controlled_covariance, 6, 200, 1500)
    values = np.array([f.covariance for f in found])
    error = values.std(0, ddof=1) / 1500**0.5
    assert (np.abs(values.mean(0) - np.diag(SCALES**2 + 0.09)) < 6 * error).all()


@pytest.mark.parametrize("function", [controlled_mean, controlled_covariance])
def test_wrong_shapes_and_numbers(function):
    y, c, more = simulations(5, 8, 20)
    for wrong in ((y[:7], c, more), (y, c[:, :3], more), (y, c, more[:, :3]), (y[:3], c[:3], more),
                  (y, c, more[:1]), (y[0], c[0], more)):  # fmt: skip
        with pytest.raises(ShapeError):
            function(*wrong)
    more[3, 1] = np.nan
    with pytest.raises(ShapeError, match="1 of 80"):
        function(y, c, more)


def test_wrong_options():
    y, c, more = simulations(6, 8, 20)
    with pytest.raises(ConfigError, match="'diagonal' or 'full'"):
        controlled_mean(y, c, more, beta="univariate")
    for function in (controlled_mean, controlled_covariance):
        with pytest.raises(ConfigError, match="folds"):
            function(y, c, more, folds=1)
