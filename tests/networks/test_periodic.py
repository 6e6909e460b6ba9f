"""Circular padding: values, adjoint, tangent, memory format, errors."""

from __future__ import annotations

import pytest
import torch

from sbitools.errors import ShapeError
from sbitools.networks import PeriodicPad1d, PeriodicPad2d, PeriodicPad3d, circular_pad
from sbitools.seeds import generator

# torch's own forward-mode tables still use torch.jit.script.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")

SHAPES = [(2, 3, 7), (2, 3, 5, 6), (2, 3, 4, 5, 6)]


def _random(shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=generator(seed), dtype=dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("p", [1, 2, 4])
def test_values_equal_torch(shape, p):
    x = _random(shape)
    expected = torch.nn.functional.pad(x, (p, p) * (len(shape) - 2), mode="circular")
    assert torch.equal(circular_pad(x, p), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_derivatives(shape):
    small = _random((1, 1, *shape[2:])).requires_grad_()
    with torch.random.fork_rng(devices=[]):  # gradcheck draws its directions globally
        assert torch.autograd.gradcheck(lambda x: circular_pad(x, 2), small, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(lambda x: circular_pad(x, 2) ** 2, small)


def test_func_jvp():
    x, dx = _random((2, 3, 4, 4, 4)), _random((2, 3, 4, 4, 4), 1)
    y, dy = torch.func.jvp(lambda v: circular_pad(v, 2), (x,), (dx,))
    assert torch.equal(y, circular_pad(x, 2))
    assert torch.equal(dy, circular_pad(dx, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_channels_last_survives_both_ways(dtype):
    x = _random((2, 4, 6, 6, 6), dtype=torch.float32).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    y = circular_pad(x, 1)
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
    assert y.dtype == dtype
    (g,) = torch.autograd.grad((y * y).sum(), x)
    assert g.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(y, circular_pad(x.contiguous(), 1))


def test_gradient_that_arrives_is_not_changed():
    x = _random((1, 1, 4)).requires_grad_()
    g = torch.ones(1, 1, 8, dtype=torch.float64)
    torch.autograd.grad(circular_pad(x, 2), x, g)
    assert torch.equal(g, torch.ones_like(g))


def test_layers():
    for layer, shape in zip((PeriodicPad1d, PeriodicPad2d, PeriodicPad3d), SHAPES, strict=True):
        assert torch.equal(layer(2)(_random(shape)), circular_pad(_random(shape), 2))
    assert circular_pad(x := _random((1, 1, 3)), 0) is x


@pytest.mark.parametrize(("shape", "p"), [((2, 3), 1), ((1, 1, 4), 5), ((1, 1, 4), -1)])
def test_bad_input(shape, p):
    with pytest.raises(ShapeError, match="circular_pad"):
        circular_pad(torch.zeros(shape), p)
    with pytest.raises(ShapeError, match="spatial axes"):
        PeriodicPad3d(1)(torch.zeros(1, 1, 4, 4))
