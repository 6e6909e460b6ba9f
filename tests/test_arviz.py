"""Draws survive the way to ArviZ and GetDist: values, names, units, labels, bounds."""

import numpy as np
import pytest
import torch

from sbitools import FieldSpec, Parameter, ParameterSpace, priors
from sbitools.arviz import draws_to_arviz, draws_to_getdist, from_arviz, to_arviz, to_getdist
from sbitools.errors import PosteriorError, ShapeError
from tests.oracles.gaussian import GaussianPosterior, LinearGaussian

SPACE = ParameterSpace([
    Parameter("Omega_m", priors.Uniform(0.1, 0.5), latex=r"\Omega_m"),
    Parameter("k", priors.LogNormal(0.0, 0.3), unit="h/Mpc"),
])  # fmt: skip
FIELD = FieldSpec("density", ("i", "j"), (3, 4), unit="1")


@pytest.fixture
def draws():
    return SPACE.design(600, 1).reshape(2, 300, 2)


@pytest.fixture
def posterior():
    oracle = GaussianPosterior(LinearGaussian())
    oracle.observed = oracle.output
    return oracle


@pytest.mark.parametrize("container", ["InferenceData", "DataTree"])
@pytest.mark.parametrize("batch", [1, 2])
def test_round_trip_through_both_containers(draws, container, batch):
    import xarray

    x = torch.arange(12.0 * batch).reshape(batch, 3, 4)
    data = draws_to_arviz(
        draws[:batch], SPACE, x=x, output=FIELD, log_prob=torch.zeros(batch, 300),
        container=container,
    )  # fmt: skip
    assert type(data).__name__ == container
    assert np.array_equal(from_arviz(data, SPACE), draws[:batch].numpy())
    variable = data["posterior"]["k"]
    assert variable.attrs["units"] == "h/Mpc"
    assert variable.dims == ("chain", "draw", *(["observation"] if batch > 1 else []))
    assert data["observed_data"]["density"].shape[-2:] == (3, 4)
    assert data["sample_stats"]["lp"].shape[:2] == (1, 300)
    assert isinstance(data["prior"]["k"], xarray.DataArray)
    assert data["posterior"].attrs["inference_library"] == "sbitools"


def test_arviz_understands_it(draws):
    data = draws_to_arviz(draws[:1], SPACE)
    import arviz  # after ours, which silences the announcement of its successor

    table = arviz.summary(data, round_to="none", kind="stats")
    assert list(table.index) == SPACE.names
    assert table["mean"].to_numpy() == pytest.approx(draws[0].mean(0).numpy())


def test_posterior_to_arviz_is_seeded(posterior):
    x = torch.zeros((1, 5), dtype=torch.float64)
    a, b, c = (to_arviz(posterior, x, 50, seed=s) for s in (1, 1, 2))
    read = [from_arviz(d, posterior.parameters) for d in (a, b, c)]
    assert np.array_equal(read[0], read[1])
    assert not np.array_equal(read[0], read[2])
    assert float(a["sample_stats"]["lp"].mean()) < 0


def test_getdist_gets_names_labels_bounds_and_moments(draws):
    samples = draws_to_getdist(draws[:1], SPACE, label="demo")
    assert samples.getParamNames().list() == SPACE.names
    assert samples.getParamNames().labels() == [r"\Omega_m", "k [h/Mpc]"]
    assert samples.getLower("Omega_m") == pytest.approx(0.1)
    assert samples.getUpper("Omega_m") == pytest.approx(0.5)
    assert samples.getLower("k") == 0.0
    assert samples.getUpper("k") is None
    assert samples.getMeans() == pytest.approx(draws[0].mean(0).numpy())
    density = samples.get1DDensity("Omega_m")
    # The prior is uniform: GetDist knows the bounds, so its density does not fall off at them.
    assert density.Prob(np.array([0.11])) > 0.6 * density.Prob(np.array([0.3]))


def test_posterior_to_getdist(posterior):
    x = torch.ones((1, 5), dtype=torch.float64)
    samples = to_getdist(posterior, x, 2000, seed=1)
    mean = posterior.model.mean(x.numpy())[0]
    assert samples.getMeans() == pytest.approx(mean, abs=0.06)  # five errors of 2000 draws
    best = samples.getParamSampleDict(int(samples.loglikes.argmin()))
    assert best["loglike"] == pytest.approx(float(samples.loglikes.min()))


def test_bad_input_is_named(draws):
    with pytest.raises(PosteriorError, match="draws: expected shape"):
        draws_to_arviz(draws[..., :1], SPACE)
    with pytest.raises(PosteriorError, match="one observation"):
        draws_to_getdist(draws, SPACE)
    with pytest.raises(PosteriorError, match="container"):
        draws_to_arviz(draws, SPACE, container="pickle")
    with pytest.raises(ShapeError, match="observed x"):
        draws_to_arviz(draws, SPACE, x=torch.zeros(2, 5), output=FIELD)
    other = ParameterSpace([Parameter("w", priors.Uniform(-1, 0))])
    with pytest.raises(PosteriorError, match="no w"):
        from_arviz(draws_to_arviz(draws, SPACE), other)


def test_arviz_1_gets_a_data_tree(draws, monkeypatch):
    draws_to_arviz(draws, SPACE)  # imports arviz without its announcement
    import arviz

    monkeypatch.setattr(arviz, "__version__", "1.3.0")
    assert type(draws_to_arviz(draws, SPACE)).__name__ == "DataTree"
    with pytest.raises(PosteriorError, match="with ArviZ 1"):
        draws_to_arviz(draws, SPACE, container="InferenceData")
