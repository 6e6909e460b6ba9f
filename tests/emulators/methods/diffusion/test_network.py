"""The U-Net: shapes, exact symmetries, what it listens to."""

from __future__ import annotations

import pytest
import torch

from emulators.methods.diffusion.network import UNet, _merge, _split
from sbitools.seeds import generator, normal


def network(axes, position=False, **changes):
    net = UNet(2, 2, axes, (8, 8), position=position, seed=1, **changes)
    with torch.no_grad():  # last layers start at zero: nothing would be seen of the others
        for name, p in net.named_parameters():
            if name.endswith("conv.weight"):
                p.normal_(0, 0.2, generator=generator(len(name)))
    return net


@pytest.mark.parametrize("shape", [(16, 16), (8, 8, 8)])
def test_no_cell_is_lost_in_a_patch(shape):
    x = normal(torch.tensor([1, 2]), (3, *shape))
    merged = _merge(x, 2)
    assert merged.shape == (2, 3 * 2 ** len(shape), *(n // 2 for n in shape))
    assert torch.equal(_split(merged, 2), x)


def test_begins_with_zero():
    net = UNet(1, 2, ("periodic",) * 2, (8, 8))
    out = net(normal(torch.tensor([1]), (1, 16, 16)), torch.zeros(1),
              torch.zeros(1, 2))  # fmt: skip
    assert (out == 0).all()


def test_a_shift_of_a_periodic_field_shifts_the_answer():
    net = network(("periodic",) * 2)
    x, level, theta = normal(torch.tensor([1]), (2, 16, 16)), torch.ones(1), torch.zeros(1, 2)
    moved = net(x.roll((4, 8), (2, 3)), level, theta)  # patch times two levels
    # Rounding of convolutions whose terms come in another order.
    assert torch.allclose(moved, net(x, level, theta).roll((4, 8), (2, 3)), atol=1e-4)


def test_an_open_axis_does_not_wrap():
    x, level, theta = normal(torch.tensor([1]), (2, 8, 8, 16)), torch.ones(1), torch.zeros(1, 2)
    place = torch.zeros(1, 16)
    net = network(("periodic", "periodic", "open"), True)
    base = net(x, level, theta, place)
    x = x.clone()
    x[..., -1] += 1
    change = (net(x, level, theta, place) - base).abs()
    near = change[..., -2:].mean()
    periodic = network(("periodic",) * 3, True)
    wrapped = (periodic(x, level, theta, place)
               - periodic(x - torch.nn.functional.one_hot(torch.tensor(15), 16), level, theta,
                          place)).abs()  # fmt: skip
    assert near > 0
    assert change[..., 0].mean() < 0.5 * wrapped[..., 0].mean()


def test_listens_to_level_parameters_and_position():
    net = network(("periodic", "periodic", "open"), True)
    x = normal(torch.tensor([1]), (2, 8, 8, 16))
    inputs = [torch.ones(1), torch.zeros(1, 2), torch.zeros(1, 16)]
    base = net(x, *inputs)
    for i in range(3):
        changed = list(inputs)
        changed[i] = inputs[i] + 0.5
        assert not torch.allclose(net(x, *changed), base, atol=1e-4)


def test_same_seed_same_weights():
    first, second, other = (
        UNet(1, 2, ("periodic",) * 2, (8, 8), seed=s).state_dict() for s in (3, 3, 4)
    )
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(first["entry.conv.weight"], other["entry.conv.weight"])


def test_no_parameters_are_legal():
    net = UNet(1, 0, ("periodic",) * 2, (8, 8))
    assert net(torch.zeros(2, 1, 16, 16), torch.zeros(2), torch.zeros(2, 0)).shape[0] == 2
