"""Plain values and selections: what is meant comes out as Python's own, the rest is refused."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sbitools.errors import ConfigError, ShapeError, StoreError
from sbitools.gate.arrays import selection
from sbitools.gate.plain import as_path, flag, real, text, whole

WHOLE = [3, np.int64(3), np.uint8(3), 3.0, np.float32(3), torch.tensor(3), np.array(3)]
NO_NUMBER = [True, np.True_, "3", None, [3], (3,), np.array([3]), float("nan"), object(), 3j, {}]


@pytest.mark.parametrize("value", WHOLE, ids=repr)
def test_a_whole_number_in_any_dress_is_a_python_int(value):
    out = whole(value, "n", least=1)
    assert type(out) is int
    assert out == 3


@pytest.mark.parametrize("value", [*NO_NUMBER, 2.5, float("inf"), 0, -5, np.int64(0)], ids=repr)
def test_what_is_no_count_is_refused_by_name(value):
    with pytest.raises(ShapeError, match=r"^n_draws: expected a whole number >= 1; got"):
        whole(value, "n_draws", least=1, error=ShapeError)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_real_number_keeps_its_value_and_can_be_written(value):
    for dress in (value, np.float64(value), torch.tensor(value, dtype=torch.float64)):
        out = real(dress, "sigma")
        assert type(out) is float
        assert json.loads(json.dumps(out)) == value


@pytest.mark.parametrize(
    "value", [*NO_NUMBER, float("-inf"), 10**400, 0.0, 2.0], ids=lambda v: repr(v)[:20]
)
def test_what_is_no_real_number_in_its_bounds_is_refused(value):
    with pytest.raises(ConfigError, match="sigma: expected a finite number > 0, <= 1"):
        real(value, "sigma", above=0, most=1)


def test_flags_and_text_are_not_guessed():
    assert flag(np.True_, "resume") is True
    for value in (1, "yes", None):
        with pytest.raises(ConfigError, match="True or False"):
            flag(value, "resume")
    assert text("µ ☃", "name") == "µ ☃"
    for value in (b"x", None, "a\0b", "\udce9"):
        with pytest.raises(ConfigError, match="name: expected text"):
            text(value, "name")


def test_paths_know_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert as_path("~/runs") == tmp_path / "runs"
    assert as_path(tmp_path) == tmp_path
    for value in ("", None, 3, "~nobody_of_this_name/x"):
        with pytest.raises(ConfigError, match="path: expected a path"):
            as_path(value)


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_a_mask_selects_where_it_is_true(mask):
    expected = [i for i, chosen in enumerate(mask) if chosen]
    for dress in (mask, np.array(mask), torch.tensor(mask)):
        assert selection(dress, len(mask)).tolist() == expected
    with pytest.raises(StoreError, match="a mask of"):
        selection(mask, len(mask) + 1)


@pytest.mark.parametrize(
    "chosen", [[2, 0, 2], (2, 0, 2), np.array([2, 0, 2], "u1"), torch.tensor([2, 0, 2])]
)
def test_numbers_select_in_their_order(chosen):
    assert selection(chosen, 3).tolist() == [2, 0, 2]
    assert selection([], 3).tolist() == []
    assert selection(None, 3).tolist() == selection(range(3), 3).tolist() == [0, 1, 2]
    assert selection(slice(1, None), 3).tolist() == [1, 2]


@pytest.mark.parametrize("chosen", [[3], [-1], [0.0, 1.0], ["0"], [[0]], 1, [[0], [1, 2]], [None]])
def test_other_selections_are_refused(chosen):
    with pytest.raises(StoreError, match=r"rows: expected whole numbers in \[0, 3\)"):
        selection(chosen, 3, "rows")
