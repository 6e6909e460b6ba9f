"""The numbers that checks are called with, checked before any of them is computed with."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from sbitools.gate.plain import real
from sbitools.seeds import check_seed

__all__ = ["checked", "probability"]

P = ParamSpec("P")
R = TypeVar("R")

_BELOW_ONE = 1 - 1e-12


def probability(value: object, name: str = "false_alarm") -> float:
    """A probability that is neither 0 nor 1; raises `ConfigError` for anything else."""
    return real(value, f"{name}, a probability in (0, 1)", above=0, most=_BELOW_ONE)


def checked(check: Callable[P, R]) -> Callable[P, R]:
    """A check whose `false_alarm` and `seed` become plain numbers, or a typed error."""
    names = {"false_alarm", "seed"} & set(inspect.signature(check).parameters)

    @wraps(check)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in names & set(kwargs):
            value = kwargs[name]
            if name == "false_alarm":
                # The joint null of a single test with a single draw asks for a level of 1.
                kwargs[name] = real(value, name, above=0, most=1)
            elif value is not None:
                kwargs[name] = check_seed(value)
        return check(*args, **kwargs)

    return inside
