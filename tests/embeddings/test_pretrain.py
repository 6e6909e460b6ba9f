"""Regression pre-training: against exact answers, resumable, and the stages after it."""

import copy

import healpy
import numpy as np
import pytest
import torch
from torch import nn

from sbitools import FieldSpec, Observation, Parameter, ParameterSpace, SimulationStore, priors
from sbitools.embeddings import Regression, build_embedding, frozen, observed_mask, pretrain
from sbitools.errors import ObservationError
from sbitools.observation import Mask, Noise
from sbitools.seeds import normal, simulation_seeds
from sbitools.training import TrainingOptions, run_training
from tests.oracles.gaussian import LinearGaussian

PROBLEM = LinearGaussian(dtype="float32")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    theta = PROBLEM.parameters.design(2000, 1)
    seeds = torch.from_numpy(simulation_seeds(1, range(2000)))
    x = PROBLEM.simulate(theta, seeds)
    return SimulationStore.from_arrays(
        tmp_path_factory.mktemp("store") / "s", theta, x, PROBLEM.parameters, PROBLEM.output
    )


def network(seeded):
    return seeded(lambda: build_embedding("mlp", PROBLEM.output, 4, 4), awake=False)


def test_regression_learns_the_exact_mean_and_variance(seeded, store, tmp_path):
    options = TrainingOptions(epochs=15, batch_size=100, learning_rate=5e-3)
    net = network(seeded)
    before = copy.deepcopy(net.state_dict())
    regression, history = pretrain(net, store, Observation(), options, tmp_path)
    assert regression.embedding is net  # trained in place
    assert any(not torch.equal(before[k], v) for k, v in net.state_dict().items())
    _, x = PROBLEM.joint(2000, 5)
    with torch.no_grad():
        mean, log_variance = regression(torch.from_numpy(x))
    sd = np.sqrt(np.diag(PROBLEM.covariance))
    # 1,800 simulations and some 100 effective weights: a few per cent of the posterior's
    # variance in the mean, likewise in the variance; 0.25 sd and 15 % are far outside.
    assert (np.sqrt(((mean.numpy() - PROBLEM.mean(x)) ** 2).mean(0)) < 0.25 * sd).all()
    np.testing.assert_allclose(np.exp(log_variance.numpy() / 2).mean(0), sd, rtol=0.15)
    exact = 0.5 * (2 * np.log(sd) + 1).sum()
    assert exact - 0.15 < history.best_validation_loss < exact + 0.15  # 200 rows


def test_untrained_regression_is_the_prior(seeded):
    mean, log_variance = Regression(network(seeded), 3)(torch.ones(2, 5))
    assert torch.equal(mean, torch.zeros(2, 3))
    assert torch.equal(log_variance, torch.zeros(2, 3))


def test_the_mean_alone_can_be_the_target(seeded, store, tmp_path):
    options = TrainingOptions(epochs=8, batch_size=100, learning_rate=5e-3)
    _, history = pretrain(network(seeded), store, Observation(), options, tmp_path, target="mean")
    best = 0.5 * np.trace(PROBLEM.covariance)
    assert best * 0.7 < history.best_validation_loss < best * 1.4 < 1.0  # the prior scores 1


def test_noise_and_symmetries_are_those_of_the_later_training(seeded, store, tmp_path):
    calls = []

    def mirror(x, rng):
        calls.append((len(x), float(torch.rand(1, generator=rng))))
        return x

    options = TrainingOptions(epochs=1, batch_size=40, learning_rate=1e-3, warmup_steps=0)
    results = []
    for folder, observe, workers in (("a", Observation(), 1), ("b", Observation([Noise(3.0)]), 1),
                                     ("c", Observation([Noise(3.0)]), 2)):  # fmt: skip
        net = network(seeded)
        pretrain(net, store, observe, options, tmp_path / folder, augment=mirror, workers=workers)
        results.append(net.last.weight.detach().clone())
    assert not torch.equal(results[0], results[1])
    assert torch.equal(results[1], results[2])  # whatever the number of threads
    assert len({value for _, value in calls}) > 100  # drawn anew for each piece of each batch
    # 45 batches of 40 rows are 16 + 16 + 8 in each of the three runs; validation has none.
    assert [size for size, _ in calls] == [16, 16, 8] * 45 * 3


def test_an_interrupted_pretraining_ends_with_the_same_weights(seeded, store, tmp_path):
    options = TrainingOptions(epochs=3, batch_size=200, learning_rate=5e-3)
    whole = network(seeded)
    pretrain(whole, store, Observation(), options, tmp_path / "whole")

    class KilledError(Exception):
        pass

    def kill(row):
        if row["epoch"] == 1:
            raise KilledError

    net = network(seeded)
    with pytest.raises(KilledError):
        pretrain(net, store, Observation(), options, tmp_path / "part", on_epoch=kill)
    net = network(seeded)
    pretrain(net, store, Observation(), options, tmp_path / "part", resume=True)
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in net.state_dict().items())


def test_a_frozen_embedding_stays_as_it_is_while_its_reader_learns(seeded, store, tmp_path):
    module = Regression(network(seeded), 2)
    before = copy.deepcopy(module.state_dict())
    x, u = normal(range(100), (5,)), normal(range(100, 200), (2,))

    def loss(net: nn.Module, batch, rng):
        return ((net(batch[0])[0] - batch[1]) ** 2).mean()

    options = TrainingOptions(epochs=2, batch_size=50, weight_decay=0.1)
    with frozen(module.embedding):
        run_training(
            module, loss, lambda epoch, start: iter([(x, u)] * 2), lambda: iter([(x, u)]),
            options, tmp_path, steps_per_epoch=2, resume=False,
        )  # fmt: skip
    assert all(p.requires_grad for p in module.parameters())
    after = module.state_dict()
    changed = {k for k, v in after.items() if not torch.equal(v, before[k])}
    assert changed == {"head.weight", "head.bias"}


def test_an_observation_that_does_not_fit_is_refused(seeded, store, tmp_path):
    options = TrainingOptions(epochs=1)
    with pytest.raises(ObservationError, match="mask"):
        pretrain(network(seeded), store, Observation([Mask(np.ones(9))]), options, tmp_path)


NSIDE, LMAX = 4, 8
PIXELS = 12 * NSIDE**2


def modes():
    """Real harmonics with the root of C_l = l^-2, on the pixels: (n_modes, pixels)."""
    rows = []
    for l in range(2, LMAX + 1):  # noqa: E741  (its name)
        for m in range(l + 1):
            for unit in (1,) if m == 0 else (2**-0.5, 1j * 2**-0.5):
                alm = np.zeros(healpy.Alm.getsize(LMAX), dtype=complex)
                alm[healpy.Alm.getidx(LMAX, l, m)] = unit
                rows.append(healpy.alm2map(alm, NSIDE) / l)
    return np.array(rows)


def test_the_amplitude_of_c_l_is_found_on_a_cut_sky(seeded, tmp_path):
    """Regression from HEALPix maps with noise against the exact Fisher information."""
    basis, space = modes(), ParameterSpace([Parameter("log_a", priors.Uniform(-1.0, 1.0))])
    signal = basis.T @ basis
    sigma = 0.3 * np.sqrt(np.trace(signal) / PIXELS)
    seen = np.abs(np.cos(healpy.pix2ang(NSIDE, np.arange(PIXELS))[0])) >= 0.3
    spec = FieldSpec("map", ("pixel",), (PIXELS,))
    observe = Observation([Mask(seen, healpy.UNSEEN), Noise(sigma)])

    def simulate(n, seed):
        theta = space.design(n, seed)
        a = np.random.default_rng(seed).standard_normal((n, len(basis)))
        maps = torch.from_numpy(np.exp(theta.numpy() / 2) * (a @ basis)).float()
        return theta, maps

    theta, x = simulate(2000, 1)
    store = SimulationStore.from_arrays(tmp_path / "s", theta, x, space, spec)
    mask = observed_mask(observe, spec)
    net = seeded(lambda: build_embedding("auto", spec, 8, 4, mask=mask), awake=False)
    observed = observe(x, torch.arange(len(x)))
    net.set_scale(observed.mean(0), observed.std(0))
    options = TrainingOptions(epochs=8, batch_size=40, learning_rate=6e-3, patience=None)
    regression, _ = pretrain(net, store, observe, options, tmp_path / "run")

    theta, x = simulate(1000, 2)
    with torch.no_grad():
        mean, _ = regression(observe(x, torch.arange(10**6, 10**6 + 1000)))
    got = space.from_unconstrained(mean.double()).numpy()[:, 0]
    inside = np.abs(theta[:, 0].numpy()) < 0.6  # where the prior's edges do not help
    error = (got - theta[:, 0].numpy())[inside]
    part = np.ix_(seen, seen)
    ratio = np.linalg.solve((signal + sigma**2 * np.eye(PIXELS))[part], signal[part])
    floor = (0.5 * np.trace(ratio @ ratio)) ** -0.5
    rms = np.sqrt((error**2).mean())
    # 600 tests give an rms to 3 %. This small network reached 1.19, and 1.18 without the cut; an
    # untrained one, which answers with the prior's mean, 1.9.
    assert 0.85 * floor < rms < 1.35 * floor
