"""Styled convolutions: exact tangent, unit norm of demodulated filters."""

from __future__ import annotations

import pytest
import torch

from sbitools.networks.styled import StyledConv3d, StyledResidual3d, silu
from sbitools.seeds import generator, normal

# torch's own forward-mode tables still use torch.jit.script.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")


@pytest.mark.parametrize(("kernel", "kind"), [(3, "same"), (2, "down"), (2, "up")])
@pytest.mark.parametrize("demodulate", [True, False])
def test_styled_convolution_tangent(kernel, kind, demodulate):
    conv = StyledConv3d(3, 4, 2, kernel, generator(0), kind, demodulate).double()
    x, dx = normal([0, 1], (2, 3, 4, 4, 4), torch.float64)
    style, dstyle = normal([2, 3], (2,), torch.float64)
    y, dy = conv(x, style, dx, dstyle)
    jvp = torch.func.jvp(lambda a, s: conv(a, s)[0], (x, style), (dx, dstyle))
    assert torch.allclose(y, jvp[0], atol=1e-12)
    assert torch.allclose(dy, jvp[1], atol=1e-12)


def test_demodulated_filters_have_unit_norm():
    filters, _ = StyledConv3d(3, 4, 2, 3, generator(0)).filters(torch.tensor([0.3, -0.5]), None)
    assert torch.allclose(filters.square().sum((1, 2, 3, 4)), torch.ones(4), atol=1e-5)


def test_residual_block_tangent():
    block = StyledResidual3d(3, 4, 2, generator(0)).double()
    x, dx = normal([0, 1], (1, 3, 4, 4, 4), torch.float64)
    style, dstyle = normal([2, 3], (2,), torch.float64)
    y, dy = block(x, style, dx, dstyle)
    jvp = torch.func.jvp(lambda a, s: block(a, s)[0], (x, style), (dx, dstyle))
    assert y.shape == (1, 4, 4, 4, 4)
    assert torch.allclose(y, jvp[0], atol=1e-12)
    assert torch.allclose(dy, jvp[1], atol=1e-12)


def test_silu_of_a_pair():
    x = torch.linspace(-3, 3, 7, dtype=torch.float64).requires_grad_()
    value, tangent = silu(x, torch.ones_like(x))
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert torch.allclose(tangent, slope, atol=1e-14)
    assert torch.equal(silu(x, None)[0], torch.nn.functional.silu(x))
