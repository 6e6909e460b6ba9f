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
    names = ("with", "alone", "after")
    found = [compared({name: rng.normal(size=N) for name in names}) for _ in range(20)]
    optimistic = np.mean([max(s.mean for s in f.scores) for f in found])
    # The highest of three means with errors of 0.1 is 0.085 too high.
    assert np.mean([f.cross_fitted for f in found]) < optimistic - 0.04


@pytest.mark.parametrize("grouped", [1, 4])
def test_what_luck_decides_leaves_the_first(compared, grouped):
    """Rows of a group that say the same count as one."""
    better = np.random.default_rng(2).normal(size=N)
    better = (better - better.mean()) / better.std() + 0.13
    values = {"with": np.zeros(N), "alone": np.full(N, -9.0), "after": better}
    if grouped == 1:
        assert compared(values).chosen == "after"  # 1.3 standard errors
        values["after"] = better - 0.08
        assert compared(values).chosen == "with"  # 0.5
        assert compared(values).scores[2].behind == pytest.approx(-0.05)
        return
    table = np.stack([np.repeat(v, grouped) for v in values.values()], axis=1)
    groups = np.repeat(np.arange(N), grouped)
    table[:, 2] -= 0.05  # 0.8 standard errors of groups, 1.6 of rows
    assert worth._best(table, groups) == 0
    assert worth._best(table, np.arange(len(table))) == 2
