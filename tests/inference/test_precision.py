"""``torch.set_default_dtype(torch.float64)`` in a user's session changes nothing of ours."""

import threading

import numpy as np
import pytest
import torch

import sbitools
from sbitools import FieldSpec, Parameter, ParameterSpace, Posterior, SimulationStore, priors
from sbitools.networks.precision import single_precision

SPACE = ParameterSpace([Parameter("a", priors.Uniform(0, 1))])
FEW = {"epochs": 1, "batch_size": 40}
METHODS = {
    "npe": {"flow": "zuko_nsf", "flow_hidden": 8, "flow_transforms": 1}, "nre": {"hidden": 8},
    "fmpe": {"field_hidden": 8}, "npse": {"field_hidden": 8},
    "nle": {"flow": "zuko_maf", "flow_hidden": 8, "flow_transforms": 1},
}  # fmt: skip


@pytest.fixture
def in_double():
    torch.set_default_dtype(torch.float64)
    yield
    assert torch.get_default_dtype() == torch.float64  # the user's own, as it was
    torch.set_default_dtype(torch.float32)


def data(path):
    theta = SPACE.design(120, 1).numpy()
    x = (theta + 0.1 * np.random.default_rng(0).normal(size=(120, 3))).astype("f4")
    return x, SimulationStore.from_arrays(path, theta, x, SPACE, FieldSpec("x", ("i",), (3,)))


@pytest.mark.parametrize("method", METHODS)
def test_the_session_s_default_changes_no_number(method, tmp_path, request):
    x, store = data(tmp_path / "s")
    theta = store.theta[:5]
    before = sbitools.train(store, method, run_dir=tmp_path / "1", **METHODS[method], **FEW)
    expected = before.log_prob(theta, x[:5])
    before.save(tmp_path / "saved")
    request.getfixturevalue("in_double")
    after = sbitools.train(store, method, run_dir=tmp_path / "2", **METHODS[method], **FEW)
    for posterior in (after, before, Posterior.load(tmp_path / "saved")):
        assert torch.equal(posterior.log_prob(theta, x[:5]), expected)
    if method in ("npe", "fmpe", "npse"):
        assert bool(after.sample(x[:2], 10).isfinite().all())


def test_threads_share_the_default_and_the_last_one_puts_it_back(in_double):
    inside, leave = threading.Event(), threading.Event()

    def work():
        with single_precision():
            inside.set()
            leave.wait(10)

    with single_precision():
        other = threading.Thread(target=work)
        other.start()
        assert inside.wait(10)
    assert torch.get_default_dtype() == torch.float32  # the other is still at work
    leave.set()
    other.join()
    assert torch.get_default_dtype() == torch.float64
