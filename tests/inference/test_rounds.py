"""Sequential rounds: where they simulate, what they gain, and that a kill costs nothing."""

import json
import shutil

import numpy as np
import pytest
import torch

import sbitools
from sbitools import Posterior
from sbitools.errors import ConfigError, ObservationError, PosteriorError
from sbitools.inference import truncation
from sbitools.inference.rounds import train_rounds
from sbitools.inference.truncation import JoinedStores, Truncation
from tests.oracles.gaussian import GaussianPosterior, LinearGaussian

from .conftest import SPACE, gaussian_store

# A posterior a hundred times narrower than the prior.
MODEL = LinearGaussian(2, 5, sigma=0.02, dtype="float32")
X = MODEL.simulate(MODEL.parameters.design(1, 3), torch.tensor([9]))
OPTIONS = {
    "seed": 1, "workers": 1, "progress": False, "batch_size": 32, "flow": "zuko_maf",
    "flow_transforms": 1, "flow_hidden": 16, "features": 4, "channels": 2, "warmup_steps": 10,
    "learning_rate": 1e-2,
}  # fmt: skip


def excess(posterior):
    """KL divergence of the exact posterior to this one at X, nats."""
    x = X.numpy().astype(float)
    draws = MODEL.draws(x, 1000, 1)
    got = posterior.log_prob(torch.from_numpy(draws), X).numpy()
    return float((MODEL.log_prob(draws, x) - got).mean())


@pytest.fixture(scope="module")
def three_rounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rounds")
    posterior = train_rounds(MODEL, X, n_per_round=200, run_dir=folder, epochs=15, **OPTIONS)
    return folder, posterior


def test_rounds_close_in_on_the_observation(three_rounds, tmp_path):
    folder, posterior = three_rounds
    once = train_rounds(
        MODEL, X[0], n_per_round=600, run_dir=tmp_path, epochs=15, rounds=1, **OPTIONS
    )
    assert excess(posterior) < excess(once) - 0.1
    spread = [
        sbitools.SimulationStore.open(folder / f"round-{i}" / "simulations").theta.std(0).max()
        for i in (1, 2, 3)
    ]
    assert spread[2] < 0.75 * spread[0]
    # The region must keep the posterior: its mean is among the simulations of the last round.
    mean = MODEL.mean(X.numpy().astype(float))[0]
    last = sbitools.SimulationStore.open(folder / "round-3" / "simulations").theta.numpy()
    assert (last.min(0) < mean).all() and (mean < last.max(0)).all()  # noqa: PT018


def test_the_posterior_says_what_it_is_for(three_rounds):
    folder, posterior = three_rounds
    info = posterior.info
    assert info["amortised"] is False
    assert len(info["x_observed"]) == 64
    assert [r["done"] for r in info["rounds"]] == [200, 200, 200]
    assert info["rounds"][0]["from"] == "prior"
    assert info["n_training"] + info["n_validation"] == 600
    assert len(set(posterior.training_seeds.tolist())) == 600
    again = Posterior.load(folder / "round-3" / "posterior")
    assert again.info == info


def test_a_killed_run_goes_on_to_the_same_weights(three_rounds, tmp_path):
    class KilledError(Exception):
        pass

    def kill(row):
        if (tmp_path / "round-2").exists() and row["epoch"] == 2:
            raise KilledError

    arguments = {"n_per_round": 200, "run_dir": tmp_path, "epochs": 15, "rounds": 2, **OPTIONS}
    with pytest.raises(KilledError):
        train_rounds(MODEL, X, on_epoch=kill, **arguments)
    shutil.rmtree(tmp_path / "round-2" / "simulations")  # as if killed before they were made
    resumed = train_rounds(MODEL, X, **arguments).estimator.state_dict()
    whole = Posterior.load(three_rounds[0] / "round-2" / "posterior").estimator.state_dict()
    for name, weight in whole.items():
        assert torch.equal(weight, resumed[name]), name


def test_a_folder_of_other_rounds_is_refused(three_rounds):
    arguments = {"n_per_round": 200, "run_dir": three_rounds[0], "epochs": 15, **OPTIONS}
    with pytest.raises(ConfigError, match="x_observed"):
        train_rounds(MODEL, X + 1, **arguments)
    with pytest.raises(ConfigError, match="resume=False"):
        train_rounds(MODEL, X, resume=False, **arguments)


@pytest.mark.parametrize(("change", "error", "words"), [
    ({"epsilon": 0.7}, ConfigError, "epsilon"),
    ({"rounds": 0}, ConfigError, "rounds"),
    ({"epohcs": 3}, ConfigError, "epohcs"),
    ({"symmetry": "cube"}, ConfigError, "symmetry"),
    ({"x_observed": X[:, :2]}, ObservationError, r"expected shape \(5\)"),
    ({"x_observed": X.expand(3, 5)}, ObservationError, "one observation"),
    ({"x_observed": X * torch.nan}, ObservationError, "5 values not finite"),
])  # fmt: skip
def test_bad_requests_raise_typed_errors_before_anything_is_simulated(
    change, error, words, tmp_path
):
    arguments = {"x_observed": X, "n_per_round": 10, "run_dir": tmp_path, **OPTIONS} | change
    with pytest.raises(error, match=words):
        train_rounds(MODEL, **arguments)
    assert not list(tmp_path.iterdir())


def region(width, x=X, sigma=0.3):
    model = LinearGaussian(2, 5, sigma=sigma)
    posterior = GaussianPosterior(model, width=width)
    return Truncation(posterior, model.parameters, x.double(), 1e-2, seed=1)  # pyright: ignore[reportArgumentType]


def test_both_ways_of_drawing_give_the_truncated_prior():
    """5 standard errors of the mean and of the width: a false alarm in 10^5 runs."""
    cut = region(1.0)
    one = torch.cat([cut._some("prior", cut.threshold, i) for i in range(4)])
    two = torch.cat([cut._some("posterior", cut.threshold, i) for i in range(8)])
    error = (one.var(0) * (1 / len(one) + 1 / len(two))).sqrt()
    assert min(len(one), len(two)) > 500
    assert bool(((one.mean(0) - two.mean(0)).abs() < 5 * error).all())
    assert bool(((one.std(0) / two.std(0) - 1).abs() < 5 * error / one.std(0)).all())


def test_the_region_holds_all_but_epsilon():
    cut = region(1.0)
    _, ratio = cut._from_posterior(20_000, 77)
    # Binomial error of two samples of 10,000 and more, five-fold.
    assert abs(float((ratio < cut.threshold).double().mean()) - 0.01) < 0.007


def test_draws_lie_in_the_region_and_are_seeded():
    theta, told = region(1.0).draw(300)
    assert theta.shape == (300, 2)
    assert bool((region(1.0).log_ratio(theta) > told["log_edge"]).all())
    assert torch.equal(theta, region(1.0).draw(300)[0])


def test_a_hopeless_region_is_a_typed_error(monkeypatch):
    monkeypatch.setattr(truncation, "_LEAST_ACCEPTED", 2.0)
    with pytest.raises(PosteriorError, match="simulate more per round"):
        region(1.0).draw(10)
    cut = region(1.0)
    nowhere = torch.zeros(9, 2), torch.full((9,), torch.nan, dtype=torch.float64)
    monkeypatch.setattr(cut, "_from_posterior", lambda n, seed: nowhere)
    with pytest.raises(PosteriorError, match="region of the next round"):
        _ = cut.threshold


def test_joined_stores_read_as_one(tmp_path):
    stores = [gaussian_store(tmp_path / str(i), n=20 + i, seed=i) for i in range(3)]
    joined = JoinedStores(stores)
    order = np.array([61, 0, 20, 40, 41, 5])
    assert len(joined.done) == len(joined.theta) == len(joined.seeds) == 63
    assert len(np.unique(joined.groups)) == 63
    expected = torch.stack([
        stores[2].read([20])[0], stores[0].read([0])[0], stores[1].read([0])[0],
        stores[1].read([20])[0], stores[2].read([0])[0], stores[0].read([5])[0],
    ])  # fmt: skip
    assert torch.equal(joined.read(order), expected)
    assert joined.counts()["done"] == 63
    assert joined.parameters == SPACE
    assert joined.digest() != JoinedStores(stores[::-1]).digest()


def test_the_folder_keeps_what_the_rounds_are_for(three_rounds):
    kept = json.loads((three_rounds[0] / "rounds.json").read_text())
    assert kept["x_observed"] == three_rounds[1].info["x_observed"]
