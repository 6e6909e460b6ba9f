"""One small problem whose parameters and axes must not be exchanged, and its posterior."""

import numpy as np
import pytest
import torch

import sbitools
from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors

SPACE = ParameterSpace(
    [Parameter("h", priors.Uniform(0, 1), unit="km"), Parameter("s", priors.Uniform(0, 1))]
)
FIELD = FieldSpec("map", ("y", "z"), (2, 2), unit="mK")
N = 6
THETA = SPACE.design(N, 1).numpy()
X = np.random.default_rng(0).normal(size=(N, 2, 2)).astype("f4")
UNSEEN = -1.6375e30


@pytest.fixture(scope="session")
def posterior(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    theta = SPACE.design(200, 2)
    x = theta.float()[:, None, :] * torch.tensor([1.0, 2.0])[:, None]
    x = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    store = SimulationStore.from_arrays(folder / "store", theta, x, SPACE, FIELD, design="random")
    return sbitools.train(
        store, run_dir=folder / "run", epochs=1, flow_hidden=8, features=4, channels=4
    )
