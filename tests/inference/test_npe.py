"""NPE against an exact posterior, and its options."""

import numpy as np
import pytest
import torch
from scipy import stats

import sbitools
from sbitools import FieldSpec, Observation, Parameter, ParameterSpace, SimulationStore, priors
from sbitools.errors import ConfigError, ObservationError, PosteriorError, TrainingError
from sbitools.inference.symmetry import random_symmetry
from sbitools.observation import Coarsen, Noise
from sbitools.seeds import generator, normal

from .conftest import NOISE, SPACE, gaussian_store


def exact_log_prob(theta, x):
    """Normal-normal for a; a normal likelihood cut to [-1, 1] for b."""
    var = 1 / (1 + 1 / NOISE**2)
    a = stats.norm(x[:, 0] * var / NOISE**2, var**0.5).logpdf(theta[:, 0])
    low, high = ((edge - x[:, 1]) / NOISE for edge in (-1, 1))
    return a + stats.truncnorm(low, high, x[:, 1], NOISE).logpdf(theta[:, 1])


def test_posterior_is_close_to_the_exact_one(posterior, tmp_path):
    test = gaussian_store(tmp_path / "test", n=500, seed=2)
    theta, x = test.theta, test.read(test.done)
    got = posterior.log_prob(theta, x).numpy()
    excess = exact_log_prob(theta.numpy(), x.numpy()) - got
    # KL divergence in nats. 2,000 simulations fix the posterior's mean and width to a few per
    # cent of its width, which costs about 0.05 nats; an untrained flow costs more than 1.
    assert excess.mean() < 0.1
    assert posterior.info["n_training"] == 1800
    assert posterior.info["store"]


def test_draws_follow_the_density(posterior):
    x = torch.tensor([[0.4, -0.9]])
    draws, log_q = posterior.sample_and_log_prob(x, 4000, seed=3)
    torch.testing.assert_close(log_q, posterior.log_prob(draws, x), rtol=1e-4, atol=1e-3)
    inside = (draws[..., 1] >= -1) & (draws[..., 1] <= 1)
    assert bool(inside.all())
    # E[p/q] over draws of q is 1 if the density is normalised: importance weights of the exact
    # posterior, standard error about 0.01 here; 0.1 is far outside of chance.
    weight = np.exp(exact_log_prob(draws[0].numpy(), x.expand(4000, 2).numpy()) - log_q[0].numpy())
    assert abs(weight.mean() - 1) < 0.1


def test_training_resumes_to_the_same_weights(store, tmp_path):
    options = {"batch_size": 256, "flow_hidden": 8, "features": 4, "channels": 1, "epochs": 4,
               "flow": "zuko_nsf", "checkpoint_seconds": 0.0}  # fmt: skip
    whole = sbitools.train(store, run_dir=tmp_path / "whole", **options)

    class KilledError(Exception):
        pass

    def kill(row):
        if row["epoch"] == 1:
            raise KilledError

    with pytest.raises(KilledError):
        sbitools.train(store, run_dir=tmp_path / "cut", on_epoch=kill, **options)
    resumed = sbitools.train(store, run_dir=tmp_path / "cut", resume=True, **options)
    pairs = zip(whole.estimator.state_dict().items(), resumed.estimator.state_dict().items(),
                strict=True)  # fmt: skip
    for (name, one), (_, two) in pairs:
        assert torch.equal(one, two), name


@pytest.mark.parametrize("boundary", ["periodic", "open"])
def test_fields_of_three_axes_with_noise_and_symmetry(boundary, tmp_path):
    """The amplitude of a white-noise cube is recovered through noise and coarsening."""
    space = ParameterSpace(
        [Parameter("log_amplitude", priors.Uniform(-1.0, 1.0)),
         Parameter("nuisance", priors.Normal(0, 1), inferred=False)]
    )  # fmt: skip
    theta = space.design(400, 5)
    x = theta[:, :1].exp().float().view(-1, 1, 1, 1) * normal(range(400), (8, 8, 8))
    spec = FieldSpec("white", ("x", "y", "z"), (8, 8, 8))
    store = SimulationStore.from_arrays(tmp_path / "s", theta, x, space, spec)
    observe = Observation([Coarsen(2), Noise(0.05)])
    posterior = sbitools.train(
        store, observe=observe, run_dir=tmp_path / "run", epochs=25, batch_size=50, channels=8,
        features=8, flow_hidden=16, learning_rate=5e-3, boundary=boundary, symmetry="cube",
    )  # fmt: skip
    assert posterior.parameters.names == ["log_amplitude"]
    assert posterior.observed.shape == (4, 4, 4)
    x_test = posterior.observe(x[:100], torch.arange(100))
    mean = posterior.sample(x_test, 100, seed=0).mean(1)[:, 0]
    # 64 cells give the amplitude to 9 %, so the correlation with the truth is 0.98 at best.
    assert np.corrcoef(mean, theta[:100, 0])[0, 1] > 0.9


@pytest.mark.parametrize("dtype", ["float64", "int32"])
def test_fields_of_other_dtypes_can_be_trained_on(dtype, tmp_path):
    spec = FieldSpec("x", ("i",), (2,), dtype)
    theta = SPACE.design(64, 1)
    x = (100 * theta).to(spec.torch_dtype)
    store = SimulationStore.from_arrays(tmp_path / "s", theta, x, SPACE, spec)
    posterior = sbitools.train(
        store, run_dir=tmp_path / "r", epochs=1, channels=1, flow_hidden=4, flow="zuko_nsf"
    )
    assert posterior.sample(x[:2], 3).shape == (2, 3, 2)


def test_a_scalar_datum_is_a_field_too(tmp_path):
    spec = FieldSpec("x", (), ())
    theta = SPACE.design(64, 1)
    store = SimulationStore.from_arrays(tmp_path / "s", theta, theta[:, 0].float(), SPACE, spec)
    posterior = sbitools.train(store, run_dir=tmp_path / "r", epochs=1, channels=1, flow_hidden=4)
    assert posterior.sample(torch.zeros(3), 2).shape == (3, 2, 2)


def test_cube_symmetry_permutes_cells():
    x = torch.arange(27.0).view(1, 3, 3, 3)
    seen = {tuple(random_symmetry(x, generator(s)).flatten().tolist()) for s in range(400)}
    assert len(seen) == 48
    assert all(sorted(s) == sorted(x.flatten().tolist()) for s in seen)


def test_sky_symmetry_leaves_the_line_of_sight():
    x = torch.arange(45.0).view(1, 3, 3, 5)
    drawn = [random_symmetry(x, generator(s), "sky") for s in range(100)]
    assert len({tuple(d.flatten().tolist()) for d in drawn}) == 8
    assert all(bool((d.diff(dim=-1) == 1).all()) for d in drawn)


def test_a_light_cone_is_not_mirrored_along_its_line_of_sight(tmp_path):
    spec = FieldSpec("cone", ("x", "y", "los"), (4, 4, 8))
    store = SimulationStore.from_arrays(
        tmp_path / "s", SPACE.design(32, 1), normal(range(32), (4, 4, 8)), SPACE, spec
    )
    options = {"epochs": 1, "channels": 1, "flow_hidden": 4, "pretrain_epochs": 1}
    with pytest.raises(ConfigError, match="symmetry='sky'"):
        sbitools.train(store, run_dir=tmp_path / "r", symmetry="cube", **options)
    sbitools.train(store, run_dir=tmp_path / "r", symmetry="sky", **options)
    spec = FieldSpec("cube", ("x", "y", "z"), (4, 4, 8))
    store = SimulationStore.from_arrays(
        tmp_path / "c", SPACE.design(32, 1), normal(range(32), (4, 4, 8)), SPACE, spec
    )
    with pytest.raises(ConfigError, match="symmetry='cube'"):
        sbitools.train(store, run_dir=tmp_path / "q", symmetry="sky", **options)


def test_bad_requests_raise_typed_errors(store, tmp_path):
    run = {"run_dir": tmp_path / "r"}
    with pytest.raises(ConfigError, match="use method='npe'"):
        sbitools.train(store, "abc", **run)
    with pytest.raises(ConfigError, match="learning_rte"):
        sbitools.train(store, learning_rte=1.0, **run)
    with pytest.raises(ConfigError, match="device='auto'"):
        sbitools.train(store, device="abacus", **run)
    with pytest.raises(ConfigError, match="epochs"):
        sbitools.train(store, epochs=0, **run)
    with pytest.raises(ObservationError, match="multiples of 3"):
        sbitools.train(store, observe=Observation([Coarsen(3)]), **run)
    empty = SimulationStore.create(
        tmp_path / "e", SPACE, store.output, store.theta[:4], store.seeds[:4]
    )
    with pytest.raises(TrainingError, match="two finished groups"):
        sbitools.train(empty, **run)
    coded = ParameterSpace([Parameter("kind", None, categories=("a", "b"))])
    bad = SimulationStore.from_arrays(
        tmp_path / "c", coded.design(8, 0), torch.zeros(8, 2), coded, store.output
    )
    with pytest.raises(PosteriorError, match="categorical"):
        sbitools.train(bad, **run)
