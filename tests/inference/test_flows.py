"""The laws every flow obeys: it inverts, its Jacobian is the Jacobian, its seed is an argument."""

import pytest
import torch
from torch.autograd.functional import jacobian
from zuko.transforms import MonotonicRQSTransform

from sbitools.errors import ConfigError
from sbitools.inference.autoregressive import inverse_of_spline
from sbitools.inference.flows import FAMILIES, build_flow, normal_log_prob
from sbitools.seeds import normal


def shaken(family, n=2, seed=1):
    """A flow in float64 whose head is not the identity it starts as."""
    flow = build_flow(family, n, 5, hidden=16, transforms=2, seed=seed).double()
    last = flow.head.net[-1]
    for i, p in enumerate(last.parameters()):
        p.data.copy_(0.3 * normal([i], tuple(p.shape), torch.float64)[0])
    return flow


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n", [1, 2, 4])
def test_flow_inverts_and_knows_its_jacobian(family, n):
    if n == 1 and family in ("nflows_nsf", "coupling"):
        with pytest.raises(ConfigError, match="use zuko_nsf"):
            shaken(family, n)
        return
    flow = shaken(family, n)
    c = normal([1, 2, 3], (5,), torch.float64)
    z = normal([4, 5, 6], (7, n), torch.float64)
    with torch.no_grad():
        u, log_det = flow.inverse(z, c)
        again, forward_det = flow(u, c)
    # 1e-9: float64 round-off through a handful of splines.
    torch.testing.assert_close(again, z, rtol=0, atol=1e-9)
    torch.testing.assert_close(log_det, forward_det, rtol=0, atol=1e-9)
    matrix = jacobian(lambda v: flow(v[None, None], c[:1])[0][0, 0], u[0, 0])
    torch.testing.assert_close(torch.linalg.slogdet(matrix)[1], log_det[0, 0], rtol=0, atol=1e-8)
    expected = normal_log_prob(z) + log_det
    with torch.no_grad():
        torch.testing.assert_close(flow.log_prob(u, c), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_every_parameter(family):
    flow = shaken(family, 3)
    c, u = normal([1] * 16, (5,), torch.float64), normal(range(16), (1, 3), torch.float64)
    flow.log_prob(u, c).sum().backward()
    silent = [k for k, p in flow.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


def test_weights_are_a_function_of_the_seed():
    one, two, three = (build_flow("zuko_nsf", 2, 5, hidden=8, transforms=2, seed=s)
                       for s in (1, 1, 2))  # fmt: skip
    same = [torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True)]
    other = [torch.equal(a, b) for a, b in zip(one.parameters(), three.parameters(), strict=True)]
    assert all(same)
    assert not all(other)


def test_unknown_family_is_a_config_error():
    with pytest.raises(ConfigError, match="zuko_nsf"):
        build_flow("realnvp", 2, 5, hidden=8, transforms=2, seed=0)


@pytest.mark.parametrize("family", ["zuko_nsf", "zuko_maf"])
@pytest.mark.parametrize("n", [1, 2, 6])
def test_draws_in_one_pass_are_those_of_zuko(family, n):
    flow = shaken(family, n)
    c, z = normal([1, 2, 3], (5,), torch.float64), normal([4, 5, 6], (50, n), torch.float64)
    with torch.no_grad():
        found, log_det = flow.body.inverse(z, c, density=True)
        alone, nothing = flow.body.inverse(z, c, density=False)
        expected, minus = flow.body.net(c[:, None]).transform.inv.call_and_ladj(z)
    # The same sums in another order: float64 round-off.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(log_det, -minus, rtol=0, atol=1e-11)
    assert torch.equal(alone, found)
    assert nothing.isnan().all()


def test_steep_splines_are_inverted_where_the_two_roots_meet():
    # As of features a thousand times those of training. Rounding makes zuko's discriminant
    # negative just above a knot, a draw in a thousand was NaN.
    widths, heights, slopes = (1e3 * normal([i], (400, 1, n))[0] for i, n in enumerate((8, 8, 7)))
    spline = MonotonicRQSTransform(widths, heights, slopes)
    y = (spline.vertical.mT + torch.linspace(0, 1e-3, 50)).flatten(1)
    theirs, found = spline._inverse(y), inverse_of_spline(spline, y)
    assert not bool(torch.isfinite(theirs).all())
    assert bool(torch.isfinite(found).all())
    exact = MonotonicRQSTransform(widths.double(), heights.double(), slopes.double())
    apart = (inverse_of_spline(exact, y.double()) - found).abs()
    # Float32 knows little of x in a flat bin next to a knot, and may take the bin next to it.
    assert float(apart.quantile(0.99)) < 0.1
