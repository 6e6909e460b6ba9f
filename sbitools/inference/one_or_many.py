"""Methods that take one observation as well as several: no batch axis in, none out."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch

from sbitools.errors import PosteriorError
from sbitools.observation.entry import is_one_field, one_field, packed

__all__ = ["one_or_many"]

P = ParamSpec("P")
S = TypeVar("S")
R = TypeVar("R")


def one_or_many(
    method: Callable[Concatenate[S, P], R], field: str = "observed"
) -> Callable[Concatenate[S, P], R]:
    """Let a method of a posterior take a single x, and a theta of that one x beside it.

    The arguments ``x`` and ``theta`` get a batch axis, and what the method returns loses it.

    Args:
        method: with an argument ``x`` of fields (B, *shape), whose results begin with B.
        field: attribute of the posterior that says what x is.
    """
    signature = inspect.signature(method)

    @wraps(method)
    def taken(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
        spec, bound = getattr(self, field, None), signature.bind(self, *args, **kwargs)
        given = bound.arguments
        if spec is None:
            return method(self, *args, **kwargs)
        alone = is_one_field(given["x"], spec)
        given["x"] = one_field(given["x"], spec) if alone else packed(given["x"], spec)
        if not alone:
            return method(*bound.args, **bound.kwargs)
        if "theta" in given:
            given["theta"] = _table(self, given["theta"])
        found: Any = method(*bound.args, **bound.kwargs)
        single: Any = tuple(part[0] for part in found) if isinstance(found, tuple) else found[0]
        return single

    return taken


def _table(posterior: Any, theta: Any) -> torch.Tensor:
    """Theta (P,) or (n, P) of one observation, with a batch axis."""
    return posterior.parameters.table(theta, error=PosteriorError)[None]
