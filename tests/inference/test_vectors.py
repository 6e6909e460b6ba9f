"""Short data vectors: densities are densities, and the mixture finds what is best."""

import numpy as np
import pytest
import torch
from scipy import stats

import sbitools
from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors, seeds
from sbitools.densities.lattice import Lattice
from sbitools.densities.linear import LinearGaussian
from sbitools.densities.mixture import select_members
from sbitools.densities.stack import Stack
from sbitools.densities.vector import VectorDensity, parameter_features
from sbitools.inference.vectors import VectorEstimator
from sbitools.inference.vectors.scale import Standardise


def stack(p=2, f=3, **options):
    """A stack with weights large enough that nothing is normal any more."""
    net = Stack(p, f, members=3, hidden=8, components=4, seed=1, **options).eval()
    rng = seeds.generator(2)
    with torch.no_grad():
        for weight in (net.last, net.heads.last):
            weight.add_(0.4 * torch.randn(weight.shape, generator=rng))
    return net


@torch.no_grad()
def test_density_of_a_stack_integrates_to_one():
    net, c = stack(), torch.tensor([[0.3, -1.0, 2.0]])
    # Gauss-Hermite-free check: importance sampling by a wide Student t, 200,000 draws.
    law = stats.multivariate_t(np.zeros(2), 9 * np.eye(2), df=3, seed=4)
    y = law.rvs(200_000)
    weight = np.exp(net.log_prob(torch.tensor(y, dtype=torch.float32)[None], c)[0].numpy()
                    - law.logpdf(y))  # fmt: skip
    # Four standard errors: false alarm below 1e-4; a wrong determinant is off by tens of per cent.
    assert abs(weight.mean() - 1) < 4 * weight.std() / len(y) ** 0.5
    assert weight.std() / len(y) ** 0.5 < 0.02


@torch.no_grad()
def test_draws_of_a_stack_follow_its_density_and_return_to_normal_latents():
    net, c = stack(), seeds.normal(range(3), (3,))
    row = torch.arange(3).repeat_interleave(4000)
    z = seeds.normal(range(12_000), (net.n_latents,))
    y = net.place(z, c, row)
    back = net.latent(y.view(3, 4000, 2), c, seeds.generator(5)).flatten(0, 1).numpy()
    for column in back.T:  # Kolmogorov-Smirnov, 1e-3 in all, fixed seed
        assert stats.kstest(column, "norm").pvalue > 5e-4
    shifted = net.latent(y.view(3, 4000, 2) + 0.3, c, seeds.generator(5))[..., 0].flatten()
    assert stats.kstest(shifted.numpy(), "norm").pvalue < 1e-6


@torch.no_grad()
def test_place_does_not_depend_on_how_rows_are_grouped():
    net, c = stack(), seeds.normal(range(2), (3,))
    z, row = seeds.normal(range(6), (net.n_latents,)), torch.tensor([0, 1, 0, 1, 0, 1])
    together = net.place(z, c, row)
    alone = torch.cat([net.place(z[i : i + 1], c[row[i : i + 1]], row[:1]) for i in range(6)])
    torch.testing.assert_close(together, alone)


def test_gradients_reach_every_weight():
    net = stack()
    net.train()
    net.loss(
        seeds.normal([1], (16, 2))[0], seeds.normal([2], (16, 3))[0], seeds.generator(1)
    ).mean().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in net.parameters())


def test_linear_gaussian_recovers_a_sparse_and_a_dense_problem():
    for sparse in (True, False):
        rng = np.random.default_rng(7)
        w = np.eye(5) if sparse else rng.normal(size=(5, 5))
        c = rng.normal(size=(2000, 5))
        y = c @ w + 0.5 * rng.normal(size=(2000, 5))
        net = LinearGaussian(5, 5, 5)
        net.fit(torch.tensor(y), torch.tensor(c))
        # Least squares errs by 0.5 / sqrt(2000) = 0.011 per coefficient; five times that.
        np.testing.assert_allclose(net.weight.numpy(), w, atol=0.056)
        if sparse:
            assert int((net.weight != 0).sum()) <= 7  # 20 zeros, most of them exactly
        cov = net.factor.double() @ net.factor.double().T
        np.testing.assert_allclose(cov.numpy(), 0.25 * np.eye(5), atol=0.04)


def test_select_members_needs_evidence():
    rng = np.random.default_rng(1)
    y = rng.normal(size=200)
    same = torch.tensor(stats.norm.logpdf(y))
    worse = same - 0.5
    assert select_members(torch.stack([worse, same], 1)).tolist() == [0, 1]
    # Two that are equally good: the second adds nothing.
    assert sorted(select_members(torch.stack([same, same + 1e-6], 1)).tolist()) == [0, 1]


# Two modes: x = theta_0^2 + theta_1, and theta_1; sign of theta_0 is lost.
SPACE = ParameterSpace(
    [Parameter("a", priors.Uniform(-2, 2)), Parameter("b", priors.Normal(0, 1))]
)
SPEC = FieldSpec("x", ("i",), (2,))


def bimodal_store(path, n, seed):
    theta = SPACE.design(n, seed)
    sims = torch.from_numpy(seeds.simulation_seeds(seed, range(n)))
    mean = torch.stack([theta[:, 0] ** 2 + theta[:, 1], theta[:, 1]], 1)
    x = (mean + 0.2 * seeds.normal(sims, (2,))).float()
    return SimulationStore.from_arrays(path, theta, x, SPACE, SPEC, seeds=sims)


@pytest.fixture(scope="module")
def bimodal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bimodal")
    store = bimodal_store(folder / "train", 600, 1)
    return sbitools.train(
        store, run_dir=folder / "run", epochs=4, members=2, flow_hidden=32
    ), folder


def test_default_npe_of_a_vector_is_a_mixture_that_finds_both_modes(bimodal):
    posterior, folder = bimodal
    assert isinstance(posterior.estimator, VectorEstimator)
    assert abs(sum(posterior.info["weights"].values()) - 1) < 1e-5
    draws, log_q = posterior.sample_and_log_prob(torch.tensor([[1.0, 0.0]]), 2000, seed=1)
    torch.testing.assert_close(log_q, posterior.log_prob(draws, torch.tensor([[1.0, 0.0]])),
                               rtol=1e-4, atol=1e-3)  # fmt: skip
    positive = float((draws[..., 0] > 0).double().mean())
    # Both modes hold half of the truth; 600 simulations and a short training leave it uneven.
    assert 0.2 < positive < 0.8
    assert float((draws[0, :, 0].abs() - 1).abs().median()) < 0.2
    test = bimodal_store(folder / "test", 500, 2)
    score = posterior.log_prob(test.theta, test.read(test.done)).mean()
    # The prior scores -ln 4 - 1.42 = -2.8; a single Gaussian for both modes about -1.7.
    assert float(score) > -1.2


def test_saved_mixture_gives_the_same_draws(bimodal):
    posterior, folder = bimodal
    posterior.save(folder / "checkpoint")
    again = sbitools.Posterior.load(folder / "checkpoint")
    x = torch.tensor([[1.0, 0.0], [0.5, -1.0]])
    torch.testing.assert_close(again.sample(x, 50, seed=2), posterior.sample(x, 50, seed=2),
                               rtol=0, atol=0)  # fmt: skip


def test_interrupted_training_resumes_to_the_same_weights(tmp_path):
    store = bimodal_store(tmp_path / "train", 200, 3)
    options = {"epochs": 2, "members": 1, "flow_hidden": 8, "components": 2}

    class KilledError(Exception):
        pass

    def kill(row):
        if row["part"] == "emulator-mixtures":
            raise KilledError

    whole = sbitools.train(store, run_dir=tmp_path / "whole", **options)
    with pytest.raises(KilledError):
        sbitools.train(store, run_dir=tmp_path / "cut", on_epoch=kill, **options)
    resumed = sbitools.train(store, run_dir=tmp_path / "cut", resume=True, **options)
    pairs = zip(whole.estimator.state_dict().items(), resumed.estimator.state_dict().values(),
                strict=True)  # fmt: skip
    for (name, a), b in pairs:
        assert torch.equal(a, b), name


def test_nle_and_emcee_give_the_closed_form_of_a_linear_problem(tmp_path):
    """Mean and covariance within three Monte-Carlo standard errors; the seed is fixed."""
    rng = np.random.default_rng(3)
    matrix, noise, n = rng.normal(size=(4, 2)), 0.5, 20_000
    space = ParameterSpace([Parameter(name, priors.Normal(0, 1)) for name in "ab"])
    spec = FieldSpec("x", ("i",), (4,))
    theta = space.design(n + 1, 1)
    sims = torch.from_numpy(seeds.simulation_seeds(1, range(n + 1)))
    x = (theta @ torch.from_numpy(matrix).T + noise * seeds.normal(sims, (4,))).float()
    store = SimulationStore.from_arrays(tmp_path / "s", theta[:n], x[:n], space, spec,
                                        seeds=sims[:n])  # fmt: skip
    posterior = sbitools.train(store, "nle", run_dir=tmp_path / "r", epochs=1, members=1,
                               flow_hidden=8, components=2)  # fmt: skip
    assert posterior.info["weights"]["linear"] > 0.99
    draws = posterior.sample(x[n:], 1000, seed=2)[0].numpy()
    precision = np.eye(2) + matrix.T @ matrix / noise**2
    covariance = np.linalg.inv(precision)
    mean = covariance @ matrix.T @ x[n].double().numpy() / noise**2
    # 20,000 simulations fix the likelihood to 0.02 of the posterior's width: half an error.
    variance = np.diag(covariance)
    assert (np.abs(draws.mean(0) - mean) < 3 * np.sqrt(variance / 1000)).all()
    error = np.sqrt((np.outer(variance, variance) + covariance**2) / 1000)
    assert (np.abs(np.cov(draws.T) - covariance) < 3 * error).all()


def test_whole_numbers_are_spread_for_a_density_and_snapped_back():
    rng = np.random.default_rng(1)
    columns = [rng.poisson(7, 500), rng.normal(size=500), 1e6 + rng.normal(size=500)]
    raw = torch.tensor(np.stack(columns, 1), dtype=torch.float32)
    scale = Standardise(3)
    scale.set_scale(raw.mean(0), raw.std(0))
    rounding = torch.finfo(raw.dtype).eps * scale.mean.abs()
    lattice = Lattice(scale.standardise(raw), scale.std, rounding)
    assert lattice.whole.tolist() == [True, False, False]
    x = scale.standardise(raw)
    spread = lattice.spread(x, seeds.generator(1))
    assert bool((spread[:, 0] != x[:, 0]).all())
    assert bool((spread[:, 1:] == x[:, 1:]).all())
    torch.testing.assert_close(lattice.snap(spread), x, rtol=1e-4, atol=1e-4)


def _line(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten numbers that are linear in three parameters, each from 0 to 1, with unit noise."""
    rng, i = np.random.default_rng(seed), np.arange(10.0)
    theta = rng.uniform(0, 1, (n, 3))
    mean = theta @ np.stack([3 * np.sin(i), i**2, -2 * i])
    return theta, mean + rng.standard_normal(mean.shape)


def test_one_closed_form_is_linear_in_parameters_with_uniform_priors():
    (theta, x), (told, seen) = _line(200, 1), _line(1000, 2)

    def features(values):
        u = torch.special.ndtri(torch.from_numpy(values).clamp(1e-9, 1 - 1e-9))
        return parameter_features(u)

    density = VectorDensity(6, 10, n_used=3, hidden=8, members=1, components=1, seed=0)
    scores = []
    for closed in density.linear:
        closed.fit(torch.from_numpy(x), features(theta))
        each = closed.log_prob(torch.from_numpy(seen)[:, None].float(), features(told).float())
        scores.append(float(each.mean()))
    exact = -0.5 * 10 * (1 + np.log(2 * np.pi))
    assert scores[1] > exact - 0.3  # 95 coefficients of 200 simulations: 0.24 by chance
    assert scores[0] < scores[1] - 1


@pytest.mark.slow
def test_two_hundred_simulations_are_enough_for_a_linear_problem(tmp_path):
    """5.05 nats is exact; the density of a line in u, which has no ends, left 3.55."""
    theta, x = _line(200, 11)
    space = ParameterSpace([Parameter(name, priors.Uniform(0.0, 1.0)) for name in "abc"])
    store = SimulationStore.from_arrays(
        tmp_path / "store", theta, x.astype(np.float32), space, FieldSpec("x", ("i",), (10,)),
        design="random",
    )  # fmt: skip
    posterior = sbitools.train(store, run_dir=tmp_path / "run")
    told, seen = _line(1000, 12)
    log_prob = posterior.log_prob(torch.from_numpy(told), seen.astype(np.float32))
    assert float(log_prob.mean()) > 4.6
