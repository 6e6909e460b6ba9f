"""Targets move what the simulations show, and nothing that is chance."""

from __future__ import annotations

import pytest
import torch

from emulators.methods.sky.targets import Targets
from sbitools.seeds import normal

SIZE = 120
GROUPS = torch.arange(SIZE) // 30  # four kinds


def statistics(n, seed, shift=0.0):
    return 5.0 + 2.0 * normal([seed], (n, SIZE))[0] + shift


def fit(shift, n=40, thetas=(0.0,)):
    """Shift, a function of theta, of the statistics of the simulations."""
    targets = Targets(SIZE, 1 if len(thetas) == 1 else 2)
    simulated = [statistics(n, 10 + i, shift(t)) for i, t in enumerate(thetas)]
    started = [statistics(100, 500 + i) for i in range(len(thetas))]
    terms = torch.tensor([[1.0, t][: targets.shift.shape[0]] for t in thetas])
    return targets, targets.fit(simulated, started, terms, GROUPS)


def test_equal_statistics_are_left_alone():
    targets, (before, after) = fit(lambda t: 0.0)
    assert before < 0.01
    assert after < 0.01
    s = statistics(3, 1)
    moved = targets(s, torch.ones(3, 1)) - s
    # Chance alone is 2 * sqrt(1 / 40 + 1 / 100) = 0.37 in each.
    assert moved.abs().mean() < 0.05


def test_a_real_difference_is_moved_and_the_other_kinds_stay():
    wanted = torch.where(GROUPS == 2, 3.0, 0.0)
    targets, (before, after) = fit(lambda t: wanted)
    moved = targets(torch.zeros(1, SIZE), torch.ones(1, 1))[0]
    assert moved[GROUPS == 2].mean() == pytest.approx(3.0, abs=0.3)  # chance is 0.07
    assert moved[GROUPS != 2].abs().mean() < 0.1
    assert before > 10 * after


def test_the_shift_follows_theta():
    targets, _ = fit(lambda t: 4.0 * t, n=3, thetas=torch.linspace(-1, 1, 30).tolist())
    ends = targets(torch.zeros(2, SIZE), torch.tensor([[1.0, -1.0], [1.0, 1.0]]))
    assert ends[0].mean() == pytest.approx(-4.0, abs=0.4)
    assert ends[1].mean() == pytest.approx(4.0, abs=0.4)


def test_each_map_keeps_its_own_deviation():
    targets, _ = fit(lambda t: 3.0)
    s = statistics(50, 77)
    moved = targets(s, torch.ones(50, 1))
    assert torch.allclose(moved.var(0), s.var(0), rtol=1e-4)


def test_one_fluctuation_of_all_numbers_of_a_kind_is_chance():
    """Numbers that go together exceed chance together: that is one coincidence, not thirty."""
    shared = normal([3], (100, 1))[0]
    started = [5 + shared.expand(-1, SIZE) + 0.1 * normal([4], (100, SIZE))[0]]
    simulated = [5 + 1.4 / 10**0.5 + shared[:10].expand(-1, SIZE) - shared[:10].mean()]
    targets = Targets(SIZE, 1)
    targets.fit(simulated, started, torch.ones(1, 1), GROUPS)
    assert targets.shift.abs().max() < 0.1  # 1.4 sigma of the mean of ten maps
