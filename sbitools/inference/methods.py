"""Methods by name: what `train` fits, and what `Posterior.load` rebuilds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from torch import Tensor

from sbitools.errors import ConfigError
from sbitools.parameters import ParameterSpace
from sbitools.simulator import FieldSpec

if TYPE_CHECKING:
    from .posterior import Posterior

__all__ = ["METHODS", "Method", "find_method"]

# Name -> module of this package whose table METHODS holds it; loaded when it is asked for.
_HOME = {
    "npe": "npe", "fmpe": "vector_field", "npse": "vector_field", "nle": "likelihood",
    "nre": "ratio", "discrete": "discrete",
}  # fmt: skip

METHODS = tuple(_HOME)


@dataclass(frozen=True)
class Method:
    """One way to a posterior.

    Args:
        name: what `train` is asked for.
        title: the name in prose.
        network: options of the network alone; they are kept in the checkpoint.
        options: options of the network and its training: what `train` takes.
        build: (network options, inferred parameters, observed field) to the network. It has
            ``loss(u (B, P), x (B, *shape), generator) -> (B,)``, ``features(x) -> (B, F)`` and
            `embedding`, and whatever its posterior asks of it.
        posterior: class of the result.
        coordinates: (inferred parameters, theta (B, P)) to the u that the network is given.
        categorical: whether parameters with categories can be inferred.
    """

    name: str
    title: str
    network: type[BaseModel]
    options: type[BaseModel]
    build: Callable[[Any, ParameterSpace, FieldSpec], Any]
    posterior: type[Posterior]
    coordinates: Callable[[ParameterSpace, Tensor], Tensor] = ParameterSpace.to_unconstrained
    categorical: bool = False


def find_method(name: str) -> Method:
    """The method of that name.

    Raises:
        ConfigError: if there is none.
    """
    if not isinstance(name, str) or name not in _HOME:
        raise ConfigError(
            "method", expected=f"one of {', '.join(_HOME)}", got=repr(name),
            fix="use method='npe' unless you have a reason for another",
        )  # fmt: skip
    return import_module(f".{_HOME[name]}", __package__).METHODS[name]
