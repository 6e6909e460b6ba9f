"""Models compared by their simulations, against Bayes factors in closed form."""

import json

import numpy as np
import pytest
import torch

import sbitools
from sbitools import FieldSpec, Parameter, ParameterSpace, Posterior, SimulationStore, priors
from sbitools.calibration import models
from sbitools.errors import (
    ConfigError,
    FailedSimulationsWarning,
    MisspecificationWarning,
    ObservationError,
    ParameterError,
    PosteriorError,
    PriorMismatchWarning,
    RunDirError,
    ShapeError,
    StoreError,
)
from sbitools.store.models import ModelStore

N = 10
SPEC = FieldSpec("x", ("i",), (N,))
OTHER = FieldSpec("y", ("i",), (N,))
# Ten numbers of mean 0, or of one mean that is drawn from N(0, 1).
SPACES = {
    "still": ParameterSpace([Parameter("nothing", priors.Uniform(0.0, 1.0))]),
    "moving": ParameterSpace([Parameter("mean", priors.Normal(0.0, 1.0))]),
}
OPTIONS = {"epochs": 12, "batch_size": 64, "learning_rate": 5e-3, "features": 4, "channels": 4,
           "hidden": 16, "workers": 1}  # fmt: skip


def drawn(name, n, seed):
    rng = np.random.default_rng([seed, name == "moving"])
    theta = SPACES[name].design(n, seed).numpy()
    x = rng.standard_normal((n, N)) + (theta if name == "moving" else 0)
    return theta, x.astype(np.float32), rng.integers(0, 2**62, n)


def make_store(path, name, n, seed, spec=SPEC, **more):
    theta, x, seeds = drawn(name, n, seed)
    options = {"seeds": seeds, "design": "random"} | more
    return SimulationStore.from_arrays(path, theta, x, SPACES[name], spec, **options)


def exact(x):
    """log p(x | moving) - log p(x | still)."""
    mean = np.asarray(x, dtype=np.float64).mean(1)
    return -0.5 * np.log1p(N) + 0.5 * N**2 * mean**2 / (1 + N)


def stores_of(path, sizes, seed, **more):
    return {
        name: make_store(path / f"{name} {seed}", name, n, seed, **more)
        for name, n in sizes.items()
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three times as many simulations of one model as of the other."""
    path = tmp_path_factory.mktemp("models")
    stores = stores_of(path, {"still": 2400, "moving": 800}, 1)
    return sbitools.train_models(stores, run_dir=path / "r", **OPTIONS)


@pytest.fixture(scope="module")
def tests_of(tmp_path_factory):
    return stores_of(tmp_path_factory.mktemp("tests"), {"still": 400, "moving": 400}, 2)


@pytest.fixture(scope="module")
def x_and_label(tests_of):
    x = torch.cat([store.read(store.done) for store in tests_of.values()])
    return x, np.repeat([0, 1], 400)


@pytest.mark.filterwarnings("ignore::sbitools.errors.MisspecificationWarning")
def test_probabilities_and_bayes_factors_are_those_of_the_closed_form(trained, x_and_label):
    x, label = x_and_label
    p, factor = trained.probabilities(x), trained.log_bayes_factor(x, "moving", "still").numpy()
    truth = exact(x)
    right = np.stack([-np.logaddexp(0, truth), -np.logaddexp(0, -truth)], 1)
    rows = np.arange(len(x))
    below = right[rows, label].mean() - p.log().numpy()[rows, label].mean()
    # 3,200 simulations and a small network; equal probabilities alone are 0.22 below.
    assert below < 0.05
    # Shares of simulations that were left in would be off by log 3 = 1.1 everywhere.
    near = np.abs(truth) < 2
    assert abs(np.mean((factor - truth)[near])) < 0.35
    torch.testing.assert_close(p.sum(1), torch.ones(len(x), dtype=torch.float64), rtol=1e-6,
                               atol=1e-6)  # fmt: skip


@pytest.mark.filterwarnings("ignore::sbitools.errors.MisspecificationWarning")
def test_another_prior_changes_the_odds_and_not_the_bayes_factor(trained, x_and_label):
    x = x_and_label[0][:50]
    other = trained.with_prior({"moving": 0.9, "still": 0.1})
    odds = [(p[:, 1] / p[:, 0]).log() for p in (trained.probabilities(x), other.probabilities(x))]
    expected = torch.full_like(odds[0], np.log(9))
    torch.testing.assert_close(odds[1] - odds[0], expected, rtol=1e-4, atol=1e-4)
    factors = [p.log_bayes_factor(x, 1, 0) for p in (trained, other)]
    torch.testing.assert_close(*factors, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(factors[0], odds[0], rtol=1e-4, atol=1e-4)  # equal prior
    torch.testing.assert_close(-trained.log_bayes_factor(x, 0, 1), factors[0])
    assert trained.log_bayes_factor(x[0], "moving", "still").shape == ()
    assert trained.parameters[0].prior.probabilities == (0.5, 0.5)
    assert other.parameters[0].prior.probabilities == (0.1, 0.9)


def test_the_file_holds_the_prior_and_the_names(trained, tmp_path):
    other = trained.with_prior((0.25, 0.75))
    again = Posterior.load(other.save(tmp_path / "p"))
    x = torch.zeros(3, N)
    assert torch.equal(again.probabilities(x), other.probabilities(x))
    assert again.parameters[0].categories == ("still", "moving")
    assert again.parameters[0].prior.probabilities == (0.25, 0.75)
    assert set(again.info["models"]) == {"still", "moving"}


def test_a_run_resumes_and_repeats_to_the_bit(tmp_path):
    stores = stores_of(tmp_path, {"still": 150, "moving": 120}, 3)
    few = OPTIONS | {"epochs": 2}
    one = sbitools.train_models(stores, run_dir=tmp_path / "r", **few)
    with pytest.raises(RunDirError):
        sbitools.train_models(stores, run_dir=tmp_path / "r", resume=False, **few)
    read = sbitools.train_models(
        {k: s.path for k, s in stores.items()}, run_dir=tmp_path / "r",
        probabilities={"still": 0.5, "moving": 0.5}, **few,
    )  # fmt: skip
    again = sbitools.train_models(stores, run_dir=tmp_path / "s", **few)
    other = sbitools.train_models(stores, run_dir=tmp_path / "t", **few, seed=1)
    x = torch.zeros(2, N)
    p = one.probabilities(x)
    assert torch.equal(p, read.probabilities(x))
    assert torch.equal(p, again.probabilities(x))
    assert not torch.equal(p, other.probabilities(x))


def test_a_field_of_neither_model_is_told_of(trained):
    with pytest.warns(MisspecificationWarning):
        trained.probabilities(torch.linspace(-30, 30, N)[None])
    with pytest.warns(MisspecificationWarning):
        trained.log_bayes_factor(torch.linspace(-30, 30, N)[None], 0, 1)


def test_the_joined_store_reads_what_its_stores_hold(tests_of):
    joined = ModelStore(tests_of)
    rows = np.array([799, 0, 400, 3, 0])
    x = joined.read(rows)
    assert torch.equal(x[0], tests_of["moving"].read([399])[0])
    assert torch.equal(x[3], tests_of["still"].read([3])[0])
    assert torch.equal(x[1], x[4])
    assert joined.theta[:, 0].tolist() == [0.0] * 400 + [1.0] * 400
    assert len(np.unique(joined.groups)) == 800
    assert joined.seeds[400] == tests_of["moving"].seeds[0]
    assert joined.parameters[0].prior.probabilities == (0.5, 0.5)
    with pytest.raises(StoreError):
        joined.read([800])


def test_bad_stores_raise_typed_errors(tmp_path, tests_of):
    still, moving = tests_of["still"], tests_of["moving"]

    def train(stores, **more):
        return sbitools.train_models(stores, run_dir=tmp_path / "r", **more)

    for one in ({"still": still}, {}, [still, moving], None):
        with pytest.raises(StoreError, match="two models or more"):
            train(one)
    other = make_store(tmp_path / "o", "moving", 30, 1, OTHER)
    with pytest.raises(StoreError, match="field of model 'moving'"):
        train({"still": still, "moving": other})
    planned = SimulationStore.create(
        tmp_path / "p", SPACES["moving"], SPEC, SPACES["moving"].design(5, 0), range(5)
    )
    with pytest.raises(StoreError, match="expected finished simulations"):
        train({"still": still, "moving": planned})
    with pytest.raises(StoreError, match="which another model has"):
        train({"still": still, "same": still})
    with pytest.raises(StoreError, match="store of model 'moving'"):
        train({"still": still, "moving": 3})
    both = {"still": still, "moving": moving}
    for wrong in ((0.5, 0.6), (1.0,), {"still": 1.0}, (1.0, 0.0), {"still": 0.5, "fast": 0.5}):
        with pytest.raises(ParameterError, match="probabilities"):
            train(both, probabilities=wrong)
    for option in ({"method": "npe"}, {"indices": [1]}, {"hiden": 3}):
        with pytest.raises(ConfigError):
            train(both, **option)
    assert not (tmp_path / "r").exists()


@pytest.mark.filterwarnings("ignore::sbitools.errors.MisspecificationWarning")
def test_bad_questions_raise_typed_errors(trained):
    x = torch.zeros(2, N)
    for which in (2, -1, "fast", 0.5, None):
        with pytest.raises(PosteriorError, match="category"):
            trained.log_bayes_factor(x, which, "still")
    with pytest.raises(PosteriorError, match="parameter of log_bayes_factor"):
        trained.log_bayes_factor(x, 0, 1, parameter="colour")
    for bad in (x * np.nan, x[:, :3]):
        with pytest.raises(ObservationError):
            trained.probabilities(bad)
        with pytest.raises(ObservationError):
            trained.log_bayes_factor(bad, 0, 1)
    with pytest.raises(ParameterError, match="prior probabilities"):
        trained.with_prior((0.3, 0.3))


def test_what_spoils_a_comparison_is_told_of(tmp_path):
    theta, x, seeds = drawn("moving", 300, 4)
    half = theta[:, 0] > 0
    wrong = SimulationStore.from_arrays(
        tmp_path / "w", theta[half], x[half], SPACES["moving"], SPEC, seeds=seeds[half]
    )
    still = make_store(tmp_path / "s", "still", 100, 4)
    few = OPTIONS | {"epochs": 1}
    with pytest.warns(PriorMismatchWarning, match="the store of model 'moving'"):
        sbitools.train_models({"still": still, "moving": wrong}, run_dir=tmp_path / "r", **few)
    x[:7, 0] = np.nan
    broken = SimulationStore.from_arrays(
        tmp_path / "b", theta, x, SPACES["moving"], SPEC, seeds=seeds, nonfinite="fail"
    )
    with pytest.warns(FailedSimulationsWarning, match="7 simulations of model 'moving'"):
        posterior = sbitools.train_models(
            {"still": still, "moving": broken}, run_dir=tmp_path / "q", **few
        )
    assert posterior.info["models"]["moving"]["simulations of it"] == 293


def test_calibration_of_models(trained, tests_of, tmp_path):
    check = models(trained, tests_of, seed=1)
    # Trained on 3,200 simulations only: right to what 600 tests can see, for this seed.
    assert check.p_value > 1e-3
    assert check.name == "models"
    # As many of either as the smaller store allows, less 4 standard deviations.
    assert 600 < check.details["n_tests"] < 800
    assert check.details["names"] == ["still", "moving"]
    assert abs(check.details["log_score"] - check.details["log_score_expected"]) < 0.1
    assert all(0 <= v <= 1 for v in check.details["power"].values())
    ax = check.plot()
    ax.figure.canvas.draw()
    assert ax.get_legend_handles_labels()[1] == ["moving"]
    json.dumps(check.to_dict())
    # The order of the stores is not that of the codes.
    swapped = dict(reversed(tests_of.items()))
    assert models(trained, swapped, seed=1).p_value == check.p_value
    assert models(trained.with_prior((0.2, 0.8)), tests_of).details["n_tests"] < 550


def test_wrong_probabilities_of_models_are_caught(trained, tests_of):
    wrong = trained.with_prior((0.5, 0.5))
    wrong.estimator.shift(torch.tensor([1.0, 0.0]))  # as if shares had not been divided out
    assert models(wrong, tests_of).passed is False


def test_bad_tests_raise_typed_errors(trained, tests_of, tmp_path):
    with pytest.raises(StoreError, match="models"):
        models(trained, {"still": tests_of["still"], "fast": tests_of["moving"]})
    seen = stores_of(tmp_path, {"still": 60, "moving": 60}, 1)
    with pytest.raises(StoreError, match="not trained on"):
        models(trained, seen)
    other = stores_of(tmp_path / "o", {"still": 60, "moving": 60}, 5, spec=OTHER)
    with pytest.raises(StoreError, match="stores of tests"):
        models(trained, other)
    with pytest.raises(ShapeError, match="20 tests"):
        models(trained, stores_of(tmp_path / "f", {"still": 10, "moving": 60}, 6))
    with pytest.raises(PosteriorError, match="posterior"):
        models(object(), tests_of)
