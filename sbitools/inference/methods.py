"""Methods by name: what `train` fits, and what `Posterior.load` rebuilds.

The table imports no method. Each is entered when the package is loaded, see `__init__`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from torch import Tensor

from sbitools.errors import ConfigError
from sbitools.gate.names import or_else
from sbitools.parameters import ParameterSpace
from sbitools.simulator import FieldSpec

__all__ = ["METHODS", "Method", "enter_methods", "find_method", "no_turns_of_vectors"]

METHODS = ("npe", "fmpe", "npse", "nle", "nre", "discrete")

_KNOWN: dict[str, Method] = {}


def _as_given(options: Any, spec: FieldSpec, n: int) -> Any:
    return options


def no_turns_of_vectors(options: Any, spec: FieldSpec) -> dict[str, str]:
    """The option that makes no sense for a vector, whatever the method."""
    return {} if len(spec.shape) > 1 else {"symmetry": ""}


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
        fit: (job, network, run_dir, resume, on_epoch) to the training history and provenance of
            the rest; it trains the network in place. See `sbitools.inference.job.fit_network`.
        coordinates: (inferred parameters, theta (B, P)) to the u that the network is given.
        categorical: whether parameters with categories can be inferred.
        adapt: (options, observed field, number of simulations) to the options, with those that
            were not given chosen for so many fields like these.
        unused: (options, observed field) to the names of options that would change nothing, or
            make no sense, for such fields, each with what to do besides leaving it out, or "".
        together: (posterior, number) to the posterior given so many independent observations of
            one theta; None where nothing that can be multiplied was learned.
    """

    name: str
    title: str
    network: type[BaseModel]
    options: type[BaseModel]
    build: Callable[[Any, ParameterSpace, FieldSpec], Any]
    posterior: Callable[..., Any]
    fit: Callable[..., tuple[Any, dict[str, Any]]]
    coordinates: Callable[[ParameterSpace, Tensor], Tensor] = ParameterSpace.to_unconstrained
    categorical: bool = False
    adapt: Callable[[Any, FieldSpec, int], Any] = _as_given
    unused: Callable[[Any, FieldSpec], dict[str, str]] = no_turns_of_vectors
    together: Callable[[Any, int], Any] | None = None


def enter_methods(methods: Mapping[str, Method]) -> None:
    """Make methods known by their names, which are those in `METHODS`."""
    _KNOWN.update(methods)


def find_method(name: str) -> Method:
    """The method of that name.

    Raises:
        ConfigError: if there is none.
    """
    if not isinstance(name, str) or name not in _KNOWN:
        raise ConfigError(
            "method", expected=f"one of {', '.join(METHODS)}", got=repr(name),
            fix=or_else(name, METHODS, "use method='npe' unless you have a reason for another"),
        )  # fmt: skip
    return _KNOWN[name]
