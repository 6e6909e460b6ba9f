"""Windows: where they begin, what they agree on, and that long fields have no seams."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from emulators.methods.diffusion import Denoiser, Schedule, sample
from emulators.methods.diffusion.windows import starts, windowed
from sbitools.errors import ShapeError
from sbitools.seeds import normal


def test_windows_cover_the_axis():
    for length in (32, 40, 97, 500):
        first = starts(length, 32, 8)
        assert first[0] == 0
        assert first[-1] + 32 == length
        gaps = [b - a for a, b in pairwise(first)]
        assert all(0 < gap <= 24 + 1 for gap in gaps)


@pytest.mark.parametrize(
    ("length", "window", "overlap"), [(30, 32, 8), (64, 32, 32), (64, 32, -1)]
)
def test_wrong_windows(length, window, overlap):
    with pytest.raises(ShapeError, match="line of sight"):
        starts(length, window, overlap)


class Local(nn.Module):
    """Each cell by itself: what windows do must not matter to it."""

    def forward(self, x, level, condition, position):
        return torch.tanh(x) * condition[:, :1, None, None, None] + position[:, None, None, None]


class Mean(nn.Module):
    """The mean of the window: differs from window to window."""

    def forward(self, x, level, condition, position):
        return x.mean(-1, keepdim=True).expand_as(x)


def test_a_local_denoiser_is_the_same_in_windows():
    noise = normal(torch.tensor([1, 2]), (1, 4, 4, 50))
    condition, position = torch.tensor([[0.3], [0.8]]), torch.linspace(-1, 1, 50).expand(2, 50)
    levels, denoiser = Schedule().levels(6), Denoiser(Local())
    whole = sample("dpm3", denoiser.at(condition, position), noise, levels, (2, 3))
    pieces = sample("dpm3", windowed(denoiser, condition, position, 16, 4), noise, levels, (2, 3))
    assert torch.allclose(whole, pieces, atol=1e-5)


def test_answers_are_blended():
    noise = normal(torch.tensor([1]), (1, 2, 2, 40))
    denoise = windowed(Denoiser(Mean()), torch.zeros(1, 1), torch.zeros(1, 40), 16, 8)
    answer = denoise(noise, torch.ones(1))
    network = (answer - noise / 2) * 2**0.5  # undo the preconditioning at sigma = 1
    # Windows begin at 0, 8, 16, 24: the first cells belong to one window alone, and from there on
    # the answer moves in steps no larger than one weight's.
    assert torch.allclose(network[..., 0], network[..., 3], atol=1e-5)
    assert float(network.diff(dim=-1).abs().max()) < float(network.std()) * 2
