"""Sets of fields: every member by the same network, in any order, some of them absent."""

import pytest
import torch
from torch import nn

import sbitools
from sbitools import (
    FieldSpec,
    Observation,
    Parameter,
    ParameterSpace,
    Posterior,
    SimulationStore,
    priors,
    seeds,
)
from sbitools.embeddings import (
    EachEmbedding,
    EmbeddingOptions,
    FieldCNN,
    HealpixCNN,
    OwnEmbedding,
    SetEmbedding,
    VectorMLP,
    build_embedding,
)
from sbitools.embeddings.members import in_own_order, own_order, reordered
from sbitools.embeddings.moments import measure
from sbitools.errors import ConfigError, ObservationError
from sbitools.observation import Mask
from sbitools.seeds import generator, normal

IMAGE = FieldSpec("image", ("x", "y"), (8, 8))
SETS = IMAGE.set_of(6)


def images(n, members=6):
    return normal(range(n), (members, 8, 8))


def own_net():
    with seeds.initial_weights(3):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))


@pytest.fixture
def net(seeded):
    return seeded(lambda: build_embedding("auto", SETS, 4, 4, attention=2))


def test_the_kind_of_one_member_is_chosen_as_if_it_came_alone():
    def kinds(kind, spec):
        with seeds.initial_weights(0):
            found = build_embedding(kind, spec, 4, 4)
        return type(found), type(getattr(found, "one", None))

    vector = FieldSpec("v", ("i",), (3,))
    assert kinds("auto", SETS) == kinds("set", SETS) == (EachEmbedding, FieldCNN)
    assert kinds("auto", FieldSpec("m", ("pixel",), (48,)).set_of(3))[1] is HealpixCNN
    assert kinds("auto", vector.set_of(20))[0] is SetEmbedding
    assert kinds("auto", FieldSpec("v", (), ()).set_of(20))[0] is SetEmbedding
    assert kinds("mlp", vector.set_of(20)) == (EachEmbedding, VectorMLP)
    # What is no set by its axes keeps its network: files of weights depend on it.
    assert kinds("auto", FieldSpec("f", ("item", "x", "y"), (6, 8, 8)))[0] is FieldCNN


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int32])
def test_an_order_of_the_members_own(dtype):
    x = (100 * images(5)).to(dtype)
    order = torch.stack([torch.randperm(6, generator=generator(s)) for s in range(5)])
    assert torch.equal(in_own_order(x), in_own_order(reordered(x, order)))
    assert torch.equal(in_own_order(x).sort(1).values, x.sort(1).values)
    assert torch.equal(in_own_order(x[..., 0, 0]), in_own_order(reordered(x, order)[..., 0, 0]))
    there = torch.arange(6) < torch.tensor([[6], [0], [1], [3], [5]])
    last = own_order(x, there)
    assert torch.equal(reordered(there, last), there)


def test_the_order_of_the_members_changes_no_bit(net):
    x = images(5)
    order = torch.randperm(6, generator=generator(1))
    assert torch.equal(net(x), net(x[:, order]))
    other = x.clone()
    other[:, 2, 1, 1] += 1
    assert float((net(x) - net(other)).detach().abs().max()) > 1e-4
    net(x).sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in net.parameters())


@pytest.mark.parametrize("attention", [0, 2])
def test_absent_members_do_not_count_but_numbers_do(seeded, attention):
    net = seeded(
        lambda: build_embedding("auto", SETS, 4, 4, padded=True, attention=attention)
    )  # fmt: skip
    x = images(3)
    x[:, 4:] = 0
    torch.testing.assert_close(net(x), net(x[:, :4]), rtol=1e-5, atol=1e-6)
    assert torch.equal(net(x), net(x[:, [5, 1, 4, 0, 2, 3]]))
    twice = torch.cat([x[:, :2], x[:, :2], x[:, 4:]], dim=1)
    once = torch.cat([x[:, :2], torch.zeros(3, 4, 8, 8)], dim=1)
    assert float((net(twice) - net(once)).detach().abs().max()) > 1e-3  # 4 members, not 2
    x[1] = 0  # nobody
    net(x).sum().backward()
    assert bool(net(x).isfinite().all())
    assert all(bool(p.grad.isfinite().all()) for p in net.parameters() if p.grad is not None)
    moved = net.fill(x)
    assert torch.equal(moved, x)


def test_the_scale_is_that_of_all_members_that_are_there(seeded):
    x = 3e20 * images(60) + 5e20
    x[:, 4:] = 0
    net = seeded(lambda: build_embedding("auto", SETS, 4, 4, padded=True))
    net.set_moments(measure([net.values(x)], SETS))
    assert float(net.one.mean) == pytest.approx(5e20, rel=0.05)
    assert float(net.one.std) == pytest.approx(3e20, rel=0.05)
    assert net.unscaled(torch.zeros(2, 6, 8, 8)).unique().tolist() == [float(net.one.mean)]
    mask = torch.ones(6, 8, 8, dtype=torch.bool)
    mask[:, :4] = False
    net.set_moments(measure([net.values(x)], SETS), mask)
    assert net.one.seen.tolist() == mask[0].tolist()


def test_a_module_of_ones_own_sees_one_member():
    net = EmbeddingOptions(embedding="own", features=7, attention=1)
    from sbitools.embeddings.own import given

    with given(own_net()):
        built = net.build(SETS, 0)
        assert isinstance(built.one, OwnEmbedding)
        assert built(images(2)).shape == (2, 7)
        with pytest.raises(ConfigError, match="option 'channels'"):
            EmbeddingOptions(embedding="own", channels=7).build(SETS, 0)
        with pytest.raises(ConfigError, match="option 'features'"):
            EmbeddingOptions(embedding="own", features=7).build(IMAGE, 0)


def test_options_of_sets_need_sets():
    with pytest.raises(ConfigError, match="option 'padded'"):
        build_embedding("auto", IMAGE, 4, 4, padded=True)
    with pytest.raises(ConfigError, match="option 'patch'"):
        build_embedding("auto", FieldSpec("v", ("i",), (3,)).set_of(4), 4, 4, patch=2)


SCATTER = ParameterSpace([Parameter("log_s", priors.Uniform(-1.0, 1.0))])


def scattered(path, n, seed, spec=SETS, shape=(6, 8, 8)):
    numbers = torch.from_numpy(seeds.simulation_seeds(seed, range(n)))
    theta = SCATTER.design(n, seed)
    x = normal(numbers, shape) * theta.exp().float().view(-1, *[1] * len(shape))
    return SimulationStore.from_arrays(path, theta, x, SCATTER, spec, seeds=numbers), theta, x


@pytest.mark.slow
def test_the_scatter_of_images_is_learned_of_sets_of_them(tmp_path):
    """6 x 64 numbers of one scatter: log s is known to 1 / sqrt(2 n)."""
    store, _, _ = scattered(tmp_path / "s", 1500, 1)
    posterior = sbitools.train(
        store, run_dir=tmp_path / "r", epochs=8, batch_size=50, channels=4, features=8,
        flow="zuko_maf", flow_transforms=1, flow_hidden=16, learning_rate=3e-3,
    )  # fmt: skip
    _, theta, x = scattered(tmp_path / "t", 100, 2)
    order = torch.randperm(6, generator=generator(1))
    again = Posterior.load(posterior.save(tmp_path / "p"))
    draws = again.sample(x, 300, seed=1)[..., 0]
    assert torch.equal(draws, again.sample(x[:, order], 300, seed=1)[..., 0])
    inside = theta[:, 0].abs() < 0.8  # the ends of the prior make it narrower
    floor = (2 * x[0].numel()) ** -0.5
    error = (draws.mean(1) - theta[:, 0])[inside].square().mean().sqrt() / floor
    width = draws.std(1)[inside].mean() / floor
    # 80 errors give a standard deviation to 8 %; a learned width is some per cent too large.
    assert float(error) < 1.3
    assert 0.9 < float(width) < 1.2
    with pytest.raises(ObservationError, match=r"shape \(6, 8, 8\)"):
        again.sample(x[:, :5], 10)
    with pytest.raises(ObservationError, match=r"shape \(6, 8, 8\)"):
        again.sample(x[:, :0], 10)
    x[0, 0, 0, 0] = torch.nan
    with pytest.raises(ObservationError, match="finite values"):
        again.sample(x, 10)


def test_a_posterior_of_sets_with_a_mask_a_module_and_absent_members(tmp_path):
    _, theta, x = scattered(tmp_path / "all", 200, 1)
    x[:100, 3:] = 0
    store = SimulationStore.from_arrays(tmp_path / "s", theta, x, SCATTER, SETS)
    mask = torch.ones(6, 8, 8, dtype=torch.bool)
    mask[:, :2] = False
    common = {"epochs": 1, "flow": "zuko_maf", "flow_transforms": 1, "flow_hidden": 8}
    posterior = sbitools.train(
        store, run_dir=tmp_path / "r", embedding=own_net(), features=4, padded=True,
        observe=Observation([Mask(mask)]), **common,
    )  # fmt: skip
    again = Posterior.load(posterior.save(tmp_path / "p"), embedding=own_net())
    x = posterior.observe(x[99:101], torch.arange(2))
    assert torch.equal(posterior.sample(x, 5, seed=1), again.sample(x, 5, seed=1))
    with pytest.raises(ConfigError, match=r"posterior.together\(6\)"):
        sbitools.train(store, "nle", run_dir=tmp_path / "n")


@pytest.mark.slow
def test_the_mean_of_twenty_numbers_is_known_as_well_as_it_can_be(tmp_path):
    """x_i ~ N(mean, 1): the posterior is N(mean of x, 1 / 20), far from the ends of the prior."""
    n, space = 2000, ParameterSpace([Parameter("mean", priors.Uniform(-5.0, 5.0))])
    theta, numbers = space.design(n, 1), torch.from_numpy(seeds.simulation_seeds(1, range(n)))
    x = theta.float()[:, None] + normal(numbers, (20, 1))
    spec = FieldSpec("x", ("i",), (1,)).set_of(20)
    store = SimulationStore.from_arrays(tmp_path / "s", theta, x, space, spec, seeds=numbers)
    posterior = sbitools.train(
        store, run_dir=tmp_path / "r", epochs=10, batch_size=50, flow="zuko_maf",
        flow_transforms=1, flow_hidden=16, channels=4, features=8, learning_rate=3e-3,
    )  # fmt: skip
    truth = torch.linspace(-3, 3, 60, dtype=torch.float64)
    x = (truth[:, None, None] + normal(range(100, 160), (20, 1))).float()
    draws = posterior.sample(x, 2000, seed=1)[..., 0]
    width = draws.std(1) * 20**0.5
    off = (draws.mean(1) - x[..., 0].double().mean(1)) * 20**0.5
    # Draws give a width to 2 %, the mean of 60 of them to 0.2 %.
    assert abs(float(width.mean()) - 1) < 0.05, width.mean()
    assert float(off.square().mean().sqrt()) < 0.3
