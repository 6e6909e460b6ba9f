"""Fields to channels and back."""

from __future__ import annotations

import math

import pytest
import torch

from emulators.reionization.transform import FieldTransform
from sbitools.seeds import normal


def ionised_field():
    x = 20 * torch.exp(0.4 * normal(torch.tensor([1, 2]), (32, 32)))
    return x.masked_fill(normal(torch.tensor([3, 4]), (32, 32)) > 0.5, 0.0)


def heated_field():
    return 40 - 60 * torch.exp(0.5 * normal(torch.tensor([1, 2]), (32, 32)))


@pytest.mark.parametrize("make", [ionised_field, heated_field])
def test_round_trip_and_unit_variance(make):
    x = make()
    transform = FieldTransform.fit(x)
    channels = transform.forward(x)
    assert channels.shape == (2, transform.channels, 32, 32)
    # Depths of all cells, temperatures of those that have a signal.
    for channel, some in zip(channels.transpose(0, 1), (x != 0, torch.isfinite(x)), strict=False):
        assert channel[some].mean().item() == pytest.approx(0.0, abs=1e-5)
        assert channel[some].std().item() == pytest.approx(1.0, abs=1e-3)
    assert torch.allclose(transform.inverse(channels), x, atol=1e-4 * float(x.std()))


def test_cells_without_signal_are_a_channel_that_decides():
    x = ionised_field()
    transform = FieldTransform.fit(x)
    assert transform.positive
    noisy = transform.forward(x) + 0.1 * normal(torch.tensor([5, 6]), (2, 32, 32))
    back = transform.inverse(noisy)
    # Cells beside an edge are tanh(1/4) = 0.24 from zero, 0.4 in units of the channel's spread.
    assert float(((back == 0) != (x == 0)).float().mean()) < 1e-3
    assert float(back.min()) == 0


def test_depth_is_the_signed_distance_from_the_edge_of_a_bubble():
    x = torch.ones(1, 24, 24)
    x[0, :4, :4] = x[0, -4:, :4] = x[0, :4, -4:] = x[0, -4:, -4:] = 0  # around a corner
    transform = FieldTransform.fit(x)
    depth = transform.forward(x)[0, 1] * transform.spread + transform.depth
    far = torch.atanh(depth.clamp(-0.9999, 0.9999)) * 2.0
    assert far[0, 0] == pytest.approx(3.5, abs=0.05)
    assert far[0, 3] == pytest.approx(0.5, abs=1e-3)
    assert far[0, 4] == pytest.approx(-0.5, abs=1e-3)
    assert far[5, 5] == pytest.approx(0.5 - 2 * 2**0.5, abs=1e-2)
    assert torch.equal(depth, depth.flip(0).roll(0, 0))
    assert torch.equal(depth, depth.T)
    opened = FieldTransform.fit(x, open_end=True)
    depth = opened.forward(x)[0, 1] * opened.spread + opened.depth
    # Without the bubble's other half its first cell is four cells from the edge, which is enough.
    assert depth[0, 0] == pytest.approx(math.tanh(3.5 / 2), abs=1e-5)


def test_temperature_goes_on_into_bubbles_and_fades():
    x = (10 + torch.arange(32.0)).repeat(8, 1)[None]
    x[..., 16:] = 0
    transform = FieldTransform.fit(x)
    value = transform.forward(x)[0, 0, 5]
    weights = torch.softmax(-(torch.arange(-6.0, 7.0) ** 2) / (2 * 1.5**2), 0)[:6]
    expected = (weights * value[10:16]).sum() / (weights.sum() + 0.01)
    assert float(value[16]) == pytest.approx(float(expected), abs=1e-5)
    assert value[22:26].tolist() == [0] * 4  # six cells and more from all with a signal
    assert float(value[31]) < -0.5  # next to the first cell, the lowest, around the corner
    opened = FieldTransform.fit(x, open_end=True).forward(x)[0, 0, 5]
    assert torch.allclose(opened[:22], value[:22])
    assert opened[22:].tolist() == [0] * 10


def test_where_cells_beside_bubbles_fade_temperature_falls_to_that_of_no_signal():
    x = (10 + torch.arange(32.0)).repeat(8, 1)[None]
    x[..., 16:] = 0
    x[..., 15] = 0.8 * x[..., 14]
    x[..., 0] = 0.8 * x[..., 1]  # around the corner
    transform = FieldTransform.fit(x)
    assert not transform.continued
    value = transform.forward(x)[0, 0, 5]
    expected = FieldTransform.fit(x[..., :16]).forward(torch.zeros(1, 1, 1))
    assert value[16:].unique().tolist() == pytest.approx([float(expected)], abs=1e-5)
    assert torch.allclose(transform.inverse(transform.forward(x)), x, atol=1e-4)


@pytest.mark.parametrize(("factor", "continued"), [(1.1, True), (0.95, True), (0.85, False)])
def test_fading_is_measured_at_the_edges_of_bubbles_alone(factor, continued):
    # Cells far from bubbles are three times as bright: nothing that concerns their edges.
    x = torch.full((2, 12, 12, 12), 60.0)
    x[:, 2:8, 2:8, 2:8] = 20.0
    x[:, 3:7, 3:7, 3:7] = 20.0 * factor
    x[:, 4:6, 4:6, 4:6] = 0.0
    for sign in (1, -1):  # in absorption as in emission
        assert FieldTransform.fit(sign * x).continued == continued


@pytest.mark.parametrize("value", [0.0, 20.0])
def test_fields_without_an_edge_saturate(value):
    transform = FieldTransform.fit(ionised_field())
    x = torch.full((1, 32, 32), value)
    assert torch.allclose(transform.inverse(transform.forward(x)), x, atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 20.0])
def test_training_fields_without_structure_are_no_numbers_of_another_kind(value):
    x = torch.full((2, 16, 16), value)
    transform = FieldTransform.fit(x)
    channels = transform.forward(x)
    assert bool(torch.isfinite(channels).all())
    assert torch.allclose(transform.inverse(channels), x)


def test_a_single_neutral_cell_is_enough():
    x = torch.zeros(2, 16, 16)
    x[0, 3, 4] = 20.0
    transform = FieldTransform.fit(x)
    channels = transform.forward(x)
    assert bool(torch.isfinite(channels).all())
    assert torch.allclose(transform.inverse(channels), x)


def test_skewness_is_taken_out():
    x = heated_field()
    transform = FieldTransform.fit(x)
    assert transform.depth is None
    assert not transform.positive

    def skewness(y):
        y = (y - y.mean()) / y.std()
        return abs(float((y**3).mean()))

    assert skewness(transform.forward(x)) < 0.3 * skewness(x)


def test_values_beyond_the_training_set_come_back():
    transform = FieldTransform.fit(heated_field())
    far = torch.tensor([[[-3000.0, 900.0]]])
    assert torch.allclose(transform.inverse(transform.forward(far)), far, rtol=1e-3)


def test_plain_values():
    transform = FieldTransform.fit(ionised_field())
    assert FieldTransform.from_dict(transform.to_dict()) == transform


def test_descriptions_from_before_there_was_a_choice_go_on_into_bubbles():
    values = FieldTransform.fit(ionised_field()).to_dict()
    del values["continued"]
    assert FieldTransform.from_dict(values).continued
