"""Summary networks: shapes, invariances, scales."""

import pytest
import torch

from sbitools import FieldSpec
from sbitools.embeddings import FieldCNN, VectorMLP, build_embedding
from sbitools.errors import ConfigError
from sbitools.seeds import initial_weights, normal


def build(shape, kind="auto", boundary="periodic"):
    dims = tuple("abcd"[: len(shape)])
    with initial_weights(0):
        return build_embedding(kind, FieldSpec("f", dims, shape), 6, 4, boundary)


@pytest.mark.parametrize("shape", [(16,), (12, 16), (8, 8, 8), (4, 6, 5)])
@pytest.mark.parametrize("boundary", ["periodic", "open"])
def test_fields_of_one_to_three_axes_become_features(shape, boundary):
    net = build(shape, "cnn", boundary)
    x = normal(range(3), shape)
    out = net(x)
    assert out.shape == (3, 6)
    out.sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    # Rows do not see each other; convolutions differ in the last digits with the batch's size.
    torch.testing.assert_close(net(x[:1]), out[:1], rtol=1e-5, atol=1e-5)


def test_a_periodic_network_is_invariant_under_its_coarsest_translation():
    net = build((16, 16, 16))
    for p in net.parameters():  # the residual branches start at zero: switch them on
        if not p.any():
            p.data.copy_(0.1 * normal([p.numel()], tuple(p.shape))[0])
    x = normal([1], (16, 16, 16))
    shifted = x.roll((4, 8, 12), (1, 2, 3))  # 16^3 has levels of 16, 8 and 4: steps of 4 cells
    torch.testing.assert_close(net(x), net(shifted), rtol=1e-4, atol=1e-5)
    opened = build((16, 16, 16), boundary="open")
    assert float((opened(x) - opened(shifted)).detach().abs().max()) > 1e-4


@pytest.mark.parametrize("kind", ["cnn", "mlp"])
def test_the_scale_of_the_data_is_taken_out(kind):
    net = build((8, 8, 8), kind)
    x = normal(range(64), (8, 8, 8))
    net.set_scale(x.mean(0), x.std(0))
    before = net(x)
    x = 1e5 * x + 3e6
    net.set_scale(x.mean(0), x.std(0))
    torch.testing.assert_close(net(x), before, rtol=1e-3, atol=1e-3)


def test_the_field_says_what_happens_at_its_ends():
    def network(axes, shape, **options):
        spec = FieldSpec("f", tuple("abc"[: len(shape)]), shape, axes=axes)
        with initial_weights(0):
            return build_embedding("auto", spec, 6, 4, **options)

    assert network(("open", "periodic"), (16, 16)).stem.wrapped == (3,)
    assert network(None, (16, 16)).stem.wrap == 1  # nothing is said: all are periodic
    assert network(("open", "open"), (16, 16)).stem.wrapped == ()
    cone = network(("periodic", "evolving", "evolving"), (8, 8, 16))
    assert cone.evolving == 4  # of axes that evolve, the last is the line of sight


def test_of_a_long_series_the_network_knows_when():
    def network(cells, axes):
        with initial_weights(0):
            return build_embedding("auto", FieldSpec("f", ("t",), (cells,), axes=axes), 6, 4)

    net = network(512, ("open",))
    assert isinstance(net, FieldCNN)
    louder = normal(range(4), (512,)) * torch.linspace(0.1, 2, 512)
    assert float((net(louder) - net(louder.flip(1))).detach().abs().min()) > 1e-3
    assert isinstance(network(512, None), VectorMLP)
    assert isinstance(network(256, ("open",)), VectorMLP)


def test_constant_entries_do_not_divide_by_zero():
    net = build((3,))
    x = normal(range(8), (3,))
    x[:, 1] = 7.0
    net.set_scale(x.mean(0), x.std(0))
    assert bool(torch.isfinite(net(x)).all())


@pytest.mark.parametrize(("shape", "kind"), [((2, 2, 2, 2), "cnn"), ((8,), "perceiver")])
def test_unknown_or_unfit_kinds_are_config_errors(shape, kind):
    with pytest.raises(ConfigError, match="choose another embedding"):
        build(shape, kind)


def test_complex_fields_are_refused():
    spec = FieldSpec("f", ("x",), (8,), "complex64")
    with pytest.raises(ConfigError, match="real fields"):
        build_embedding("mlp", spec, 6, 4, "open")
