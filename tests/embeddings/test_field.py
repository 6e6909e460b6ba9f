"""Boundaries per axis, channels, light cones and large fields in the convolutional network."""

import math

import pytest
import torch
import torch.nn.functional as F

from sbitools import FieldSpec
from sbitools.embeddings import EmbeddingOptions, FieldCNN, build_embedding
from sbitools.embeddings.power import LogPower
from sbitools.embeddings.scaled import ScaledField
from sbitools.errors import ConfigError
from sbitools.networks.convolution import PaddedConv
from sbitools.seeds import normal


@pytest.mark.parametrize("shape", [(9,), (7, 12), (1, 8), (5, 6, 9), (12, 3, 1)])
@pytest.mark.parametrize("boundary", ["periodic", "open", "evolving"])
def test_any_shape_with_any_boundary(seeded, shape, boundary):
    words = (*["periodic"] * (len(shape) - 1), boundary)
    net = seeded(lambda: FieldCNN(shape, 6, 4, words))
    out = net(normal(range(2), shape))
    assert out.shape == (2, 6)
    out.sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())


@pytest.mark.parametrize("around", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2), ()])
def test_a_filter_wraps_around_the_periodic_axes_alone(seeded, around):
    words = tuple("periodic" if axis in around else "open" for axis in range(3))
    conv = seeded(lambda: PaddedConv(2, 3, 3, words))
    x = normal([1], (2, 4, 5, 6))
    wrapped = x
    for axis in range(3):  # one axis after the other: wrap it, or pad it with zeros
        pad = [0] * 6
        pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = 1
        wrapped = F.pad(wrapped, pad, mode="circular" if axis in around else "constant")
    want = F.conv3d(wrapped, conv.conv.weight, conv.conv.bias)
    torch.testing.assert_close(conv(x), want, rtol=1e-5, atol=1e-6)


def test_a_light_cone_is_homogeneous_on_the_sky_and_evolves_along_the_line_of_sight(seeded):
    words = ("periodic", "periodic", "evolving")
    net = seeded(lambda: FieldCNN((16, 16, 24), 6, 4, words))
    x = normal([1], (16, 16, 24))
    x[..., 12:] *= 3

    def change(other):
        return float((net(x) - net(other)).detach().abs().max())

    # 16 x 16 x 24 has levels of 16, 8 and 4 cells on the sky: steps of 4 cells.
    assert change(x.roll((4, 8), (1, 2))) < 1e-4
    assert change(x.flip(3)) > 1e-2
    # Eight segments: the first four without, the last four with the factor 3 in amplitude.
    powers = net.given(x[:, None])[:, net.given.n_few :].view(8, -1).mean(1)
    step = float((powers[4:] - powers[:4]).mean())
    assert step == pytest.approx(math.log(9), abs=0.4)  # the lowest shells have a few modes each
    spreads = net._pool(x[:, None])[1].flatten()
    assert len(spreads) == len(powers) == 8
    assert float(spreads[4:].mean() - spreads[:4].mean()) == pytest.approx(math.log(9), abs=0.1)
    # With power and moments of the whole cone, which end is the bright one could not be told.
    power = LogPower((16, 16, 24))
    for one, other in zip(power(x[:, None]), power(x.flip(3)[:, None]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_channels_are_scaled_one_by_one(seeded):
    spec = FieldSpec("maps", ("channel", "x", "y"), (3, 8, 9))
    net = seeded(lambda: build_embedding("auto", spec, 6, 4, "periodic"))
    assert isinstance(net, FieldCNN)
    assert net.maps == 3
    x = normal(range(64), spec.shape)
    net.set_scale(x.mean(0), x.std(0))
    before = net(x)
    x = torch.tensor([1.0, 30.0, 1e4])[:, None, None] * x + 7
    net.set_scale(x.mean(0), x.std(0))
    torch.testing.assert_close(net(x), before, rtol=1e-3, atol=1e-3)
    assert not torch.equal(net(x.flip(1)), before)


@pytest.mark.parametrize("kind", ["cnn", "transformer"])
@pytest.mark.parametrize(("dims", "shape", "words"), [
    (("x", "y", "los"), (8, 8, 12), ("periodic", "periodic", "evolving")),
    (("los", "x"), (12, 8), ("evolving", "periodic")), (("los",), (12,), "evolving"),
    (("channel", "los"), (2, 12), "evolving"),
])  # fmt: skip
def test_cells_of_an_evolving_axis_are_scaled_one_by_one(seeded, kind, dims, shape, words):
    spec = FieldSpec("cone", dims, shape)
    net = seeded(lambda: build_embedding(kind, spec, 6, 4, words))
    x = normal(range(64), spec.shape)
    net.set_scale(x.mean(0), x.std(0))
    before = net(x)
    along = [12 if n == "los" else 1 for n in dims]
    x = torch.linspace(-100, 20, 12).view(along) + torch.linspace(30.0, 1.0, 12).view(along) * x
    if dims[0] == "channel":
        x = torch.tensor([1.0, 1e4])[:, None] * x
    net.set_scale(x.mean(0), x.std(0))
    torch.testing.assert_close(net(x), before, rtol=1e-3, atol=1e-3)


def test_cells_that_never_change_are_not_blown_up():
    cone = ScaledField((8, 8, 3), None, 2)
    x = normal(range(64), (8, 8, 3)) * torch.tensor([1.0, 1e-7, 0.0]) - 37.3
    cone.set_scale(x.mean(0), x.std(0))
    assert float(cone.standardise(x + 1e-3)[..., 1:].abs().max()) < 2  # thousandths are one


def test_power_is_that_of_white_noise_and_correlations_are_told():
    power = LogPower((16, 16, 16), maps=2)
    a = normal(range(64), (16, 16, 16))
    x = torch.stack([2 * a, a + normal(range(64, 128), (16, 16, 16))], dim=1)
    bands, shells = power(x)
    torch.testing.assert_close(bands[:, :8], shells[:, :8])  # the first seven are single ones
    one, two, correlation = shells.mean(0).split(8)
    # Shell k >= 4 has over 200 modes: 64 fields give its mean log power to 0.01, plus the bias of
    # a mean of logs, -1/modes, that is smaller.
    torch.testing.assert_close(one[3:], torch.full((5,), 4.0).log(), rtol=0, atol=0.05)
    torch.testing.assert_close(two[3:], torch.full((5,), 2.0).log(), rtol=0, atol=0.05)
    torch.testing.assert_close(correlation[3:], torch.full((5,), 0.5**0.5), rtol=0, atol=0.03)


def test_thin_fields_keep_their_power():
    assert LogPower((64, 64, 2)).n_bins == 10  # the geometric mean of the axes is 20
    assert bool((LogPower((64, 64, 2)).counts[1:] > 64 * 64 * 2 - 1).all())  # no shell is empty


def test_large_fields_begin_in_patches(seeded):
    assert seeded(lambda: FieldCNN((64, 64, 64), 4, 16)).patch == (1, 1, 1)
    assert seeded(lambda: FieldCNN((1024, 1024), 4, 16)).patch == (2, 2)


@pytest.mark.parametrize(("patch", "cells"), [(2, (5, 5, 6)), ((1, 2, 4), (9, 5, 3))])
def test_patches_are_merged_into_cells(seeded, patch, cells):
    spec = FieldSpec("f", ("x", "y", "z"), (9, 10, 11))
    net = seeded(lambda: build_embedding("cnn", spec, 4, 4, "open", patch=patch))
    sizes = []
    net.stem.register_forward_hook(lambda module, args, out: sizes.append(tuple(out.shape[2:])))
    assert net(normal([1], (9, 10, 11))).shape == (1, 4)
    assert sizes == [cells]


def test_patches_that_stick_out_go_round_periodic_axes(seeded):
    net = seeded(lambda: FieldCNN((5, 7), 4, 4, ("periodic", "open"), patch=(2, 3)))
    x = normal([1], (1, 5, 7))
    around = torch.cat([x, x[:, :, :1]], dim=2)
    expected = net.stem.conv(torch.cat([around, *[around[..., -1:]] * 2], dim=3))
    torch.testing.assert_close(net.stem(x), expected)


@pytest.mark.parametrize("patch", [(2, 2), (2, 2, 0), (2, 2, 12), 0])
def test_patches_that_do_not_fit_are_refused(patch):
    with pytest.raises(ConfigError, match="patch of a CNN"):
        FieldCNN((9, 10, 11), 4, 4, "open", patch=patch)


@pytest.mark.parametrize("boundary", [
    "closed", ("periodic",), ("periodic",) * 3, ("evolving", "evolving"), "evolving",
])  # fmt: skip
def test_boundaries_that_do_not_fit_are_refused(boundary):
    spec = FieldSpec("f", ("x", "y"), (8, 8))
    with pytest.raises(ConfigError, match="boundary"):
        build_embedding("cnn", spec, 4, 4, boundary)


@pytest.mark.parametrize(("dims", "shape", "kind"), [
    (("x",), (48,), "VectorMLP"), (("x", "y"), (8, 8), "FieldCNN"),
    (("channel", "x"), (2, 48), "FieldCNN"), (("pixel",), (48,), "HealpixCNN"),
    (("map", "pixel"), (3, 48), "HealpixCNN"), (("item", "column"), (30, 2), "SetEmbedding"),
    (("channel",), (3,), "VectorMLP"), ((), (), "VectorMLP"),
])  # fmt: skip
def test_auto_goes_by_the_names_of_the_axes(seeded, dims, shape, kind):
    net = seeded(lambda: build_embedding("auto", FieldSpec("f", dims, shape), 4, 2))
    assert type(net).__name__ == kind
    assert net(normal(range(2), shape)).shape == (2, net.n_features)


@pytest.mark.parametrize("option", [
    {"ordering": "nested"}, {"mask": torch.ones(8)}, {"attention": 2}, {"padded": True},
])  # fmt: skip
def test_options_of_another_kind_are_refused(option):
    spec = FieldSpec("f", ("x",), (8,))
    with pytest.raises(ConfigError, match=f"option '{next(iter(option))}'"):
        build_embedding("mlp", spec, 4, 4, **option)


def test_options_build_the_same_weights_from_the_same_seed():
    spec = FieldSpec("f", ("x", "y"), (8, 8))
    options = EmbeddingOptions(features=4, channels=2, boundary=("periodic", "open"))
    one, same, other = (options.build(spec, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(v, same[k]) for k, v in one.items())
    assert any(not torch.equal(v, other[k]) for k, v in one.items())
    assert EmbeddingOptions(**options.model_dump(mode="json")) == options
