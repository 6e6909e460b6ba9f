"""Posterior-predictive checks: a wrong model is seen, a right one is not, failures are counted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from sbitools import FunctionSimulator, Parameter, ParameterSpace, priors, seeds
from sbitools.calibration.check import Check
from sbitools.calibration.checks.predictions import default_statistics, predict
from sbitools.calibration.checks.predictive import predictive, predictive_check
from sbitools.calibration.plots.local import draw_predictive
from sbitools.errors import PosteriorError, ShapeError
from sbitools.observation import Smooth
from tests.oracles.gaussian import GaussianPosterior, LinearGaussian

MODEL = LinearGaussian()
POSTERIOR = GaussianPosterior(MODEL)


def observed(seed, sigma=1.0, **change):
    """One x of the model, with another noise if `sigma` is not 1."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1, 2)) @ MODEL.matrix.T + sigma * rng.normal(size=(1, 5))
    for index, value in change.items():
        x[0, int(index[1:])] += value
    return torch.from_numpy(x)


def p_values(n, level, draws=99, **error):
    p = [predictive_check(POSTERIOR, MODEL, observed(s, **error), n=draws, seed=s,
                          batch_size=99).p_value for s in range(n)]  # fmt: skip
    return (np.array(p) <= level).mean()


def test_exchangeable_predictions_have_exact_p_values():
    # 400 repeats, 5 sd (false alarm 1e-6) at 10 % is 0.075; p are ranks of 40
    rng = np.random.default_rng(0)
    p = np.array([predictive(*_split(rng.gamma(1.0, size=(40, 6)))).p_value for _ in range(400)])
    assert (p <= 0.1).mean() == pytest.approx(0.1, abs=0.075)
    each = [r["p_value"] for r in predictive(*_split(rng.normal(size=(200, 400)))).details[
        "parameters"]]  # fmt: skip
    assert np.mean(np.array(each) <= 0.1) == pytest.approx(0.1, abs=0.075)


def _split(pool):
    return pool[0], pool[1:]


def test_right_model_passes_at_most_at_twice_the_rate():
    # Meng's bound 2 a = 0.1, and 5 sd of 200 repeats above it
    assert p_values(200, 0.05) <= 0.1 + 5 * np.sqrt(0.1 * 0.9 / 200)


@pytest.mark.parametrize("error", [{"x2": 9.0}, {"sigma": 6.0}])
def test_wrong_model_is_seen(error):
    assert p_values(20, 0.02, **error) >= 0.75


def test_it_names_the_entry_that_is_off():
    check = predictive_check(POSTERIOR, MODEL, observed(3, x2=9.0), n=200)
    assert not check.passed
    assert check.summary.startswith("x 2 is +")
    assert check.effect > check.band[1] > 0
    rows = {r["name"]: r for r in check.details["parameters"]}
    assert rows["x 2"]["p_value"] == pytest.approx(2 / 201)
    assert rows["x 2"]["observed"] > rows["x 2"]["high"]
    assert Check.from_dict(check.to_dict()) == check


def test_more_statistics_than_predictions():
    rng = np.random.default_rng(1)
    pool = rng.normal(size=(51, 200))
    assert predictive(*_split(pool)).passed
    pool[0, 17] += 9
    check = predictive(*_split(pool), false_alarm=0.05)  # no p-value is below 2 / 51
    assert not check.passed
    assert check.summary.startswith("statistic 17")


def test_correlation_alone_is_seen():
    # Each of two statistics is usual; their difference never is.
    rng = np.random.default_rng(2)
    common = rng.normal(size=(300, 1))
    pool = common + 0.05 * rng.normal(size=(300, 2))
    pool[0] = 1.0, -1.0
    check = predictive(*_split(pool))
    assert not check.passed
    assert min(r["p_value"] for r in check.details["parameters"]) > 0.1


def test_constant_statistics_say_nothing_unless_broken():
    rng = np.random.default_rng(3)
    pool = np.concatenate([rng.normal(size=(100, 2)), np.full((100, 1), 7.0)], axis=1)
    pool[0, :2] = 0.1
    assert predictive(*_split(pool)).passed
    pool[0, 2] = 8.0
    assert not predictive(*_split(pool), false_alarm=0.05).passed


@dataclass
class Failing:
    """The model, but what it makes fails for some theta."""

    above: float
    how: str
    parameters = MODEL.parameters
    output = MODEL.output
    source = None
    group_size = 1

    def simulate(self, theta, simulation_seeds):
        bad = theta[:, 0] > self.above
        if bool(bad.any()) and self.how == "raise":
            raise RuntimeError("no convergence\nat step 3")
        x = MODEL.simulate(theta, simulation_seeds)
        return torch.where(bad[:, None], torch.nan, x)


@pytest.mark.parametrize(("how", "said"), [("raise", "no convergence"), ("nan", "not finite")])
def test_failures_are_counted_and_the_rest_is_used(how, said):
    x = observed(1)
    theta = POSTERIOR.sample(x, 100, seed=0)[0, :, 0]
    limit = float(theta.quantile(0.8))
    found = predict(POSTERIOR, Failing(limit, how), x, n=100, seed=0, batch_size=16)
    assert found.n_failed + len(found.draws) == 100
    assert 0 < found.n_failed < 60
    assert said in found.failure
    assert f"{found.n_failed} of 100 simulations failed" in predictive(*found).note
    with pytest.raises(PosteriorError, match="that work"):
        predict(POSTERIOR, Failing(-np.inf, how), x, n=30)


def test_statistics_that_are_no_number_count_as_failures():
    functions = {"root": lambda x: torch.sqrt(x[:, 0])}
    x = observed(0)
    x[0, 0] = 0.4
    found = predict(POSTERIOR, MODEL, x, statistics=functions, n=100)
    assert 0 < found.n_failed < 80
    assert found.n_failed + len(found.draws) == 100
    assert "root is not finite" in found.failure
    x[0, 0] = -1.0
    with pytest.raises(ShapeError, match="statistics of x"):
        predict(POSTERIOR, MODEL, x, statistics=functions, n=100)


def test_batches_do_not_change_what_is_simulated():
    one, two = (
        predict(POSTERIOR, MODEL, observed(2), n=40, seed=5, batch_size=b) for b in (40, 7)
    )
    np.testing.assert_allclose(one.draws, two.draws, rtol=1e-12)
    other = predict(POSTERIOR, MODEL, observed(2), n=40, seed=6)
    assert not np.allclose(one.draws, other.draws)


def test_nuisance_parameters_come_from_their_prior():
    space = ParameterSpace([
        Parameter("extra", priors.Uniform(10.0, 20.0), inferred=False), *MODEL.parameters
    ])  # fmt: skip
    seen = []

    def simulate(theta, s):
        seen.append(theta.clone())
        return MODEL.simulate(theta[:, 1:], s)

    x = observed(4)
    predict(POSTERIOR, FunctionSimulator(simulate, space, MODEL.output), x, n=64)
    theta = torch.cat(seen)
    assert bool(((theta[:, 0] > 10) & (theta[:, 0] < 20)).all())
    assert float(theta[:, 0].std()) > 1
    mean = torch.from_numpy(MODEL.mean(x.numpy())[0])
    assert torch.allclose(theta[:, 1:].mean(0), mean, atol=5 / 8)


def test_default_statistics_of_a_cube_find_missing_power():
    n = 8
    draws = seeds.normal(list(range(60)), (n, n, n), torch.float64)
    smooth = Smooth(0.5).apply(draws[:1], torch.tensor([0]))
    x = torch.cat([smooth / smooth.std() * draws[0].std(), draws[1:]])
    functions = default_statistics((n, n, n))
    columns = [np.asarray(f(x)).reshape(60, -1) for f in functions.values()]
    power = columns[-1]
    assert list(functions)[-1] == "log10 P, band"
    assert 3 <= power.shape[1] <= 8
    # white noise has P = cell volume = 1 in every band
    assert 10 ** power[1:].mean() == pytest.approx(1.0, abs=0.15)
    check = predictive(*_split(np.concatenate(columns, 1)), false_alarm=0.05)
    assert not check.passed


def test_other_simulators_and_batches_are_refused():
    other = LinearGaussian(n_data=4)
    with pytest.raises(PosteriorError, match="output of the simulator"):
        predict(POSTERIOR, other, observed(0))
    space = ParameterSpace(
        [Parameter("a", priors.Normal(0, 1)), Parameter("b", priors.Normal(0, 1))]
    )
    with pytest.raises(PosteriorError, match="inferred parameters"):
        predict(POSTERIOR, FunctionSimulator(MODEL.simulate, space, MODEL.output), observed(0))
    with pytest.raises(ShapeError, match="one observation"):
        predict(POSTERIOR, MODEL, observed(0).repeat(2, 1))
    with pytest.raises(ShapeError, match="statistic 'sum'"):
        predict(POSTERIOR, MODEL, observed(0), statistics={"sum": lambda x: x.sum()})
    with pytest.raises(ShapeError, match="M >= 20"):
        predictive(np.zeros(2), np.zeros((19, 2)))
    with pytest.raises(ShapeError, match="finite"):
        predictive(np.array([0.0, np.nan]), np.zeros((30, 2)))


@pytest.mark.parametrize("n_statistics", [3, 40])
def test_plot(n_statistics):
    from matplotlib.figure import Figure

    pool = np.random.default_rng(0).normal(size=(50, n_statistics))
    pool[0, 0] = 100.0
    ax = Figure().subplots()
    draw_predictive(predictive(*_split(pool)), ax, None, None)
    ax.figure.canvas.draw()
