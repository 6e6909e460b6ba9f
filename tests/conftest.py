"""Two cores: one thread per test process; and no test may touch global random state."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

from tests.plugins.run import config, field, finished, line_installed  # noqa: F401  (fixtures)

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def global_random_state_is_untouched():
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    yield
    assert torch.equal(before[0], torch.random.get_rng_state()), "torch's global RNG was used"
    now = np.random.get_state()[1]  # noqa: NPY002
    assert np.array_equal(before[1], now), "numpy's global RNG was used"
