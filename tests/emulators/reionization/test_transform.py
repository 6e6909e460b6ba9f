"""Fields to channels and back."""

from __future__ import annotations

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
    flat = channels.transpose(0, 1).flatten(1).double()
    assert flat.mean(1) == pytest.approx([0.0] * transform.channels, abs=1e-5)
    assert flat.std(1) == pytest.approx([1.0] * transform.channels, abs=1e-3)
    assert torch.allclose(transform.inverse(channels), x, atol=1e-4 * float(x.std()))


def test_cells_without_signal_are_a_channel_that_decides():
    x = ionised_field()
    transform = FieldTransform.fit(x)
    assert transform.ionised == pytest.approx(float((x == 0).float().mean()))
    assert transform.positive
    noisy = transform.forward(x) + 0.3 * normal(torch.tensor([5, 6]), (2, 32, 32))
    back = transform.inverse(noisy)
    # Halfway between the two values is 1 / (2 spread) = 1.1 away: 3.6 sigma of this noise.
    assert float(((back == 0) != (x == 0)).float().mean()) < 1e-3
    assert float(back.min()) == 0


def test_skewness_is_taken_out():
    x = heated_field()
    transform = FieldTransform.fit(x)
    assert transform.ionised is None
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
