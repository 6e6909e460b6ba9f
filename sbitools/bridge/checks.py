"""Whether a foreign posterior is what its user says: same parameters, same prior, same x."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sbitools.errors import ObservationError, ParameterError
from sbitools.parameters import ParameterSpace

from .rounding import to_single

__all__ = ["check_prior", "check_shapes", "order_of"]

_POINTS = 64
# Log densities of priors in float32, hundreds in absolute value at most.
_TOLERANCE = 1e-2


def order_of(names: Sequence[str] | None, space: ParameterSpace) -> tuple[list[int], list[int]]:
    """Columns that bring foreign theta into our order, and ours into the foreign one.

    Raises:
        ParameterError: unless each inferred parameter is named once.
    """
    ours = space.names
    theirs = ours if names is None else list(names) if not isinstance(names, str) else [names]
    if sorted(map(str, theirs)) != sorted(ours):
        raise ParameterError(
            "order of the foreign posterior", expected=f"each of {ours} once", got=f"{theirs}",
            fix="name the columns of its theta, in its order",
        )  # fmt: skip
    return [theirs.index(name) for name in ours], [ours.index(name) for name in theirs]


def check_shapes(posterior: Any, space: ParameterSpace, given: Tensor) -> None:
    """Raise unless theta and x have the shapes that the network of a posterior of sbi knows.

    Args:
        posterior: whose `posterior_estimator`, if it has one, states the shapes.
        space: the inferred parameters.
        given: x as it gets them, (1, ...).

    Raises:
        ParameterError: for more or fewer parameters.
        ObservationError: for x of another shape.
    """
    network = getattr(posterior, "posterior_estimator", None)
    theta, x = getattr(network, "input_shape", None), getattr(network, "condition_shape", None)
    if theta is not None and tuple(theta) != (len(space),):
        raise ParameterError(
            "parameters of the foreign posterior", expected=f"{math.prod(theta)} inferred ones",
            got=f"{len(space)}: {space.names}", fix="set inferred=False for the others",
        )  # fmt: skip
    if x is not None and tuple(x) != tuple(given.shape[1:]):
        raise ObservationError(
            "x of the foreign posterior", expected=f"shape (B, {str(tuple(x))[1:]}",
            got=f"(B, {str(tuple(given.shape[1:]))[1:]}",
            fix="say what was done to x before: prepare=lambda x: x.flatten(1), say",
        )  # fmt: skip


def check_prior(posterior: Any, space: ParameterSpace, to_theirs: list[int]) -> None:
    """Raise unless a posterior that knows its prior has the one that its user says.

    The densities are compared at 64 points of the prior. That finds another prior, and columns in
    another order wherever priors of the parameters differ.

    Args:
        posterior: with an attribute `prior`, or with a potential that has one; others pass.
        space: the inferred parameters.
        to_theirs: see `order_of`.

    Raises:
        ParameterError: for another prior.
    """
    prior = getattr(posterior, "prior", None)
    prior = prior or getattr(getattr(posterior, "potential_fn", None), "prior", None)
    # Trained without a prior: sbi then has one that is the same everywhere.
    if prior is None or type(prior).__name__ == "ImproperEmpirical":
        return
    points = to_single(space.design(_POINTS, 0), space)
    try:
        with torch.no_grad():
            theirs = prior.log_prob(_there(points[:, to_theirs], prior)).double().cpu()
        got = f"density {theirs.flatten()[0]:.4g} at {points[0].tolist()}"
        same = theirs.shape == (_POINTS,)
    except (ValueError, RuntimeError, AssertionError) as error:
        theirs, got, same = torch.empty(0), str(error).partition("\n")[0], False
    ours = space.log_prob(points.double())
    if not same or not torch.allclose(theirs, ours, rtol=1e-4, atol=_TOLERANCE):
        raise ParameterError(
            "prior of the foreign posterior", got=f"its own, {prior}: {got}",
            expected=f"that of {space.names}: density {float(ours[0]):.4g} there",
            fix="make parameters of its own prior by sbitools.bridge.parameters_from(prior), and "
            "name its columns with order=... if they are in another order",
        )  # fmt: skip


def _there(theta: Tensor, prior: Any) -> Tensor:
    device = getattr(prior, "device", None)
    return theta if device is None else theta.to(device)
