"""Coordinates of continuous and categorical parameters together: u, and codes as they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sbitools.parameters import Parameter, ParameterSpace

__all__ = ["CodedSpace"]


class CodedSpace(ParameterSpace):
    """A `ParameterSpace` whose unconstrained coordinates hold the codes of categorical parameters.

    Codes have no place on the real line and need none: their columns of u are those of theta, and
    what is a log density for other columns is a log probability for these.
    """

    def __init__(self, parameters: ParameterSpace) -> None:
        super().__init__(list(parameters), [block.prior for block in parameters.blocks])

    @property
    def discrete(self) -> list[int]:
        """Columns of the categorical parameters."""
        return [i for i, p in enumerate(self) if p.categories]

    @property
    def continuous(self) -> list[int]:
        """The other columns."""
        return [i for i, p in enumerate(self) if not p.categories]

    def _one(self, parameter: Parameter, method: str, column: Tensor) -> Tensor:
        if not parameter.categories:
            return super()._one(parameter, method, column)
        if method in ("to_unconstrained", "from_unconstrained"):
            return column
        if method == "log_abs_det":
            return torch.zeros_like(column)
        prior: Any = parameter.prior
        return prior.log_prob(column)  # of codes, whichever coordinates were asked for
