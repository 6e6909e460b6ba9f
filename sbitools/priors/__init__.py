"""Priors, each with an exact map between its support and the real line, and joint priors.

The map is ``u = Phi^-1(F(theta))`` with F the prior's cumulative distribution and Phi the normal
one, so that the prior of u is a standard normal: a flow in u has exactly the prior's support,
needs no rejection, and starts from well-scaled numbers. All arithmetic is float64. Parameters that
depend on each other have a joint prior (`sbitools.priors.joint`), whose map does the same.
"""

from __future__ import annotations

from typing import Any

from sbitools.errors import ParameterError

from .base import Prior
from .joint import (
    Copula,
    Joint,
    Mixture,
    Ordered,
    Sequential,
    joint_of,
    joint_of_draws,
    multivariate_normal,
)
from .normal_mixture import NormalMixture
from .standard import Categorical, LogNormal, LogUniform, Normal, TruncatedNormal, Uniform
from .transformed import Transformed
from .wrapped import TORCH_NAMES, TorchPrior

__all__ = [
    "Categorical", "Copula", "Joint", "LogNormal", "LogUniform", "Mixture", "Normal",
    "NormalMixture", "Ordered", "Prior", "Sequential", "TorchPrior", "Transformed",
    "TruncatedNormal", "Uniform", "from_dict", "joint_of", "joint_of_draws",
    "multivariate_normal",
]  # fmt: skip

_KINDS: dict[str, type[Prior]] = {
    k.kind: k
    for k in (
        Uniform,
        LogUniform,
        Normal,
        LogNormal,
        TruncatedNormal,
        Categorical,
        NormalMixture,
        Transformed,
    )
}


def from_dict(values: dict[str, Any]) -> Prior:
    """Prior from `Prior.to_dict`; only registered names are built, never code.

    Raises:
        ParameterError: for an unknown kind or wrong arguments.
    """
    values = dict(values)
    kind = values.pop("kind", None)
    known = (*sorted(_KINDS), "torch")
    try:
        if kind == "torch":
            if values.get("name") not in TORCH_NAMES:
                raise ParameterError(
                    "prior torch", expected=f"a name of {', '.join(TORCH_NAMES)}",
                    got=repr(values.get("name")), fix="choose one of these distributions",
                )  # fmt: skip
            return TorchPrior(TorchPrior.build(values["name"], values["args"]))
        return _KINDS[kind](**values)  # type: ignore[index]
    except (KeyError, TypeError, ValueError) as error:
        raise ParameterError(
            "prior", expected=f"a kind of {', '.join(known)} and its arguments",
            got=f"kind={kind!r} {values}", fix=f"see sbitools.priors ({error})",
        ) from error  # fmt: skip
