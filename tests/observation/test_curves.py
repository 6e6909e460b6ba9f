"""Logarithms of cells: right, without a unit, and never of what has none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sbitools import FieldSpec, Observation
from sbitools.errors import ObservationError
from sbitools.observation import Asinh, Log, Noise

SPEC = FieldSpec("rho", ("i", "j"), (3, 4), unit="kg / m3")
X = torch.linspace(-0.9, 5.0, 24).view(2, 3, 4)
SEEDS = torch.tensor([1, 2])


def test_values_are_those_of_numpy():
    found = Observation([Log(1.0)])(X, SEEDS)
    np.testing.assert_allclose(found, np.log1p(X.numpy()), rtol=1e-6)
    found = Observation([Log(floor=0.5)])(X, SEEDS)
    np.testing.assert_allclose(found, np.log(np.maximum(X.numpy(), 0.5)), rtol=1e-6)
    found = Observation([Asinh(1e-30)])(1e-30 * X.double(), SEEDS)  # any unit
    np.testing.assert_allclose(found, np.arcsinh(X.numpy()), rtol=1e-6)


@pytest.mark.parametrize("step", [Log(1.0), Log(0.0, 0.1), Asinh(2.0)])
def test_steps_are_plain_values_and_leave_no_unit(step):
    observe = Observation([step, Noise(0.1)]).bind(SPEC)
    assert observe.output(SPEC).unit == ""
    again = Observation.from_dict(observe.to_dict())
    assert torch.equal(again(X, SEEDS), observe(X, SEEDS))
    assert again.digest() == observe.digest()


def test_what_has_no_logarithm_is_an_error():
    with pytest.raises(ObservationError, match="4 values that are not positive"):
        Log().apply(X, SEEDS)
    for wrong in (
        lambda: Log(np.nan), lambda: Log(0.0, 0.0), lambda: Asinh(0.0), lambda: Asinh("wide"),
    ):  # fmt: skip
        with pytest.raises(ObservationError):
            wrong()
    whole = FieldSpec("n", ("i",), (3,), dtype="int64")
    with pytest.raises(ObservationError, match="float"):
        Observation([Log(1.0)]).bind(whole).output(whole)
