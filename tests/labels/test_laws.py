"""The order in which columns and axes come does not matter, as long as they have names."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors
from sbitools.errors import ParameterError, ShapeError
from sbitools.gate.arrays import as_native
from sbitools.labels import is_missing

from .conftest import FIELD, SPACE, THETA, UNSEEN, N, X

LAW = settings(
    max_examples=30, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
NAMES = ["run", "h", "note", "s", "extra"]
COLUMNS = {"run": np.arange(N), "h": THETA[:, 0], "s": THETA[:, 1], "note": ["x"] * N,
           "extra": THETA[:, 0][::-1]}  # fmt: skip
FORMS = (
    pd.DataFrame,
    dict,
    lambda columns: pd.DataFrame(columns).to_records(index=False),
    lambda columns: xr.Dataset({k: ("n", v) for k, v in columns.items()}),
)


@LAW
@given(st.permutations(NAMES), st.sampled_from(FORMS), st.permutations(["run", "y", "z"]))
def test_any_order_gives_the_same_density(posterior, names, form, dims):
    theta = form({name: COLUMNS[name] for name in names})
    x = xr.DataArray(X, dims=("run", "y", "z")).transpose(*dims)
    assert torch.equal(posterior.log_prob(theta, x), posterior.log_prob(THETA, X))


def test_any_order_gives_the_same_store(tmp_path):
    def digest(theta, x, name):
        return SimulationStore.from_arrays(
            tmp_path / name, theta, x, SPACE, FIELD, task_size=N
        ).digest()

    want = digest(THETA, X, "plain")

    @settings(LAW, max_examples=10)
    @given(st.permutations(NAMES), st.sampled_from(FORMS), st.permutations(["run", "y", "z"]))
    def law(names, form, dims):
        theta = form({name: COLUMNS[name] for name in names})
        x = xr.DataArray(X, dims=("run", "y", "z")).transpose(*dims)
        assert digest(theta, x, f"{len(list(tmp_path.iterdir()))}") == want

    law()


@LAW
@given(st.permutations(range(4)), st.sampled_from([(3, 4), (4, 3, 2), (2, 2, 2)]), st.data())
def test_axes_of_any_number(order, shape, data):
    """Every transposition of named axes gives the field back, and a wrong name never does."""
    spec = FieldSpec("f", tuple("xyz"[: len(shape)]), shape, dtype="int64")
    values = np.arange(5 * np.prod(shape)).reshape(5, *shape)
    dims = ("n", *spec.dims)
    order = [i for i in order if i < len(dims)]
    labelled = xr.DataArray(values, dims=dims).transpose(*(dims[i] for i in order))
    assert np.array_equal(as_native(labelled, "x", spec), values)
    wrong = data.draw(st.sampled_from(spec.dims))
    with pytest.raises(ShapeError, match="axes"):
        as_native(labelled.rename({wrong: "w"}), "x", spec)


@LAW
@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=5))
def test_columns_are_found_once_or_refused(columns):
    space = ParameterSpace([Parameter(c, priors.Uniform(0, 10)) for c in "ab"])
    values = np.arange(3.0 * len(columns)).reshape(3, -1) % 10
    frame = pd.DataFrame(values, columns=columns)
    if columns.count("a") == columns.count("b") == 1:
        want = values[:, [columns.index("a"), columns.index("b")]]
        assert np.array_equal(space.check(frame), want)
    else:
        with pytest.raises(ParameterError, match="one column for each"):
            space.check(frame)


@LAW
@given(
    st.sampled_from(["float32", "float64"]), st.sampled_from([UNSEEN, np.nan, np.inf, -np.inf]),
    st.integers(0, 5), st.booleans(),
)  # fmt: skip
def test_missing_values_are_found_in_every_precision(dtype, value, place, tensor):
    values = np.linspace(-1e30, 1e30, 6).astype(dtype)
    assert not is_missing(values).any()
    values[place] = value
    found = is_missing(torch.from_numpy(values) if tensor else values)
    assert np.array_equal(found, np.arange(6) == place)


def test_large_values_are_not_missing():
    """Fields of any unit: only one number in ten million of that size is taken for UNSEEN."""
    values = np.random.default_rng(0).normal(size=100_000) * 1e30
    assert not is_missing(values).any()
    assert not is_missing(values.astype("f4")).any()
