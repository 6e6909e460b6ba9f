"""A store gives what sbi trains on, in bounds of memory."""

import numpy as np
import pytest
import torch

from sbitools import FieldSpec, SimulationStore
from sbitools.bridge import theta_and_x
from sbitools.errors import ObservationError, StoreError
from sbitools.observation import Coarsen, Noise
from tests.bridge.conftest import SPACE


def test_theta_and_x_are_those_of_the_store(stores):
    store = stores[1]
    theta, x = theta_and_x(store)
    assert (theta.dtype, x.dtype) == (torch.float32, torch.float32)
    assert torch.equal(x, store.read(store.done))
    assert torch.allclose(theta.double(), store.theta, rtol=1e-6)
    few = theta_and_x(store, indices=[3, 1])
    assert torch.equal(few[1], x[[3, 1]])


def test_observe_steps_act_once_and_by_seed(stores):
    plain = theta_and_x(stores[1])[1]
    first, again, other = (
        theta_and_x(stores[1], observe=[Noise(0.1)], seed=s)[1] for s in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    # A standard deviation of 192 numbers: 5 % error, six times.
    assert float((first - plain).std()) == pytest.approx(0.1, rel=0.3)
    with pytest.raises(ObservationError):
        theta_and_x(stores[1], observe="noise")


def test_only_finished_simulations_in_memory_that_is_allowed(tmp_path):
    theta = SPACE.design(6, 1)
    spec = FieldSpec("f", ("x", "y"), (4, 4), "float64")
    x = np.ones((6, 4, 4))
    x[2] = np.nan
    store = SimulationStore.from_arrays(tmp_path / "s", theta, x, SPACE, spec, nonfinite="fail")
    a, b = theta_and_x(store, observe=[Coarsen(2)])
    assert (len(a), b.shape) == (5, (5, 2, 2))
    with pytest.raises(StoreError, match="max_bytes=360"):
        theta_and_x(store, max_bytes=359)  # 5 rows of 16 + 2 numbers of 4 bytes
    assert len(theta_and_x(store, max_bytes=360)[0]) == 5
    with pytest.raises(StoreError, match="1 of them not finished"):
        theta_and_x(store, indices=[1, 2])
    huge = SimulationStore.from_arrays(tmp_path / "h", theta, x[[0]] * 1e300 * np.ones((6, 1, 1)),
                                       SPACE, spec)  # fmt: skip
    with pytest.raises(StoreError, match="within float32"):
        theta_and_x(huge)
    empty = SimulationStore.from_arrays(tmp_path / "e", theta, x * np.nan, SPACE, spec,
                                        nonfinite="fail")  # fmt: skip
    with pytest.raises(StoreError, match="finished simulations"):
        theta_and_x(empty)
