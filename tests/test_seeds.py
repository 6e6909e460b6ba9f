"""Seeds: every bit counts, batches do not, and nothing global is touched."""

import numpy as np
import pytest
import torch

from sbitools import seeds
from sbitools.errors import ParameterError


def test_every_bit_of_a_seed_counts():
    base = 5
    others = [base + (1 << bit) for bit in range(3, 63)]
    fields = seeds.normal([base, *others], (4,))
    assert len({tuple(row.tolist()) for row in fields}) == len(others) + 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normal_draws_are_normal_and_do_not_depend_on_the_batch(dtype):
    both = seeds.normal([1, 2], (1000, 10), dtype)
    assert both.dtype == dtype
    assert torch.equal(both[1:], seeds.normal([2], (1000, 10), dtype))
    # 20,000 numbers: mean and variance are known to 0.7 % and 1 %; 5 sigma, false alarm 6e-7.
    assert abs(float(both.mean())) < 0.036
    assert abs(float(both.var()) - 1) < 0.05


def test_derived_seeds_depend_on_the_whole_key():
    assert seeds.derive(1, 2, 3) == seeds.derive(1, 2, 3)
    values = {seeds.derive(s, *key) for s in (0, 1) for key in ((), (0,), (1,), (0, 0), (0, 1))}
    assert len(values) == 10
    assert np.array_equal(
        seeds.simulation_seeds(3, [4, 1])[::-1], seeds.simulation_seeds(3, [1, 4])
    )


@pytest.mark.parametrize("bad", [-1, 1.5, "1", True, None, 1 << 63])
def test_a_seed_is_a_whole_number(bad):
    with pytest.raises(ParameterError, match="seed"):
        seeds.check_seed(bad)
