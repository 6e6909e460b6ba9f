"""Which of several posteriors is kept, and what the emulator was worth."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from sbitools.repairs import worth

N = 100


@pytest.fixture
def compared(monkeypatch):
    """Posteriors that are their own log densities, on a store of N groups."""
    store = SimpleNamespace(done=np.arange(N), groups=np.arange(N))
    monkeypatch.setattr(worth, "as_store", lambda given: given)
    monkeypatch.setattr(worth, "held_out_log_prob", lambda values, *_, **__: values)
    return lambda posteriors: worth.compare_posteriors(posteriors, store, without="alone", seed=3)


def test_the_highest_mean_is_kept_and_the_gain_is_over_the_one_without(compared):
    noise = np.random.default_rng(0).normal(size=N)
    found = compared({"with": noise + 1.0, "alone": noise, "after": noise + 1.5})
    assert found.chosen == "after"
    assert [s.name for s in found.scores] == ["with", "alone", "after"]
    assert [s.behind for s in found.scores] == pytest.approx([0.5, 1.5, 0.0])
    assert found.gain == pytest.approx(1.5)
    assert found.gain_error == pytest.approx(0.0, abs=1e-9)  # differences are paired
    assert found.cross_fitted == pytest.approx(noise.mean() + 1.5)  # every fold chooses the same


def test_doing_without_is_kept_where_it_is_better(compared):
    found = compared({"with": np.full(N, -1.0), "alone": np.zeros(N)})
    assert found.chosen == "alone"
    assert found.gain == pytest.approx(-1.0)


def test_a_density_of_zero_counts_as_the_lowest_that_any_gave(compared):
    values = np.zeros(N)
    values[0] = -np.inf
    found = compared({"with": values, "alone": np.full(N, -7.0)})
    assert found.chosen == "with"
    assert found.scores[0].mean == pytest.approx(-7.0 / N)


def test_a_choice_by_luck_is_not_believed(compared):
    rng = np.random.default_rng(1)
    found = compared({name: rng.normal(size=N) for name in ("with", "alone", "after")})
    assert found.cross_fitted < max(s.mean for s in found.scores)
