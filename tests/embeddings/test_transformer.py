"""The transformer on patches: what shifts change, what positions say, what it learns."""

import math

import pytest
import torch
import torch.nn.functional as F

import sbitools
from sbitools import FieldSpec, Observation, Parameter, ParameterSpace, SimulationStore, priors
from sbitools.embeddings import EmbeddingOptions, FieldTransformer, build_embedding, pretrain
from sbitools.embeddings.patches import patch_sides
from sbitools.embeddings.transformer import _spread
from sbitools.errors import ConfigError, ShapeError
from sbitools.seeds import normal, simulation_seeds
from sbitools.training import TrainingOptions

CONE = ("periodic", "periodic", "evolving")


def change(net, x, other, tokens_alone=False):
    """Largest change of a feature; `tokens_alone` cuts off the power spectrum."""
    if tokens_alone:
        net.head.layers[0].weight.data[:, : net.given.n_features] = 0
    return float((net(x) - net(other)).detach().abs().max())


@pytest.mark.parametrize("shape", [(9,), (7, 12), (1, 8), (5, 6, 9), (12, 3, 1)])
@pytest.mark.parametrize("boundary", ["periodic", "open", "evolving"])
def test_gradients_reach_every_weight_whatever_the_shape_and_boundary(seeded, shape, boundary):
    words = (*["periodic"] * (len(shape) - 1), boundary)
    net = seeded(lambda: FieldTransformer(shape, 6, 4, words))
    out = net(normal(range(3), shape))
    assert out.shape == (3, 6)
    out.square().sum().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None, name
        assert bool(p.grad.isfinite().all() and p.grad.any()), name
    torch.testing.assert_close(net(normal([0], shape)), out[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("shape", "patch", "shift"), [
    ((24,), 3, (9,)), ((8, 12), 2, (2, 6)), ((8, 8, 8), 2, (2, 4, 6)),
    ((4, 6, 8), (2, 3, 4), (2, 3, 4)),
])  # fmt: skip
def test_shifts_by_whole_patches_change_nothing_on_periodic_axes(seeded, shape, patch, shift):
    x, axes = normal(range(2), shape), tuple(range(1, 1 + len(shape)))
    net = seeded(lambda: FieldTransformer(shape, 6, 4, patch=patch))
    torch.testing.assert_close(net(x), net(x.roll(shift, axes)), rtol=1e-4, atol=1e-5)
    assert change(net, x, x.roll(1, 1), tokens_alone=True) > 1e-4  # by a part of a patch
    opened = seeded(lambda: FieldTransformer(shape, 6, 4, "open", patch=patch))
    assert change(opened, x, x.roll(shift, axes), tokens_alone=True) > 1e-3


def test_a_light_cone_is_homogeneous_on_the_sky_and_evolves_along_the_line_of_sight(seeded):
    net = seeded(lambda: FieldTransformer((8, 8, 24), 6, 4, CONE, patch=(2, 2, 4)))
    x = normal([1], (8, 8, 24))
    assert change(net, x, x.roll((2, 4), (1, 2))) < 1e-4
    assert change(net, x, x.roll(4, 3), tokens_alone=True) > 1e-3
    # The power spectrum is that of eight segments, in their order.
    powers, turned = (
        net.given(y[:, None])[:, net.given.n_few :].view(8, -1) for y in (x, x.flip(3))
    )
    torch.testing.assert_close(turned.flip(0), powers, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(turned, powers, atol=0.1)


@pytest.mark.parametrize("boundary", ["periodic", "open"])
def test_offsets_between_patches_count(seeded, boundary):
    net = seeded(lambda: FieldTransformer((24,), 6, 8, boundary, patch=2))
    x = normal([1], (24,))
    swapped = x.clone()
    swapped[:, 0:2], swapped[:, 6:8] = x[:, 6:8], x[:, 0:2]
    assert change(net, x, swapped, tokens_alone=True) > 1e-4
    net.turn.angles[0], net.turn.angles[1] = 1, 0  # no turns
    if net.place.linear is not None:  # and no places: nothing is left that tells patches apart
        net.place.linear.weight.data.zero_()
    assert change(net, x, swapped, tokens_alone=True) < 1e-5


def test_angles_go_round_a_whole_number_of_times_on_a_periodic_axis(seeded):
    cos, sin = seeded(lambda: FieldTransformer((16, 12), 4, 16, ("periodic", "open"))).turn.angles
    assert cos.shape == (8 * 6, 16)
    z = torch.complex(cos, sin).view(8, 6, 16)
    first, second = z[:, 0], z[0]
    step = first[1] / first[0]
    torch.testing.assert_close(first[7] * step, first[0], rtol=1e-5, atol=1e-5)
    # The ends of the other axis are half a turn apart, at least in the slowest pair.
    torch.testing.assert_close(second[5, 4].angle(), torch.tensor(5 * math.pi / 6))
    assert int((z - 1).abs().amax((0, 1)).gt(0.1).sum()) == 4 + 5  # k to 8 / 2 and to 6 - 1
    assert _spread(4, 8) == [1, 2, 3, 4]
    assert _spread(256, 5) == [1, 4, 16, 64, 256]
    assert _spread(6, 5) == [1, 2, 3, 4, 6]
    assert _spread(0, 5) == _spread(5, 0) == []


@pytest.mark.parametrize(("shape", "patch", "boundary", "sides"), [
    ((32, 32, 32), None, "periodic", (4, 4, 4)), ((256, 256), None, "periodic", (16, 16)),
    ((64, 64), None, "periodic", (4, 4)), ((64, 64), None, "open", (3, 3)),
    ((6,), None, "open", (2,)), ((16, 16, 1), None, "open", (2, 2, 1)), ((), None, "open", ()),
    ((8, 8, 128), None, CONE, (4, 4, 4)), ((9, 3), 4, "open", (4, 3)),
    ((9, 3), (5, 1), "open", (5, 1)), ((37, 41), None, "periodic", (2, 2)),
])  # fmt: skip
def test_patches_are_small_enough_and_divide_periodic_axes_if_they_can(
    shape, patch, boundary, sides
):
    words = boundary if isinstance(boundary, tuple) else (boundary,) * len(shape)
    assert tuple(patch_sides(shape, words, patch)) == sides


@pytest.mark.parametrize(("word", "mode"), [("periodic", "circular"), ("open", "replicate")])
def test_patches_are_cut_and_padded_in_order(seeded, word, mode):
    net = seeded(lambda: FieldTransformer((5, 8), 4, 4, (word, "open"), 2, patch=(3, 4))).patches
    x = normal(range(2), (2, 5, 8))
    padded = F.pad(x, (0, 0, 0, 1), mode=mode)
    weight = net.linear.weight.view(32, 2, 3, 4)
    want = F.conv2d(padded, weight, net.linear.bias, stride=(3, 4)).flatten(2).mT
    torch.testing.assert_close(net(x), want, rtol=1e-5, atol=1e-5)


def test_channels_are_scaled_one_by_one(seeded):
    spec = FieldSpec("maps", ("channel", "x", "y"), (3, 8, 9))
    net = seeded(lambda: build_embedding("transformer", spec, 6, 4, "periodic"))
    x = normal(range(64), spec.shape)
    net.set_scale(x.mean(0), x.std(0))
    before = net(x)
    x = torch.tensor([1.0, 30.0, 1e4])[:, None, None] * x + 7
    net.set_scale(x.mean(0), x.std(0))
    torch.testing.assert_close(net(x), before, rtol=1e-3, atol=1e-3)
    assert not torch.equal(net(x.flip(1)), before)


def test_many_fields_are_embedded_a_few_at_a_time(seeded):
    net = seeded(lambda: FieldTransformer((8, 8), 4, 4))
    x, sizes = normal(range(7), (8, 8)), []
    want = net(x)
    net.patches.register_forward_hook(lambda module, args, out: sizes.append(len(out)))
    net.rows = 3
    with torch.no_grad():
        torch.testing.assert_close(net(x), want, rtol=1e-5, atol=1e-5)
    assert sizes == [3, 3, 1]


def test_options_build_the_same_weights_from_the_same_seed():
    spec = FieldSpec("f", ("x", "y"), (8, 9))
    options = EmbeddingOptions(
        embedding="transformer", features=4, channels=4, patch=(2, 3), depth=2, heads=2,
        boundary=("periodic", "open"),
    )  # fmt: skip
    one, same, other = (options.build(spec, seed) for seed in (1, 1, 2))
    assert one.patches.grid == (4, 3)
    assert len(one.blocks) == 2
    pairs = zip(one.parameters(), same.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(one.scores.weight, other.scores.weight)
    assert EmbeddingOptions(**options.model_dump(mode="json")) == options


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_it_is_never_chosen_by_itself(seeded, axes):
    spec = FieldSpec("f", ("x", "y", "z")[:axes], (8,) * axes)
    assert not isinstance(seeded(lambda: build_embedding("auto", spec, 4, 4)), FieldTransformer)


@pytest.mark.parametrize(("kind", "option"), [
    ("mlp", {"patch": 2}), ("auto", {"depth": 4}), ("cnn", {"depth": 4}), ("cnn", {"heads": 4}),
])  # fmt: skip
def test_its_options_are_refused_for_other_kinds(kind, option):
    owners = "'cnn' or 'transformer'" if option == {"patch": 2} else "'transformer'"
    with pytest.raises(ConfigError, match=f"option '{next(iter(option))}'.*embedding = {owners}"):
        build_embedding(kind, FieldSpec("f", ("x", "y"), (8, 8)), 4, 4, **option)


@pytest.mark.parametrize(("shape", "options", "match"), [
    ((2, 2, 2, 2), {}, "choose another embedding"), ((), {}, "choose another embedding"),
    ((8, 8), {"boundary": "closed"}, "boundary"), ((8, 8), {"patch": 0}, "patch"),
    ((8, 8), {"patch": (2,)}, "one per axis"), ((8, 8), {"patch": (2, 9)}, "longer"),
    ((140, 140, 2350), {}, "coarsen"), ((64, 64, 64), {"patch": 2}, "16,384 tokens"),
    ((8, 8), {"heads": 3}, "divisor of 16"), ((8, 8, 8), {"heads": 8}, "leaves 3 or more"),
    ((8, 8), {"attention": 1}, "option 'attention'"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(shape, options, match):
    spec = FieldSpec("f", tuple("abcd"[: len(shape)]), shape)
    with pytest.raises(ConfigError, match=match):
        EmbeddingOptions(embedding="transformer", channels=4, **options).build(spec, 0)


def test_fields_of_another_shape_are_refused(seeded):
    net = seeded(lambda: FieldTransformer((8, 6), 4, 4, maps=2))
    for shape in ((3, 8, 6), (3, 2, 6, 8), (3, 1, 8, 6)):
        with pytest.raises(ShapeError, match=r"\(batch, 2, 8, 6\)"):
            net(torch.zeros(shape))


SIDE = 16
SPEC = FieldSpec("f", ("x", "y"), (SIDE, SIDE))
SPACE = ParameterSpace(
    [
        Parameter("amplitude", priors.LogUniform(0.5, 2.0)),
        Parameter("length", priors.Uniform(0.5, 2.0)),
        Parameter("skew", priors.Uniform(-0.5, 0.5)),
    ]
)


def fields(n, seed):
    """a (g + s (g^2 - 1)), of which the sign of s leaves the power spectrum as it is.

    g is Gaussian with unit variance and power exp(-(k l)^2 / 2).
    """
    theta = SPACE.design(n, seed)
    a, length, skew = (column.float()[:, None, None] for column in theta.T)
    k = 2 * math.pi * torch.fft.fftfreq(SIDE)
    power = torch.exp(-0.5 * (k[:, None] ** 2 + k**2) * length**2)
    power = power / power.mean((1, 2), keepdim=True)
    noise = normal(torch.from_numpy(simulation_seeds(seed, range(n))), (SIDE, SIDE))
    g = torch.fft.ifft2(torch.fft.fft2(noise) * power.sqrt()).real
    return theta, a * (g + skew * (g**2 - 1))


def store_of(folder, n):
    theta, x = fields(n, 1)
    return SimulationStore.from_arrays(folder, theta, x, SPACE, SPEC)


def test_amplitude_length_and_the_sign_of_a_skewness_are_learned(seeded, tmp_path):
    net = seeded(lambda: FieldTransformer((SIDE, SIDE), 8, 4, patch=4, depth=1), awake=False)
    store = store_of(tmp_path / "s", 1000)
    x = store.read(range(1000))
    net.set_scale(x.mean(0), x.std(0))
    options = TrainingOptions(epochs=10, batch_size=50, learning_rate=5e-3, patience=None)
    regression, _ = pretrain(net, store, Observation(), options, tmp_path / "run", target="mean")
    theta, x = fields(500, 2)
    with torch.no_grad():
        error = regression(x)[0] - SPACE.to_unconstrained(theta).float()
    # The prior's mean scores 1 in each; this network reached 0.12, 0.10 and 0.32. The power
    # spectrum says nothing about the last, so that it comes from the tokens.
    assert bool(((error**2).mean(0) < torch.tensor([0.25, 0.2, 0.5])).all())


def test_it_trains_in_every_mode_and_is_saved_bit_for_bit(tmp_path):
    store = store_of(tmp_path / "s", 120)
    options = {
        "flow": "zuko_maf", "flow_transforms": 1, "flow_hidden": 8, "features": 4, "channels": 2,
        "epochs": 1, "pretrain_epochs": 1, "ensemble": 2, "symmetry": "cube", "batch_size": 60,
        "precision": "bfloat16", "warmup_steps": 0, "depth": 1, "heads": 2, "patch": (4, 4),
    }  # fmt: skip
    posterior = sbitools.train(store, run_dir=tmp_path / "r", embedding="transformer", **options)
    start = posterior.options.build(SPEC, 0).state_dict()
    x = fields(5, 3)[1]
    for member in posterior.estimator.members:
        state = member.embedding.state_dict()
        moved = {k for k, v in state.items() if not torch.equal(v, start[k])}
        assert {"patches.linear.weight", "blocks.0.inward.weight", "mean", "std"} <= moved
    assert bool(posterior.features(x).isfinite().all())
    posterior.save(tmp_path / "p")
    again = sbitools.Posterior.load(tmp_path / "p")
    assert torch.equal(again.features(x), posterior.features(x))
    assert torch.equal(again.sample(x, 20, seed=1), posterior.sample(x, 20, seed=1))
    assert again.options.patch == (4, 4)
