"""Steps that bend the values of each cell: logarithms, as most fields of positive values want."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from sbitools.errors import ObservationError
from sbitools.gate.plain import real as real_number
from sbitools.simulator import FieldSpec

from .step import Step, check, real

__all__ = ["Asinh", "Log"]


class _Curve(Step):
    """What both have in common: numbers, and a result without a unit."""

    def _number(self, name: str, **limits: Any) -> None:
        what = f"observe step {self.kind!r}: {name}"
        value = real_number(getattr(self, name), what, error=ObservationError, **limits)
        object.__setattr__(self, name, value)

    def output(self, spec: FieldSpec) -> FieldSpec:
        """The same field without a unit."""
        return replace(real(spec, self.kind), unit="")


@dataclass(frozen=True)
class Log(_Curve):
    """x -> ln(x + offset); with an offset of 1 the logarithm of a density from its contrast.

    Args:
        offset: is added first, in the unit of the field.
        floor: least value of which a logarithm is taken, in that unit; None: what is not positive
            is an error.
    """

    offset: float = 0.0
    floor: float | None = None
    kind: ClassVar[str] = "log"

    def __post_init__(self) -> None:
        self._number("offset")
        if self.floor is not None:
            self._number("floor", above=0)

    def to_dict(self) -> dict[str, Any]:
        """Without a floor that is none."""
        return {k: v for k, v in super().to_dict().items() if v is not None}

    def apply(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Logarithm of each cell.

        Raises:
            ObservationError: for values that are not positive, without a floor.
        """
        x = x + self.offset
        if self.floor is not None:
            return torch.log(x.clamp(min=self.floor))
        low = x.min() if x.numel() else x.new_ones(())
        check(
            not bool(low <= 0), self.kind, "positive values of x + offset, or a floor",
            f"{float(low):g}, and {int((x <= 0).sum())} values that are not positive",
        )  # fmt: skip
        return torch.log(x)


@dataclass(frozen=True)
class Asinh(_Curve):
    """x -> asinh(x / width): a logarithm of either sign, and a straight line near zero.

    Args:
        width: where one becomes the other, in the unit of the field; the noise is a good choice.

    References:
        | A modified magnitude system (Lupton, Gunn & Szalay 1999, arXiv:astro-ph/9903081)
    """

    width: float
    kind: ClassVar[str] = "asinh"

    def __post_init__(self) -> None:
        self._number("width", above=0)

    def apply(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Inverse hyperbolic sine of each cell."""
        return torch.asinh(x / self.width)
