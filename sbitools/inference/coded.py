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
        super().__init__(list(parameters))

    @property
    def discrete(self) -> list[int]:
        """Columns of the categorical parameters."""
        return [i for i, p in enumerate(self) if p.categories]

    @property
    def continuous(self) -> list[int]:
        """The other columns."""
        return [i for i, p in enumerate(self) if not p.categories]

    def _each(self, method: str, values: Tensor) -> Tensor:
        values = values.to(torch.float64)
        columns = [_column(p, method, values[..., i]) for i, p in enumerate(self)]
        return torch.stack(columns, dim=-1) if columns else values


def _column(parameter: Parameter, method: str, values: Tensor) -> Tensor:
    prior: Any = parameter.prior
    if not parameter.categories:
        return getattr(prior, method)(values)
    if method in ("to_unconstrained", "from_unconstrained"):
        return values
    if method == "log_abs_det":
        return torch.zeros_like(values)
    return prior.log_prob(values)  # of codes, whichever coordinates were asked for
