"""Law: whatever sees x sees the same of a x + b, in any unit and from any zero point."""

import copy
import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sbitools import FieldSpec
from sbitools.densities.lattice import Lattice
from sbitools.embeddings import build_embedding
from sbitools.embeddings.moments import measure
from sbitools.embeddings.scale import Scaled
from sbitools.errors import TrainingError
from sbitools.inference.likelihood import Standardise as FlowScale
from sbitools.inference.vectors.scale import Standardise
from sbitools.seeds import generator, initial_weights, normal

UNITS = st.floats(-30, 30).map(lambda power: 10.0**power)
ZEROS = st.floats(-1e6, 1e6)  # in units of the spread: float64 keeps ten digits of x

KINDS = {
    "mlp": (("i",), (5,), {}),
    "cnn": (("x", "y"), (8, 8), {}),
    "cone": (("x", "los"), (8, 8), {"boundary": ("periodic", "evolving")}),
    "maps": (("channel", "x", "y"), (2, 8, 8), {}),
    "transformer": (("x", "y"), (8, 8), {"heads": 2, "depth": 1}),
    "healpix": (("pixel",), (48,), {}),
    "set": (("item", "column"), (6, 2), {}),
    "padded set": (("item", "column"), (6, 3), {"padded": True}),
}


@functools.cache
def network(kind):
    dims, shape, more = KINDS[kind]
    spec = FieldSpec("x", dims, shape, "float64", "W")
    name = "transformer" if kind == "transformer" else "auto"
    with initial_weights(1):
        net = build_embedding(name, spec, 4, 4, **more)
        for p in net.parameters():
            torch.nn.init.normal_(p, std=0.2)  # zeros would hide what they multiply
    return net, spec


def learned(kind, x):
    """A network with the scale of float64 fields x."""
    net, spec = copy.deepcopy(network(kind))
    net.set_moments(measure((net.values(rows) for rows in x.split(7)), spec))
    return net


def fields(kind, n=24):
    x = normal(range(n), KINDS[kind][1], torch.float64)
    x.view(n, -1)[:, 1] = 0.625  # one cell never varies
    if kind == "padded set":
        x[..., 2] = (normal(range(n, 2 * n), (6,)) > -0.5).double()
    return x


def transformed(kind, x, a, b):
    if kind != "padded set":
        return a * x + b
    there = x[..., 2:]
    return torch.cat([(a * x[..., :2] + b) * there, there], -1)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(a=UNITS, zero=ZEROS)
def test_features_of_a_x_plus_b_are_those_of_x(kind, a, zero):
    x = transformed(kind, fields(kind), 1.0, 0.0)
    y = transformed(kind, x, a, a * zero)
    before, after = learned(kind, x)(x), learned(kind, y)(y)
    assert before.dtype == after.dtype == torch.float32
    assert float(before.detach().std(0).max()) > 1e-3
    # x itself is rounded to 1e-16 |b|, a part of 1e-10 of its spread.
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("power", [-100, 100])
def test_powers_of_two_change_no_bit(kind, power):
    x = transformed(kind, fields(kind), 1.0, 0.0)
    y = transformed(kind, x, 2.0**power, 0.0)
    assert torch.equal(learned(kind, y)(y), learned(kind, x)(x))


@pytest.mark.parametrize("kind", [k for k in KINDS if "set" not in k])
@pytest.mark.parametrize("rounding", [0.0, 1e-16])
@pytest.mark.parametrize("value", [-9999.0, 1537.013718363062, 0.0, -1.6375e30])
def test_cells_that_never_vary_are_not_seen(kind, rounding, value):
    """Filled cells neither set the scale nor reach the network, and take no gradient."""
    x = fields(kind)
    flat = x.view(len(x), -1)
    flat[:, 1] = normal(range(len(x)), (), torch.float64)
    noise = 1 + rounding * normal(range(len(x)), (2,), torch.float64)
    flat[:, 2:4] = value * noise
    net = learned(kind, x)
    spread = float(net.std.max())
    assert 0.5 < spread < 2
    other = x.clone().requires_grad_()
    with torch.no_grad():
        other.view(len(x), -1)[:, 2:4] += 5e4
    assert torch.equal(net(other), net(x))
    net(other).sum().backward()
    gradient = other.grad.view(len(x), -1)
    assert float(gradient[:, 2:4].abs().max()) == 0
    assert float(gradient.abs().max()) > 0


def test_rare_events_of_a_sparse_field_are_seen():
    """Empty cells of a field of rare points hold what other cells hold, too: they are no hole."""
    x = (normal(range(40), (16, 16), torch.float64) > 2.6).double()
    assert int((x.std(0) == 0).sum()) > 100
    net = learned("cnn", x[:, :8, :8])
    assert bool(net.seen.all())


def test_an_entry_that_varies_in_one_of_many_is_seen():
    x = normal(range(50), (5,), torch.float64)
    x[:, 2] = 0
    x[17, 2] = 1e-3
    assert bool(learned("mlp", x).seen.all())


def test_observations_far_from_everything_are_cut_where_squares_still_fit():
    for kind in KINDS:
        x = fields(kind)
        net = learned(kind, x)
        # 1e30 in a map whose unit is 1 is healpy.UNSEEN, or as bad: that is refused.
        for value in (1e15, -1e15) if kind == "healpix" else (1e30, -1e38, 1e300):
            far = torch.where(x.new_ones(x.shape[1:]).bool(), value, x)
            assert bool(net(far).isfinite().all()), kind


def test_moments_are_those_of_numpy_for_any_offset():
    rng = np.random.default_rng(1)
    for offset, unit, dtype in ((0, 1, "f4"), (2460000.5, 1e-3, "f8"), (0, 1e-46, "f8")):
        x = torch.from_numpy((offset + unit * rng.normal(size=(500, 3))).astype(dtype))
        found = measure(x.split(64), FieldSpec("x", ("i",), (3,), str(x.dtype)[6:]))
        exact = (x.double() - offset).numpy()
        np.testing.assert_allclose(found.std.numpy(), exact.std(0), rtol=1e-9)
        np.testing.assert_allclose((found.mean - offset).numpy(), exact.mean(0), atol=1e-3 * unit)


@pytest.mark.parametrize(("x", "got"), [
    ([1.0, math.inf], "1 that are not"), ([1e200, -1e200], "2e\\+200"), ([0.0, 1e-200], "1e-200"),
    ([2.5, 2.5], "none of 1"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_by_the_name_of_its_unit(x, got):
    spec = FieldSpec("flux", ("i",), (1,), "float64", "erg/s")
    with pytest.raises(TrainingError, match=f"flux, float64, unit 'erg/s'.*{got}.*another unit"):
        measure([torch.tensor(x, dtype=torch.float64)[:, None]], spec)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(a=UNITS, zero=st.floats(-1e3, 1e3))
def test_counts_are_told_by_their_spacing_not_by_their_unit(a, zero):
    rng = np.random.default_rng(0)
    columns = [
        rng.poisson(7, 800), rng.poisson(300, 800), rng.random(800) < 0.5,
        37 * (rng.random(800) < 0.02), rng.normal(size=800), 1e-4 * rng.normal(size=800),
        rng.exponential(size=800) * (rng.random(800) < 0.5), np.zeros(800),
    ]  # fmt: skip
    x = torch.from_numpy(a * (np.stack(columns, 1).astype(float) + zero))
    scale = Standardise(x.shape[1])
    scale.set_moments(measure([x], FieldSpec("x", ("i",), (x.shape[1],), "float64")))
    z = scale.standardise(x)
    lattice = Lattice(z, scale.std)
    assert lattice.whole.tolist() == [True] * 4 + [False] * 4
    unit = (lattice.unit * scale.std)[:4].numpy() / a  # a rare 37 is 37 counts
    np.testing.assert_allclose(unit, 1, rtol=1e-3)
    spread = lattice.spread(z, generator(1))
    assert bool((spread[:, :4] != z[:, :4]).all())
    assert torch.equal(spread[:, 4:], z[:, 4:])
    torch.testing.assert_close(lattice.snap(z), z, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("values", [(0, 2, 5), (0, 6, 15, 35)])
def test_the_unit_of_counts_is_their_greatest_common_divisor(values):
    x = torch.tensor(values, dtype=torch.float64)[:, None].repeat(50, 1)
    unit = Lattice((x / x.std()).float(), x.std()[None]).unit * x.std()
    assert float(unit) == pytest.approx(1, rel=1e-3)


def test_weights_from_before_cells_were_left_out_load():
    old = {"mean": torch.ones(3), "std": torch.full((3,), 2.0)}  # float32, and no "seen"
    for scale in (Scaled((3,), (3,)), Standardise(3), FlowScale(FieldSpec("x", ("i",), (3,)))):
        scale.load_state_dict(old)
        assert scale.standardise(torch.tensor([[3.0, 1.0, -1.0]])).tolist() == [[1, 0, -1]]
    hidden = Scaled((3,), (3,))
    hidden.set_scale(torch.ones(3), torch.tensor([1.0, 0.0, 1.0]))
    again = Scaled((3,), (3,))
    again.load_state_dict(hidden.state_dict())
    assert again.seen.tolist() == [True, False, True]
    with pytest.raises(RuntimeError, match="size mismatch"):
        again.load_state_dict(old | {"seen": torch.ones(7, dtype=torch.bool)})
