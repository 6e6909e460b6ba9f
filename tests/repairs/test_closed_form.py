"""Posteriors that are densities in closed form: the best for linear data, nothing to train."""

import pytest
import torch

import sbitools
from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors
from sbitools.errors import PosteriorError
from sbitools.repairs import fine_tune

SPACE = ParameterSpace([Parameter("mu", priors.Normal(0.0, 1.0))])
FIELD = FieldSpec("x", ("i",), (2,))


def line(path, n, seed):
    theta, rng = SPACE.design(n, seed), torch.Generator().manual_seed(seed)
    x = (theta + torch.randn(n, 2, generator=rng)).float()
    return SimulationStore.from_arrays(path, theta, x, SPACE, FIELD, design="random")


@pytest.fixture(scope="module", params=["npe", "nle"])
def closed(request, tmp_path_factory):
    """Trained so little that a line is better than any network."""
    folder = tmp_path_factory.mktemp(request.param)
    store = line(folder / "train", 400, 1)
    options = {"epochs": 1, "members": 1, "flow_hidden": 4, "components": 1}
    options |= {"emulate": False} if request.param == "npe" else {}
    found = sbitools.train(store, request.param, run_dir=folder / "r", **options)
    assert found.estimator.closed
    return found, line(folder / "tests", 100, 2)


@pytest.mark.parametrize("closed", ["npe"], indirect=True)  # chains would take minutes
def test_repair_leaves_fine_tuning_out(closed):
    posterior, tests = closed
    tried = sbitools.repair(posterior, tests, folds=2, n_draws=50).info["repair"]["tried"]
    assert set(tried) == {"recalibrate", "reweight"}


def test_nothing_is_trained_further(closed, tmp_path):
    posterior, tests = closed
    with pytest.raises(PosteriorError, match="closed form"):
        fine_tune(posterior, tests, range(100), run_dir=tmp_path / "r")


def test_calibrate_leaves_out_what_the_posterior_does_not_have(closed):
    posterior, tests = closed
    checks = {c.name for c in sbitools.calibrate(posterior, tests, n_draws=50).emulated}
    assert {"sbc", "tarp"} <= checks
    assert ("information" in checks) == (posterior.options.method == "npe")
