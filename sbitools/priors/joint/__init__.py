"""Joint priors: blocks of parameters that depend on each other; see `ParameterSpace`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sbitools.errors import ParameterError

from .base import Joint
from .binding import Block, bind, inferred_of
from .copula import Copula, multivariate_normal
from .mixture import Mixture
from .of_draws import joint_of_draws
from .of_torch import joint_of
from .ordered import Ordered, Sequential

__all__ = [
    "Block", "Copula", "Joint", "Mixture", "Ordered", "Sequential", "bind", "inferred_of",
    "joint_from_dict", "joint_of", "joint_of_draws", "multivariate_normal",
]  # fmt: skip

_KINDS: dict[str, Callable[..., Joint]] = {
    "copula": Copula, "mixture": Mixture, "multivariate_normal": multivariate_normal,
    "ordered": Ordered, "sequential": Sequential,
}  # fmt: skip
_ARGUMENTS = {
    "names", "correlation", "mean", "covariance", "weights", "means", "covariances", "bounds",
}  # fmt: skip


def joint_from_dict(values: Any) -> Joint:
    """Joint prior from `Joint.to_dict`; only registered names are built, never code.

    Also ``{"kind": "multivariate_normal", "names": ..., "mean": ..., "covariance": ...}``.

    Raises:
        ParameterError: for an unknown kind or wrong arguments.
    """
    kind = values.get("kind") if isinstance(values, dict) else None
    try:
        arguments = {k: v for k, v in values.items() if k != "kind"}
        if strange := set(arguments) - _ARGUMENTS:
            raise TypeError(f"unknown {', '.join(map(str, sorted(strange, key=str)))}")
        return _KINDS[kind](**arguments)  # type: ignore[index]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ParameterError(
            "joint prior", expected=f"a kind of {', '.join(sorted(_KINDS))} and its arguments",
            got=f"{values!r}"[:200], fix=f"see sbitools.priors ({error})",
        ) from error  # fmt: skip
